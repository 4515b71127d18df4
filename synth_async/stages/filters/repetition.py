"""Rules against repetition within a turn."""

from __future__ import annotations

import re
from collections import Counter

from synth_async.config.models import Repetition
from synth_async.records import Example
from synth_async.stages.filters.gopher import gopher_finding
from synth_async.stages.words import gram_set, is_mostly_unspaced, tokens

__all__ = ["repetition_breach"]

_REPETITION_WORDS = 20
"""Shorter texts are not looked at for repetition: a phrase said twice is half of them."""

_GRAM_WORDS = 4
_GRAM_LETTERS = 8
"""About four words in scripts without spaces."""

_STRETCH_GRAMS = 3
"""A phrase shorter than so many grams (12 words) may be said twice, and may begin any number of sentences."""


def repetition_breach(example: Example, *, settings: Repetition) -> str | None:
    """A turn of which more than `share` is repeated, or that breaks one of Gopher's rules where those are on.

    What counts for the share are the words in 4-grams (8 letters where the script has no spaces) that occur three
    times, or twice if they make up a whole sentence or line, or a stretch of 12 words. What only makes sentences begin
    alike ("If you want to ...") does not.
    """
    for message in example.messages:
        found = _share_finding(message["content"], settings.share) if settings.share is not None else None
        if found is None and settings.gopher:
            found = gopher_finding(message["content"])
        if found is not None:
            return f"{message['role']}: {found}"
    return None


# With the full stop and the full-width marks of scripts that put no space behind them.
_SENTENCE_END = re.compile(r"[.!?;:]+(?=\s|$)|[\n\u3002\uff01\uff1f\uff1b]+")
_STRETCH = re.compile(rb"\x01+")


def _share_finding(text: str, bound: float) -> str | None:
    share = _repeated_share(text, bound)
    return f"{share:.0%} of the text is repeated, at most {bound:.0%}" if share > bound else None


def _repeated_share(text: str, bound: float) -> float:
    """Share (0-1) of the words that are repeated; 0 for short texts, and where it cannot exceed `bound`."""
    words = tokens(text)
    if len(words) < _REPETITION_WORDS:
        return 0.0
    size = _GRAM_LETTERS if is_mostly_unspaced(text) else _GRAM_WORDS
    surplus = max(0, len(words) - size + 1) - len(gram_set(text, size))
    # A surplus gram and its first occurrence cover two times `size` words at the most.
    if 2 * size * surplus <= bound * len(words):
        return 0.0
    grams = list(zip(*(words[offset:] for offset in range(size)), strict=False))
    counts = Counter(grams)
    twice, thrice = bytearray(len(words)), bytearray(len(words))
    for position, gram in enumerate(grams):
        if (count := counts[gram]) > 1:
            twice[position : position + size] = b"\x01" * size
            if count > 2:
                thrice[position : position + size] = b"\x01" * size
    return sum(_counted(twice, thrice, text, size * _STRETCH_GRAMS)) / len(words)


def _counted(twice: bytearray, thrice: bytearray, text: str, shortest: int) -> bytearray:
    """Marks of the words that count as repeated, from the marks of those that occur twice and three times."""
    counted = bytearray(thrice)
    for stretch in _STRETCH.finditer(twice):
        if stretch.end() - stretch.start() >= shortest:
            counted[stretch.start() : stretch.end()] = stretch[0]
    first = 0
    for sentence in _SENTENCE_END.split(text):
        last = first + len(tokens(sentence))
        fresh = counted.find(0, first, last)
        if twice.find(0, first, last) < 0:
            counted[first:last] = b"\x01" * (last - first)
        elif 0 <= fresh - first < shortest:
            counted[first:fresh] = bytes(fresh - first)
        first = last
    return counted
