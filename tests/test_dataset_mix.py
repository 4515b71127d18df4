"""Shares are exact, and the order is drawn by the seed."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from synth_async.dataset.mix import drawn_order, mix_counts

shares = st.integers(1, 99).map(lambda percent: percent / 100)


@given(st.integers(0, 400), st.integers(0, 400), shares)
def test_a_mix_is_exact_and_as_large_as_it_can_be(synthetic: int, real: int, share: float) -> None:
    """No whole number is nearer to the share, no more is taken than there is, and one example more would not fit."""
    taken = mix_counts(synthetic, real, share)
    total, exact = sum(taken), Fraction(str(share))
    assert taken[0] <= synthetic
    assert taken[1] <= real
    assert abs(taken[1] - total * exact) <= Fraction(1, 2)
    wanted = round((total + 1) * exact)
    assert wanted > real or total + 1 - wanted > synthetic


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 9), st.data())
def test_the_drawn_order_takes_each_at_most_once(synthetic: int, real: int, seed: int, data: st.DataObject) -> None:
    """So many of either kind, none twice; the same seed gives the same order."""
    taken = (data.draw(st.integers(0, synthetic)), data.draw(st.integers(0, real)))
    order = drawn_order((synthetic, real), taken, seed=seed)
    assert len(set(order)) == len(order) == sum(taken)
    assert sum(number < synthetic for number in order) == taken[0]
    assert all(0 <= number < synthetic + real for number in order)
    assert order == drawn_order((synthetic, real), taken, seed=seed)


def test_the_kinds_are_shuffled_into_each_other() -> None:
    """Neither kind comes first, and another seed gives another order."""
    order = drawn_order((600, 400), (600, 400), seed=0)
    assert 140 < sum(number >= 600 for number in order[:500]) < 260
    assert order != drawn_order((600, 400), (600, 400), seed=1)
