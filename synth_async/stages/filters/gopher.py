"""Gopher's rules against repetition: repeated lines and paragraphs, one n-gram again and again, repeated n-grams.

The bounds are those of Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from Training Gopher",
table A1. They were made for web pages; what keeps them from killing short replies is ours: how long a text has to be,
and how often an n-gram has to occur. Characters are those of the words, in lower case and without punctuation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from synth_async.stages.words import gram_set, is_mostly_unspaced, tokens

__all__ = ["gopher_finding"]

_LINES, _LINE_CHARACTERS = 0.30, 0.20
_TOP_GRAMS = {2: 0.20, 3: 0.18, 4: 0.16}
_REPEATED_GRAMS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}

_FEWEST_WORDS = 80
"""Shorter texts pass: one name that is said four times would exceed the bounds."""

_FEWEST_WORDS_FOR_REPEATED_GRAMS = 200
"""Below, a few phrases that are said twice would exceed the bounds."""

_FEWEST_TIMES = 4
"""Below, the most frequent n-gram is a name, or how two sentences begin."""

_LINE_WORDS = 3
"""Shorter lines are brackets of code, bullets and greetings."""


def gopher_finding(text: str) -> str | None:
    """The first rule that a text breaks, with its share; None where it keeps them all.

    Where the script has no spaces, only lines and paragraphs are looked at: the n-grams of the table are of words.
    """
    words = tokens(text)
    if len(words) < _FEWEST_WORDS:
        return None
    if "\n" in text and (found := _repeated_lines(text)) is not None:
        return found
    if is_mostly_unspaced(text):
        return None
    return _top_gram(words) or _repeated_grams(text, words)


def _repeated_lines(text: str) -> str | None:
    for name, mark in (("lines", "\n"), ("paragraphs", "\n\n")):
        parts = [
            part for part in map(str.strip, text.split(mark)) if len(part.split(maxsplit=_LINE_WORDS)) >= _LINE_WORDS
        ]
        distinct = set(parts)
        if len(distinct) == len(parts):
            continue
        share = 1 - len(distinct) / len(parts)
        of_characters = 1 - sum(map(len, distinct)) / sum(map(len, parts))
        if share > _LINES or of_characters > _LINE_CHARACTERS:
            return f"{share:.0%} of the {name} are repeated, with {of_characters:.0%} of their characters"
    return None


def _top_gram(words: Sequence[str]) -> str | None:
    """A 2-, 3- or 4-gram that fills too much of a text by itself."""
    most = Counter(pairwise(words)).most_common(1)[0][1]
    if most < _FEWEST_TIMES:  # a longer n-gram occurs no more often than the pair that it begins with
        return None
    total = sum(map(len, words))
    for size, bound in _TOP_GRAMS.items():
        counts = Counter(zip(*(words[offset:] for offset in range(size)), strict=False))
        gram, times = max(counts.items(), key=lambda counted: counted[1] * sum(map(len, counted[0])))
        share = times * sum(map(len, gram)) / total
        if times >= _FEWEST_TIMES and share > bound:
            return f"one {size}-gram fills {share:.0%}, at most {bound:.0%}"
    return None


def _repeated_grams(text: str, words: Sequence[str]) -> str | None:
    """N-grams of five to ten words that occurred before and fill too much together."""
    if len(words) < _FEWEST_WORDS_FOR_REPEATED_GRAMS or len(gram_set(text, 4)) == len(words) - 3:
        return None
    lengths = list(map(len, words))
    total = sum(lengths)
    # Every repeated n-gram consists of repeated 4-grams, so what those cover is the most that longer ones can.
    if _covered(words, lengths, 4) <= min(_REPEATED_GRAMS.values()) * total:
        return None
    for size, bound in _REPEATED_GRAMS.items():
        share = _covered(words, lengths, size) / total
        if share > bound:
            return f"repeated {size}-grams fill {share:.0%}, at most {bound:.0%}"
    return None


def _covered(words: Sequence[str], lengths: Sequence[int], size: int) -> int:
    """Characters of the words in n-grams that occurred before."""
    seen: set[tuple[str, ...]] = set()
    covered = end = 0
    for start, gram in enumerate(zip(*(words[offset:] for offset in range(size)), strict=False)):
        if gram in seen:
            covered += sum(lengths[max(end, start) : start + size])
            end = start + size
        seen.add(gram)
    return covered
