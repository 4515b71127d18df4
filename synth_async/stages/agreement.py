"""How well a judge's scores agree with people's, and the cut that tells accepted from rejected as they do.

Exact and within-one agreement and the weighted kappa look at whole scores: combined verdicts and means are rounded,
halves up. Spearman's rank correlation takes the scores as they are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Agreement", "Cut", "agreement", "best_cut", "cut_at", "spearman", "weighted_kappa"]

Pairs = Sequence[tuple[float, float]]
"""(a person's score, the judge's), each 1-5."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Shares of 1; `spearman` and `kappa` are from -1 to 1, and None where they are not defined."""

    rows: int
    exact: float
    within_one: float
    spearman: float | None
    kappa: float | None


@dataclass(frozen=True, slots=True)
class Cut:
    """What `min_score` would have decided about rows that people accepted or rejected: shares of 1."""

    min_score: float
    accuracy: float
    precision: float
    recall: float
    f1: float


def agreement(pairs: Pairs) -> Agreement:
    """The agreement of at least one pair."""
    apart = [abs(_whole(human) - _whole(judge)) for human, judge in pairs]
    return Agreement(
        len(pairs),
        exact=sum(gap == 0 for gap in apart) / len(pairs),
        within_one=sum(gap <= 1 for gap in apart) / len(pairs),
        spearman=spearman(pairs),
        kappa=weighted_kappa(pairs),
    )


def _whole(score: float) -> int:
    return math.floor(score + 0.5)


# --- correlation ---------------------------------------------------------------------------------


def spearman(pairs: Pairs) -> float | None:
    """Pearson's correlation of the ranks, equal values at their mean rank; None where one side never varies."""
    ones, others = _ranks([one for one, _ in pairs]), _ranks([other for _, other in pairs])
    middle = (len(pairs) + 1) / 2
    both = sum((one - middle) * (other - middle) for one, other in zip(ones, others, strict=True))
    spread = math.sqrt(sum((one - middle) ** 2 for one in ones) * sum((other - middle) ** 2 for other in others))
    return both / spread if spread else None


def _ranks(values: Sequence[float]) -> list[float]:
    """Rank of each value from 1, the mean of their places where values are equal."""
    below, ranks = 0, {}
    for value, count in sorted(Counter(values).items()):
        ranks[value] = below + (count + 1) / 2
        below += count
    return [ranks[value] for value in values]


def weighted_kappa(pairs: Pairs) -> float | None:
    """Cohen's kappa with quadratic weights (Cohen 1968); None where chance alone would agree in everything.

    One minus the mean squared distance over the one that the two distributions would have by chance.
    """
    rated = [(_whole(one), _whole(other)) for one, other in pairs]
    observed = sum((one - other) ** 2 for one, other in rated) / len(rated)
    ones, others = Counter(one for one, _ in rated), Counter(other for _, other in rated)
    expected = sum(
        (one - other) ** 2 * count * other_count for one, count in ones.items() for other, other_count in others.items()
    ) / (len(rated) ** 2)
    return 1 - observed / expected if expected else None


# --- the cut -------------------------------------------------------------------------------------


def cut_at(min_score: float, rows: Iterable[tuple[float, bool]]) -> Cut:
    """What a cut decides about (judge's score, whether people accepted it); at least one row."""
    found = Counter((score >= min_score, accepted) for score, accepted in rows)
    right, taken, wanted = (
        found[True, True],
        found[True, True] + found[True, False],
        found[True, True] + found[False, True],
    )
    return Cut(
        min_score,
        accuracy=(right + found[False, False]) / found.total(),
        precision=right / taken if taken else 0.0,
        recall=right / wanted if wanted else 0.0,
        f1=2 * right / (taken + wanted) if taken + wanted else 0.0,
    )


def best_cut(rows: Sequence[tuple[float, bool]], *, now: float) -> Cut | None:
    """The cut with the best F1, of equals the most accurate, then the nearest to `now`.

    None where people took all or none. Cuts are the judge's own scores, rounded down to two digits, and `now`.
    """
    if len({accepted for _, accepted in rows}) < 2:
        return None
    cuts = {now, *(math.floor(score * 100) / 100 for score, _ in rows)}
    found = (cut_at(cut, rows) for cut in cuts)
    return max(found, key=lambda cut: (cut.f1, cut.accuracy, -abs(cut.min_score - now)))
