"""What is compared: which texts of a conversation, and in which form."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Literal

from synth_async.records import Message

__all__ = ["Fields", "compared_parts", "join_parts", "normalise"]

Fields = Literal["user", "assistant", "both"]
"""Which turns of a conversation are compared; system messages never are, since they repeat by design."""

PART_SEPARATOR = "\n"
"""Stands between parts. Normalising leaves no newline inside a part, so ("ab", "c") and ("a", "bc") stay apart."""

_IGNORED = "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufe0e\ufe0f\ufeff"
_PLAIN = {
    **dict.fromkeys(_IGNORED, ""),
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),
}
_TYPOGRAPHIC = re.compile("[" + "".join(_PLAIN) + "]")


def normalise(text: str) -> str:
    """The form in which two texts count as equal; `normalise` of a normalised text changes nothing.

    * typographic quotes and dashes become plain ones, invisible characters (zero-width, soft hyphen, variation
      selectors) go: a model writes either form of the same sentence
    * NFKC and `casefold`: full-width, ligatures, composed accents and case do not make a new example
    * every run of white space becomes one space, none is left at the ends: wrapping and indentation do not either

    Digits, punctuation and accents stay: two examples that differ in an amount differ. NUL and lone surrogates pass
    through.
    """
    if text.isascii():
        return " ".join(text.lower().split())
    plain = _TYPOGRAPHIC.sub(lambda found: _PLAIN[found[0]], text)
    # casefold can undo a composition and the other way round (U+0345 and its like), so both are applied until stable
    folded = unicodedata.normalize("NFKC", plain.casefold())
    while (again := unicodedata.normalize("NFKC", folded.casefold())) != folded:
        folded = again
    # NFKC may bring typographic characters back (a full-width hyphen, a small dash)
    return " ".join(_TYPOGRAPHIC.sub(lambda found: _PLAIN[found[0]], folded).split())


def join_parts(parts: Iterable[str]) -> str:
    """The parts as one normalised text, in their order."""
    return PART_SEPARATOR.join(map(normalise, parts))


def compared_parts(messages: Sequence[Message], fields: Fields = "both") -> tuple[str, ...]:
    """The contents of a conversation that `fields` names, one a turn, in order."""
    return tuple(
        message["content"]
        for message in messages
        if message["role"] != "system" and (fields == "both" or message["role"] == fields)
    )
