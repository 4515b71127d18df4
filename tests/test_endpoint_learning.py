"""What is found out from refusals: the rate that an endpoint allows."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth_async.endpoint.learning import RateFinder


def _rate(finder: RateFinder, now: float) -> float:
    rate = finder.rate(now)
    assert rate is not None
    return rate


def _send(finder: RateFinder, per_second: int, since: int, until: int) -> None:
    """That many requests in each second of a span, all taken in."""
    for number in range((until - since) * per_second):
        finder.note_sent(1.0, since + number / per_second)


# --- rates: where nothing is known ---------------------------------------------------------------


def test_without_a_ceiling_there_is_no_rate_until_a_refusal_tells_one() -> None:
    """The first refusal sets it to what was taken in, less the refused one, per second."""
    finder = RateFinder(None)
    assert finder.rate(0) is None
    _send(finder, 50, 0, 4)
    assert finder.rate(4) is None
    assert not finder.is_limited
    finder.note_sent(1.0, 4)
    finder.note_limited(1.0, 4, 4)
    assert _rate(finder, 4) == pytest.approx(50)
    assert finder.is_limited


def test_a_refusal_after_next_to_nothing_tells_no_rate() -> None:
    """Less than twenty requests in less than five seconds are no measurement."""
    finder = RateFinder(None)
    _send(finder, 10, 0, 1)
    finder.note_limited(1.0, 1, 1)
    assert finder.rate(1) is None


def test_a_server_that_takes_nothing_at_all_tells_no_rate() -> None:
    """Minutes of refusals and nothing else: pauses wait for their end, after which it goes on as before."""
    unknown, told = RateFinder(None), RateFinder(50.0)
    for finder in (unknown, told):
        _send(finder, 50, 0, 10)
        finder.note_limited(0.0, -1, 10)
    known = _rate(unknown, 10)
    for now in range(20, 300, 10):
        for finder in (unknown, told):
            finder.note_sent(1.0, now)
            finder.note_limited(1.0, now, now)
    assert _rate(unknown, 300) >= known * 0.7
    assert _rate(told, 300) >= 35


# --- rates: refusals -----------------------------------------------------------------------------


def test_between_two_refusals_the_rate_is_measured() -> None:
    """What was taken in since the one before, per second: that is what the limit allows, however it is counted."""
    finder = RateFinder(50.0)
    _send(finder, 50, 0, 60)
    finder.note_limited(0.0, 0, 60)
    _send(finder, 40, 60, 120)
    finder.note_limited(0.0, 0, 120)
    assert _rate(finder, 120) == pytest.approx(40 * 0.98)


def test_a_refused_request_was_not_taken_in() -> None:
    """Neither the one that sets the rate, nor those that are refused with it."""
    finder = RateFinder(100.0)
    finder.note_limited(0.0, 0, 0)
    _send(finder, 60, 0, 10)
    for _ in range(50):
        finder.note_sent(1.0, 10)
    for _ in range(49):
        finder.note_limited(1.0, 10, 0.5)
    finder.note_limited(1.0, 10, 10)
    assert _rate(finder, 10) == pytest.approx(60 * 0.98)


def test_what_was_sent_before_a_refusal_is_not_taken_off_what_came_after() -> None:
    """A late refusal belongs to the time before."""
    finder = RateFinder(50.0)
    finder.note_sent(1.0, 1)
    finder.note_limited(0.0, 0, 2)
    _send(finder, 40, 2, 12)
    finder.note_limited(400.0, 1, 12)
    assert _rate(finder, 12) == pytest.approx(40 * 0.98)


def test_one_refusal_takes_half_at_most() -> None:
    """A measurement over an idle while may be far too low."""
    finder = RateFinder(50.0)
    finder.note_limited(0.0, 0, 0)
    before = _rate(finder, 1_000)
    finder.note_sent(1.0, 1_000)
    finder.note_sent(1.0, 1_000)
    finder.note_limited(1.0, 1_000, 1_000)
    assert _rate(finder, 1_000) == pytest.approx(before / 2)


def test_refusals_within_a_second_count_once() -> None:
    """A burst that is refused is one sign, not a hundred; after a second it is another."""
    finder = RateFinder(50.0)
    for number in range(100):
        finder.note_limited(1.0, 10, 10 + number * 0.009)
    assert _rate(finder, 10.9) >= 49.5
    finder.note_limited(1.0, 10, 11)
    assert _rate(finder, 11) < 49.5


# --- rates: growth -------------------------------------------------------------------------------


def _grown(seconds: int, ceiling: float = 100.0) -> float:
    """The rate that long after it was measured to be 50, when it was used all the time."""
    finder = RateFinder(ceiling)
    finder.note_limited(0.0, 0, 0)
    _send(finder, 50, 0, 60)
    finder.note_limited(0.0, 0, 60)
    for second in range(60, 60 + seconds):
        finder.note_sent(_rate(finder, second), second)
    return _rate(finder, 60 + seconds)


def test_above_what_was_refused_the_rate_grows_slowly_at_first() -> None:
    """Half a thousandth in the first second, at most three per cent in 20 seconds, and ever faster."""
    assert _grown(0) == pytest.approx(50)
    assert 50 < _grown(1) <= 50.05
    assert 50.5 < _grown(20) < 51.5
    assert _grown(120) / _grown(100) > _grown(40) / _grown(20) > 1.01


def test_in_time_the_rate_is_back_at_its_ceiling() -> None:
    """A limit that was lower for a while is found again, and not passed."""
    assert _grown(600) == 100
    assert _grown(600, ceiling=60.0) == 60


def test_a_rate_that_is_not_used_does_not_grow() -> None:
    """An hour with a request a minute says nothing about fifty a second."""
    finder = RateFinder(None)
    _send(finder, 50, 0, 4)
    finder.note_limited(0.0, 0, 4)
    for minute in range(1, 60):
        finder.note_sent(1.0, 60 * minute)
        assert _rate(finder, 60 * minute) <= 100


# --- rates: ceilings -----------------------------------------------------------------------------


def test_a_ceiling_is_the_rate_from_the_start() -> None:
    """Nothing has to be found out where the config or the headers tell it; the lower of the two counts."""
    finder = RateFinder(None)
    finder.set_ceiling(10, 0)
    assert _rate(finder, 0) == 10
    finder.set_ceiling(20, 0)
    assert _rate(finder, 100) == 10
    finder.set_ceiling(5, 0)
    assert _rate(finder, 100) == 5


def test_a_higher_ceiling_counts_when_nothing_lower_was_told_for_a_while() -> None:
    """Servers behind one address may differ: the rate goes up after ten seconds without the lower figure."""
    finder = RateFinder(100)
    finder.set_ceiling(10, 0)
    for now in range(1, 20):
        finder.set_ceiling(20 if now % 2 else 10, now)
        assert _rate(finder, now) == 10
    for now in range(20, 28):
        finder.set_ceiling(20, now)
        assert _rate(finder, now) == 10
    finder.set_ceiling(20, 28)
    assert _rate(finder, 28) == 20
    finder.set_ceiling(500, 60)
    assert _rate(finder, 60) == 100


_EVENTS = st.lists(
    st.tuples(st.sampled_from(["send", "refuse", "late refuse", "tell"]), st.floats(0.001, 500), st.floats(0, 90)),
    max_size=60,
)


@given(st.floats(0.001, 1e5), _EVENTS)
def test_the_rate_is_never_above_its_ceiling(ceiling: float, events: list[tuple[str, float, float]]) -> None:
    """Whatever is sent, refused or told, and whenever; and it is always more than nothing."""
    finder, now = RateFinder(ceiling), 0.0
    for kind, amount, pause_s in events:
        now += pause_s
        if kind == "send":
            finder.note_sent(amount, now)
        elif kind == "tell":
            finder.set_ceiling(amount, now)
        else:
            finder.note_limited(amount, now if kind == "refuse" else now - 50, now)
        assert finder.ceiling is not None
        assert 0 < _rate(finder, now) <= finder.ceiling <= ceiling


@given(st.floats(1, 1e5), _EVENTS)
def test_a_refusal_takes_at_least_one_per_cent_once_a_second(
    ceiling: float, events: list[tuple[str, float, float]]
) -> None:
    """And at most half; in between nothing but time changes the rate, and time never lowers it."""
    finder, now, limited_at = RateFinder(ceiling), 0.0, -100.0
    for kind, amount, pause_s in events:
        aged = _rate(finder, now)
        now += pause_s
        before = _rate(finder, now)
        assert before >= aged
        if kind == "send":
            finder.note_sent(amount, now)
        else:
            finder.note_limited(amount, now, now)
        after = _rate(finder, now)
        if kind == "send" or now - limited_at < 1:
            assert after == pytest.approx(before)
        else:
            limited_at = now
            assert before * 0.4999 <= after <= max(before * 0.99, 0.05) * (1 + 1e-9)


@settings(max_examples=15)
@given(st.floats(1, 50), st.floats(1.05, 3), st.integers(0, 10**6))
def test_a_rate_that_was_told_too_high_is_found(allowed: float, factor: float, seed: int) -> None:
    """Against a bucket of one second's worth: after five minutes few are refused, and most of it is used."""
    finder, chance = RateFinder(allowed * factor), random.Random(seed)
    now = taken = late = sent = 0.0
    level = max(2.0, allowed)
    while now < 900:
        step_s = chance.uniform(0.9, 1.1) / _rate(finder, now)
        now, level = now + step_s, min(max(2.0, allowed), level + step_s * allowed)
        finder.note_sent(1.0, now)
        sent += now > 300
        if level >= 1:
            level -= 1
            taken += now > 300
        else:
            finder.note_limited(1.0, now, now)
            late += now > 300
            now += 1 / allowed
    assert late <= max(3.0, 0.03 * sent)
    assert taken >= 0.8 * allowed * 600
