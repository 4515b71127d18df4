"""The labels of the embedded judge: what a text shows, by its words alone.

A tone is told by the phrases that this endpoint's users have for it; any other axis by the words of its values, above
all in the question. Where a text shows nothing of an axis, the text itself draws: a judge has to name some value.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

from synth_async.endpoint.simulator.dialogue import tone_of_value
from synth_async.endpoint.simulator.phrases import ASKS, CLOSINGS, OPENINGS, TONES

__all__ = ["labels_of_text", "tone_in"]

_SLOT = re.compile(r"\{\w+\}")
_WORD = re.compile(r"[a-z]{3,}")
_SHORTEST_PHRASE = 4
_STEM = 6
_WHOLE_VALUE = 10
"""What the whole value counts in place of one of its words."""


def labels_of_text(axes: Sequence[tuple[str, tuple[str, ...]]], user: str, assistant: str) -> dict[str, str]:
    """A value for each axis."""
    asked, replied = user.lower(), assistant.lower()
    return {axis: _label(axis, values, asked, replied) for axis, values in axes}


def _label(axis: str, values: tuple[str, ...], user: str, assistant: str) -> str:
    tones = _tones(values)
    if tones is not None:
        tone = tone_in(user)
        if tone in tones:
            return tones[tone]
    else:
        shown = {value: 2 * _shows(value, user) + _shows(value, assistant) for value in values}
        best = max(values, key=lambda value: shown[value])
        if shown[best]:
            return best
    draw = blake2b(f"{axis}\0{user}\0{assistant}".encode("utf-8", "replace"), digest_size=4).digest()
    return values[int.from_bytes(draw, "big") % len(values)]


@lru_cache(maxsize=64)
def _tones(values: tuple[str, ...]) -> dict[str, str] | None:
    """Tone -> the first value that stands for it; None where most of the values are no tones."""
    known = [(tone, value) for value in values if (tone := tone_of_value(value)) is not None]
    return dict(reversed(known)) if 2 * len(known) > len(values) else None


@lru_cache(maxsize=1)
def _phrases() -> tuple[tuple[str, str], ...]:
    """(tone, a phrase that is said in it), slots left out."""
    return tuple(
        (tone, part)
        for tone in TONES
        for spoken in (OPENINGS, ASKS, CLOSINGS)
        for phrase in spoken[tone]
        if len(part := max(_SLOT.split(phrase.lower()), key=len).strip()) >= _SHORTEST_PHRASE
    )


def tone_in(user: str) -> str | None:
    """The tone whose phrases make up most of a question, given in lower case; None where it has none of them."""
    found = dict.fromkeys(TONES, 0)
    for tone, phrase in _phrases():
        if phrase in user:
            found[tone] += len(phrase)
    best = max(TONES, key=lambda tone: found[tone])
    return best if found[best] else None


def _shows(value: str, text: str) -> int:
    """How much of a value (of a category: its last part) stands in a text."""
    leaf = value.rpartition("/")[2].strip().lower()
    stems = {word[:_STEM] for word in _WORD.findall(leaf)}
    return _WHOLE_VALUE * (leaf in text) + sum(stem in text for stem in stems)
