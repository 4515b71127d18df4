"""A sample of examples to look at: of the accepted ones, and of those dropped for each reason.

An example is in the sample by a hash of its id, so the same examples are shown in whatever order they are read, and
whether the report is written while the run goes or made again from its files. Long texts are cut, and say so.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import xxhash

__all__ = ["REJECTED_REPLY", "HashSample", "Samples", "Shown", "Turn", "rank_of", "shown", "turns_of"]

_ACCEPTED = 120
_EACH_REASON = 12
_MOST_REASONS = 40
_MOST_CHARACTERS = 4_000
_MOST_TURNS = 24
_MOST_LABELS = 40
_MOST_LABEL = 400
_MOST_NAME = 100

REJECTED_REPLY = "rejected reply"
"""Stands for the role of a reply that another was preferred to."""

T = TypeVar("T")  # the class statement's own brackets begin with Python 3.12


def rank_of(example_id: str) -> int:
    """A number by which an example is drawn: as good as random, and always the same."""
    return xxhash.xxh3_64_intdigest(example_id.encode("utf-8", "replace"))


class HashSample(Generic[T]):
    """The values with the lowest ranks of all that were offered, at most `capacity` of them."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._heap: list[tuple[int, int, T]] = []
        self._offered = 0

    def __len__(self) -> int:
        return len(self._heap)

    def wants(self, rank: int) -> bool:
        """Whether a value of that rank would be taken in."""
        return len(self._heap) < self._capacity or rank < -self._heap[0][0]

    def add(self, rank: int, value: T) -> None:
        """Take a value in, where it is wanted; of equal ranks the first stays."""
        if not self.wants(rank):
            return
        self._offered += 1
        entry = (-rank, -self._offered, value)
        if len(self._heap) < self._capacity:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heapreplace(self._heap, entry)

    def values(self) -> list[T]:
        """What was taken in, the lowest rank first."""
        return [value for _, _, value in sorted(self._heap, key=lambda entry: (-entry[0], -entry[1]))]


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side said. `cut` counts the characters that are not shown."""

    role: str
    text: str
    cut: int = 0


@dataclass(frozen=True, slots=True)
class Shown:
    """An example as a reader sees it; without `stage` it was accepted. The system message is left out."""

    id: str
    turns: tuple[Turn, ...]
    topic: str
    category: str | None
    facets: Mapping[str, str]
    scores: Mapping[str, float]
    score: float | None
    judge_reason: str
    model: str
    stage: str = ""
    reason: str = ""
    detail: str = ""
    notes: tuple[tuple[str, str], ...] = ()
    """What was done to it, in words: redacted, revised, preferred."""


def turns_of(line: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(role, text) of what was said in a line, beside the system message and a reply that another was preferred to."""
    return [(said["role"], said["content"]) for said in line.get("messages", ()) if said["role"] != "system"]


def _all_turns(line: Mapping[str, Any]) -> list[tuple[str, str]]:
    less_liked = [(REJECTED_REPLY, said["content"]) for said in line.get("rejected") or ()]
    return [*turns_of(line)[: _MOST_TURNS - len(less_liked)], *less_liked][:_MOST_TURNS]


def _notes(origin: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    found = []
    if redacted := origin.get("redacted"):
        found.append(("redacted", ", ".join(f"{kind} {count}" for kind, count in redacted.items())))
    if origin.get("revised"):
        found.append(("revised", f"from a score of {origin['draft']['score']:.2f}" if "draft" in origin else "once"))
    if "margin" in origin:
        found.append(("preferred by", f"{origin['margin']:.2f}"))
    return tuple((name, _cut(text)) for name, text in found)


def shown(line: Mapping[str, Any]) -> Shown:
    """A line of `dataset.jsonl` or `rejects.jsonl` as it is shown."""
    origin = line["metadata"]
    score = origin.get("score")
    return Shown(
        id=_cut(str(line.get("id", "")), _MOST_NAME),
        turns=tuple(
            Turn(role, text[:_MOST_CHARACTERS], max(0, len(text) - _MOST_CHARACTERS)) for role, text in _all_turns(line)
        ),
        topic=_cut(str(origin.get("topic", ""))),
        category=None if origin.get("category") is None else _cut(origin["category"], _MOST_NAME),
        facets={
            _cut(axis, _MOST_NAME): _cut(value, _MOST_NAME)
            for axis, value in list(origin.get("facets", {}).items())[:_MOST_LABELS]
        },
        scores={
            _cut(name, _MOST_NAME): float(each)
            for name, each in list({**origin.get("scores", {}), **origin.get("safety", {})}.items())[:_MOST_LABELS]
        },
        score=None if score is None else float(score),
        judge_reason=_cut(origin.get("judge_reason", "")),
        model=_cut(str(origin.get("model", "")), _MOST_NAME),
        stage=_cut(line.get("stage", "")),
        reason=_cut(line.get("reason", ""), _MOST_NAME),
        detail=_cut(line.get("detail", "")),
        notes=_notes(origin),
    )


def _cut(text: str, most: int = _MOST_LABEL) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


class Samples:
    """What is kept to be looked at."""

    def __init__(self) -> None:
        self.accepted: HashSample[Shown] = HashSample(_ACCEPTED)
        self.rejected: dict[str, HashSample[Shown]] = {}

    def add_accepted(self, rank: int, line: Mapping[str, Any]) -> None:
        """A line of `dataset.jsonl`."""
        if self.accepted.wants(rank):
            self.accepted.add(rank, shown(line))

    def add_rejected(self, rank: int, line: Mapping[str, Any]) -> None:
        """A line of `rejects.jsonl`; reasons beyond the fortieth are counted elsewhere, and not shown."""
        reason = line["reason"]
        if reason not in self.rejected and len(self.rejected) >= _MOST_REASONS:
            return
        kept = self.rejected.setdefault(reason, HashSample(_EACH_REASON))
        if kept.wants(rank):
            kept.add(rank, shown(line))
