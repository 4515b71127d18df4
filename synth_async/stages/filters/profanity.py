"""The rule against words that the user does not want: whole words, in any case, in any script."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import partial

from synth_async.config.models import Profanity
from synth_async.records import Example
from synth_async.stages.filters.turns import quoted
from synth_async.stages.words import tokens

__all__ = ["build_profanity"]

_BETWEEN_WORDS = re.compile(r"[\s'’-]")


def build_profanity(settings: Profanity) -> Callable[[Example], str | None]:
    """The rule for a list. Words and phrases go by their words; what holds other signs (`sh*t`) goes by its letters."""
    single: set[str] = set()
    phrases: list[str] = []
    spelled: list[str] = []
    for entry in map(_folded, settings.words):
        words = tokens(entry)
        if not words or not _BETWEEN_WORDS.sub("", entry).isalnum():
            spelled.append(re.escape(entry.strip()))
        elif len(words) == 1:
            single.add(words[0])
        else:
            phrases.append(" ".join(words))
    signs = re.compile(rf"(?<!\w)(?:{'|'.join(spelled)})(?!\w)") if spelled else None
    return partial(_breach, single=frozenset(single), phrases=tuple(phrases), signs=signs, where=settings.where)


def _folded(text: str) -> str:
    """A text in the form in which case, width and composed letters make no difference."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()


def _breach(
    example: Example, *, single: frozenset[str], phrases: tuple[str, ...], signs: re.Pattern[str] | None, where: str
) -> str | None:
    for message in example.messages:
        if where in {"both", message["role"]}:
            found = _first(_folded(message["content"]), single, phrases, signs)
            if found is not None:
                return f"{message['role']}: {quoted(found)}"
    return None


def _first(text: str, single: frozenset[str], phrases: tuple[str, ...], signs: re.Pattern[str] | None) -> str | None:
    words = tokens(text)
    if not single.isdisjoint(words):
        return next(word for word in words if word in single)
    if phrases:
        spaced = f" {' '.join(words)} "
        if (phrase := next((each for each in phrases if f" {each} " in spaced), None)) is not None:
            return phrase
    found = signs.search(text) if signs is not None else None
    return found[0] if found else None
