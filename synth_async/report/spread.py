"""How the examples are spread: their lengths, the measures of variety in words, the sizes of duplicate clusters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from synth_async.report.charts import Bin, bins_of, percent
from synth_async.report.duplicates import DuplicateClusters
from synth_async.report.facts import LengthHistogram, RunReport
from synth_async.report.variety import Measure, VarietySamples

__all__ = ["Compared", "Lengths", "MeasureRow", "Size", "cluster_sizes", "lengths", "measure_rows"]

_NOTEWORTHY = 0.01
"""Relative change of a measure from which it is called more or less."""

_SIZES = (
    ("repeated once", 1, 1),
    ("repeated twice", 2, 2),
    ("3 to 5 times", 3, 5),
    ("6 to 10 times", 6, 10),
    ("more than 10 times", 11, math.inf),
)


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long one side's texts are, in words; `median_at` in per cent from the left."""

    side: str
    bins: tuple[Bin, ...]
    least: int
    median: int
    p90: int
    most: int
    median_at: float


@dataclass(frozen=True, slots=True)
class Compared:
    """A measure of one side's texts, in words; `trend` is `more` or `less` where they are so much varied after."""

    before: str
    after: str
    trend: str


@dataclass(frozen=True, slots=True)
class MeasureRow:
    """One measure of variety for the user's and the assistant's side."""

    name: str
    meaning: str
    sides: tuple[Compared, ...]


@dataclass(frozen=True, slots=True)
class Size:
    """Clusters with so many duplicates; `width` in per cent of the most."""

    label: str
    count: int
    width: float


def lengths(report: RunReport) -> list[Lengths]:
    """Both sides of the accepted examples; none while there are none."""
    return list(_lengths(report)) if report.accepted else []


def _lengths(report: RunReport) -> Iterator[Lengths]:
    for side, histogram in (("User", report.user_words), ("Assistant", report.assistant_words)):
        found = histogram.as_json()
        bins = bins_of(histogram.counts())
        median_at = _place(histogram, bins)
        yield Lengths(side, tuple(bins), found["min"], found["median"], found["p90"], found["max"], median_at)


def _place(histogram: LengthHistogram, bins: Sequence[Bin]) -> float:
    median = histogram.quantile(0.5)
    return next((each.x + each.width / 2 for each in bins if each.low <= median <= each.high), 0.0)


def measure_rows(variety: VarietySamples) -> list[MeasureRow]:
    """What is measured before and after, none where nothing was accepted yet."""
    return [
        MeasureRow(
            each.name,
            each.meaning,
            tuple(_compared(each, before, after) for before, after in zip(each.before, each.after, strict=True)),
        )
        for each in variety.measures()
    ]


def _compared(measure: Measure, before: float, after: float) -> Compared:
    trend = ""
    if abs(after - before) > _NOTEWORTHY * max(abs(before), abs(after)):
        trend = "more" if (after > before) == measure.more_is_varied else "less"
    told = [f"{100 * value:.1f} %" if measure.is_share else f"{value:.2f}" for value in (before, after)]
    return Compared(told[0], told[1], trend)


def cluster_sizes(clusters: DuplicateClusters) -> list[Size]:
    """How many clusters have so many duplicates, those without any left out; the large ones together."""
    sizes = clusters.sizes()
    counts = {label: sum(count for size, count in sizes.items() if low <= size <= high) for label, low, high in _SIZES}
    most = max(counts.values())
    return [Size(label, count, percent(count, most)) for label, count in counts.items() if count]
