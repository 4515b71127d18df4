"""Duplicate clusters: an accepted example and what was dropped because it repeats it.

Read from the details of the drops, as the dedup index words them. Only the places of a few members are kept; whoever
shows a cluster reads their lines.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from synth_async.records import DropReason

__all__ = ["Cluster", "DuplicateClusters"]

_MOST_CLUSTERS = 20_000
_MEMBERS = 3

_DETAIL = re.compile(r"(?:(\d\.\d+) like|same text as) (\S+)")
_REPEATS = (DropReason.NEAR_DUPLICATE, DropReason.EXACT_DUPLICATE)


@dataclass(slots=True)
class Cluster:
    """What repeats one accepted example: how many, and the places of the first few lines in `rejects.jsonl`."""

    kept: str
    count: int = 0
    places: list[int] = field(default_factory=list)


class DuplicateClusters:
    """The clusters by the id of what was kept, at most 20,000: beyond that the smallest half is forgotten."""

    def __init__(self) -> None:
        self.duplicates = 0
        self.is_exact = True
        self._clusters: dict[str, Cluster] = {}

    def __len__(self) -> int:
        return len(self._clusters)

    def add(self, line: Mapping[str, Any], place: int) -> None:
        """A line of `rejects.jsonl`, and the offset of its first byte; passed over where it is no duplicate."""
        if line["reason"] not in _REPEATS or (found := _DETAIL.fullmatch(line["detail"])) is None:
            return
        self.duplicates += 1
        cluster = self._clusters.setdefault(found[2], Cluster(found[2]))
        cluster.count += 1
        if len(cluster.places) < _MEMBERS:
            cluster.places.append(place)
        if len(self._clusters) > _MOST_CLUSTERS:
            self._clusters = {each.kept: each for each in self.largest(_MOST_CLUSTERS // 2)}
            self.is_exact = False

    def largest(self, number: int) -> list[Cluster]:
        """The clusters with the most duplicates, of equal ones those that came first."""
        return sorted(self._clusters.values(), key=lambda cluster: -cluster.count)[:number]

    def sizes(self) -> dict[int, int]:
        """Duplicates of one example -> how many examples have so many, the smallest number first."""
        return dict(sorted(Counter(cluster.count for cluster in self._clusters.values()).items()))
