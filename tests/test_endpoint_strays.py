"""Refusals at random, told from those of a limit."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from synth_async.endpoint.strays import Strays


def _refused(strays: Strays, requests: int) -> None:
    for _ in range(requests):
        strays.note_sent()
    assert not strays.explain()


def _fall(strays: Strays, cut: float, *, taken: float = 1.0, requests: int = 100, cuts: int = 60) -> float | None:
    """What is found while the rate falls from 10 a second by `cut` each time, of which the server takes a share in."""
    rate, found = 10.0, None
    for _ in range(cuts):
        _refused(strays, requests)
        elapsed_s = requests / rate
        found = found or strays.note_cut(rate, rate * cut, taken=taken * rate * elapsed_s, elapsed_s=elapsed_s)
        if found is not None:
            break
        rate *= cut
    return found


@given(cut=st.floats(0.9, 0.99))
def test_single_refusals_at_ever_lower_rates_are_of_no_limit(cut: float) -> None:
    """The rate before the first of them comes back, and as many are explained from then on."""
    strays = Strays()
    assert _fall(strays, cut) == 10.0
    assert 0.005 <= strays.share <= 0.02
    for _ in range(100):
        strays.note_sent()
    assert strays.explain()


@given(cut=st.floats(0.9, 0.99), taken=st.floats(0.0, 0.75))
def test_a_server_that_takes_in_less_than_it_is_sent_has_a_limit(cut: float, taken: float) -> None:
    """However often it refuses, and however singly."""
    assert _fall(Strays(), cut, taken=taken) is None


@given(cut=st.floats(0.9, 0.99), requests=st.integers(1, 5))
def test_frequent_refusals_are_of_a_limit(cut: float, requests: int) -> None:
    """One request in five or more is refused."""
    assert _fall(Strays(), cut, requests=requests) is None


@given(lowered=st.lists(st.floats(0.1, 0.84), min_size=1, max_size=30))
def test_a_limit_that_fell_is_believed(lowered: list[float]) -> None:
    """A deep cut was measured, and no series goes across it."""
    strays, rate = Strays(), 1000.0
    for share in lowered:
        _refused(strays, 100)
        assert strays.note_cut(rate, rate * share, taken=100.0, elapsed_s=100 / rate) is None
        rate *= share


def test_a_rate_that_climbs_back_to_where_it_was_refused_has_a_limit() -> None:
    """Refusals at the same rate again and again are what a limit looks like."""
    strays = Strays()
    for number in range(200):
        rate = 10 + 0.01 * (number % 7)
        _refused(strays, 100)
        assert strays.note_cut(rate, 0.98 * rate, taken=100.0, elapsed_s=100 / rate) is None


def test_without_a_limit_before_there_is_none_again() -> None:
    """Where the first refusal told the rate, what comes back is that there was none."""
    strays = Strays()
    _refused(strays, 100)
    assert strays.note_cut(math.inf, 10.0, taken=100.0, elapsed_s=10.0) is None
    rate, found = 10.0, None
    for _ in range(60):
        _refused(strays, 100)
        found = strays.note_cut(rate, 0.97 * rate, taken=100.0, elapsed_s=100 / rate)
        if found is not None:
            break
        rate *= 0.97
    assert found == math.inf


def test_more_refusals_than_chance_brings_are_a_limit_again() -> None:
    """What is explained is bounded by the share that was found."""
    strays = Strays()
    assert _fall(strays, 0.97) == 10.0
    explained = 0
    for _ in range(100):
        strays.note_sent()
        explained += strays.explain()
    assert explained < 15
