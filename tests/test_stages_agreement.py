"""Agreement of a judge with people, and the cut that decides as they do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]

from synth_async.stages.agreement import agreement, best_cut, cut_at, spearman, weighted_kappa

_SCORES = st.integers(1, 5)


@given(st.lists(st.tuples(_SCORES, _SCORES), min_size=3, max_size=40))
def test_rank_correlation_is_that_of_scipy(pairs: list[tuple[float, float]]) -> None:
    """Ties at their mean rank; None where one side never varies."""
    ones, others = zip(*pairs, strict=True)
    found = spearman(pairs)
    if len(set(ones)) == 1 or len(set(others)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(stats.spearmanr(ones, others).statistic)


def test_kappa_of_a_worked_example() -> None:
    """People 1 1 2 3, judge 1 2 2 2: mean squared distance 2/4, and 14/16 by chance, over all 16 pairings."""
    assert weighted_kappa([(1, 1), (1, 2), (2, 2), (3, 2)]) == pytest.approx(1 - (2 / 4) / (14 / 16))


@given(st.lists(_SCORES, min_size=2, max_size=30))
def test_a_judge_that_says_the_same_agrees_wholly(scores: list[int]) -> None:
    """Exact 1, kappa and rank correlation 1 where they are defined."""
    found = agreement([(score, score) for score in scores])
    assert (found.exact, found.within_one) == (1, 1)
    assert found.kappa == (1 if len(set(scores)) > 1 else None)
    assert found.spearman is None or found.spearman == pytest.approx(1)


def test_scores_that_are_no_whole_numbers_are_rounded_halves_up() -> None:
    """A mean of 3.5 counts as 4; one step apart is within one."""
    found = agreement([(4, 3.5), (3, 3.4), (5, 4.4), (1, 3)])
    assert (found.exact, found.within_one) == (0.5, 0.75)


def test_what_a_cut_decides() -> None:
    """The bound passes; precision is of what passes, recall of what people accepted."""
    cut = cut_at(4, [(4, True), (5, False), (3.9, True), (1, False)])
    assert (cut.accuracy, cut.precision, cut.recall, cut.f1) == (0.5, 0.5, 0.5, 0.5)


@given(st.lists(st.tuples(st.integers(4, 20).map(lambda n: n / 4), st.booleans()), min_size=2, max_size=40))
def test_no_cut_is_better_than_the_suggested_one(rows: list[tuple[float, bool]]) -> None:
    """By F1, over all cuts from 1 to 5; without both kinds of label nothing is suggested."""
    found = best_cut(rows, now=4)
    if len({accepted for _, accepted in rows}) < 2:
        assert found is None
    else:
        assert found is not None
        assert found.f1 == max(cut_at(step / 20, rows).f1 for step in range(20, 102))


def test_a_cut_that_does_as_well_stays() -> None:
    """Where the present bound decides as well as the best, it is the one suggested."""
    cut = best_cut([(2, False), (4.5, True), (5, True)], now=4)
    assert cut is not None
    assert cut.min_score == 4
