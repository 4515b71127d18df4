"""How the judge scored: the mean and each criterion, of what was accepted and of what was dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from synth_async.report.charts import percent
from synth_async.report.facts import RunReport

__all__ = ["Column", "Scores", "safety_panels", "score_panels"]

_MOST_CRITERIA = 24
_MOST_NAME = 100
_QUARTERS = range(4, 21)
"""From a score of 1 to one of 5."""


@dataclass(frozen=True, slots=True)
class Column:
    """A score (or a range of them), and how many examples had it; heights in per cent of the highest column."""

    label: str
    accepted: int
    rejected: int
    accepted_height: float
    rejected_height: float


@dataclass(frozen=True, slots=True)
class Scores:
    """How the judge scored on one criterion, or in the mean. `mean` is of the accepted examples.

    `threshold_at` is where the score that is needed stands, in per cent from the left.
    """

    name: str
    mean: float | None
    columns: tuple[Column, ...]
    threshold_at: float | None = None


def score_panels(report: RunReport, min_score: float | None) -> list[Scores]:
    """The mean first, then each criterion; none where nothing was judged."""
    if not report.mean_scores:
        return []
    names = list(dict.fromkeys([*report.scores, *report.rejected_scores]))[:_MOST_CRITERIA]
    criteria = (_criterion(report, name, report.scores, report.rejected_scores) for name in names)
    return [_mean_panel(report, min_score), *criteria]


def safety_panels(report: RunReport) -> list[Scores]:
    """Each safety criterion; none where there is none."""
    names = list(dict.fromkeys([*report.safety, *report.rejected_safety]))[:_MOST_CRITERIA]
    return [_criterion(report, name, report.safety, report.rejected_safety) for name in names]


def _mean_panel(report: RunReport, min_score: float | None) -> Scores:
    rows = [
        (f"{quarter / 4:.2f}", report.mean_scores[True, quarter], report.mean_scores[False, quarter])
        for quarter in _QUARTERS
    ]
    accepted = sum(count for _, count, _ in rows)
    mean = sum(float(label) * count for label, count, _ in rows) / accepted if accepted else None
    # The line stands before the column of the score that is needed.
    at = None if min_score is None else percent(4 * min_score - _QUARTERS.start, len(rows))
    return Scores("Mean score", mean, _columns(rows), at)


def _criterion(
    report: RunReport, name: str, of_accepted: Mapping[str, Counter[int]], of_rejected: Mapping[str, Counter[int]]
) -> Scores:
    accepted, rejected = of_accepted.get(name, Counter()), of_rejected.get(name, Counter())
    rows = [(str(score), accepted[score], rejected[score]) for score in range(1, 6)]
    mean = report.score_sums[name] / accepted.total() if accepted else None
    return Scores(name[:_MOST_NAME], mean, _columns(rows))


def _columns(rows: Sequence[tuple[str, int, int]]) -> tuple[Column, ...]:
    most = max(accepted + rejected for _, accepted, rejected in rows)
    return tuple(
        Column(label, accepted, rejected, _height(accepted, most), _height(rejected, most))
        for label, accepted, rejected in rows
    )


def _height(count: int, most: int) -> float:
    """In per cent, and high enough to be seen where there is anything."""
    return max(1.0, percent(count, most)) if count else 0.0
