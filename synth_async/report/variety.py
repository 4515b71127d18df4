"""How varied the examples are, before and after all that was dropped.

Measures of variety depend on how many texts they look at, so both sides are samples of one size: of everything that
could be read, and of what was accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synth_async.report.samples import HashSample, turns_of
from synth_async.stages.diversity import compression_ratio, distinct_n, opener_entropy_bits, top_opener_share

__all__ = ["Measure", "VarietySamples"]

_TEXTS = 400
_MOST_CHARACTERS = 4_000

Sides = tuple[str, str]
"""(what the user said, what the assistant said) in one example."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure of the user's and the assistant's side, before and after.

    `more_is_varied` says which way is up, `is_share` that it is 0-1.
    """

    name: str
    meaning: str
    more_is_varied: bool
    is_share: bool
    before: tuple[float, float]
    after: tuple[float, float]


_MEASURES: tuple[tuple[str, str, bool, bool, Callable[[Sequence[str]], float]], ...] = (
    ("Distinct words", "share of the words that are different", True, True, lambda texts: distinct_n(texts, 1)),
    (
        "Distinct pairs",
        "share of the pairs of words that are different",
        True,
        True,
        lambda texts: distinct_n(texts, 2),
    ),
    ("Compression ratio", "bytes by bytes when packed: more means more repetition", False, False, compression_ratio),
    ("Opener entropy", "bits of variety in the first three words", True, False, opener_entropy_bits),
    ("Commonest opener", "share of the texts that begin with the same three words", False, True, top_opener_share),
)


class VarietySamples:
    """The texts that are measured: at most 400 of each side."""

    def __init__(self) -> None:
        self._before: HashSample[Sides] = HashSample(_TEXTS)
        self._after: HashSample[Sides] = HashSample(_TEXTS)

    def add(self, rank: int, line: Mapping[str, Any], *, accepted: bool) -> None:
        """A line whose messages could be read; others are passed over."""
        is_wanted = self._before.wants(rank) or (accepted and self._after.wants(rank))
        if not is_wanted or not (turns := turns_of(line)):
            return
        sides = _said(turns, "user"), _said(turns, "assistant")
        self._before.add(rank, sides)
        if accepted:
            self._after.add(rank, sides)

    @property
    def size(self) -> int:
        """How many texts each side of the comparison has."""
        return min(len(self._before), len(self._after))

    def measures(self) -> list[Measure]:
        """All measures, none where nothing was accepted yet."""
        if not self.size:
            return []
        before, after = (_columns(each.values()[: self.size]) for each in (self._before, self._after))
        return [
            Measure(name, meaning, up, share, (of(before[0]), of(before[1])), (of(after[0]), of(after[1])))
            for name, meaning, up, share, of in _MEASURES
        ]


def _said(turns: Sequence[tuple[str, str]], role: str) -> str:
    return "\n".join(text for who, text in turns if who == role)[:_MOST_CHARACTERS]


def _columns(sides: Sequence[Sides]) -> tuple[list[str], list[str]]:
    return [user for user, _ in sides], [assistant for _, assistant in sides]
