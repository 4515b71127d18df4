"""What is found out from answers and refusals: the rate that an endpoint allows, and how it counts tokens."""

from __future__ import annotations

import random
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth_async.endpoint.headers import LimitWindow
from synth_async.endpoint.learning import Charge, RateFinder, TokenAccounting


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
    assert _rate(finder, 120) == pytest.approx(40)


def test_a_refused_request_was_not_taken_in() -> None:
    """Neither the one that sets the rate, nor those that are refused with it."""
    finder = RateFinder(100.0)
    finder.note_limited(0.0, 0, 0)
    _send(finder, 50, 0, 10)
    for _ in range(50):
        finder.note_sent(1.0, 10)
    for _ in range(49):
        finder.note_limited(1.0, 10, 0.5)
    finder.note_limited(1.0, 10, 10)
    assert _rate(finder, 10) == pytest.approx(50)


def test_what_was_sent_before_a_refusal_is_not_taken_off_what_came_after() -> None:
    """A late refusal belongs to the time before."""
    finder = RateFinder(50.0)
    finder.note_sent(1.0, 1)
    finder.note_limited(0.0, 0, 2)
    _send(finder, 40, 2, 12)
    finder.note_limited(400.0, 1, 12)
    assert _rate(finder, 12) == pytest.approx(40)


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
    finder.set_ceiling(10)
    assert _rate(finder, 0) == 10
    finder.set_ceiling(20)
    assert _rate(finder, 100) == 10
    finder.set_ceiling(5)
    assert _rate(finder, 100) == 5


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
            ceiling = min(ceiling, amount)
            finder.set_ceiling(amount)
        else:
            finder.note_limited(amount, now if kind == "refuse" else now - 50, now)
        assert 0 < _rate(finder, now) <= ceiling


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


# --- how tokens are counted ----------------------------------------------------------------------

_CHARGE = Charge(used=200, reserved=562)


def _window(remaining: float | None, limit: float = 600_000) -> LimitWindow:
    return LimitWindow(limit, remaining)


def test_what_is_configured_is_not_found_out() -> None:
    """Whatever the headers say."""
    actual, reserved = TokenAccounting("actual"), TokenAccounting("reserved")
    actual.note(_CHARGE, _window(600_000 - 562), 0)
    reserved.note(_CHARGE, _window(600_000 - 200), 0)
    assert actual.found == "actual"
    assert reserved.found == "reserved"


@pytest.mark.parametrize(
    ("fallen", "found"),
    [(562, "reserved"), (500, "reserved"), (200, "actual"), (50, "actual"), (0, None), (350, None), (90_000, None)],
)
def test_one_request_alone_tells_it(fallen: float, found: str | None) -> None:
    """What is missing after the first one is its charge; where it is neither, more is needed."""
    accounting = TokenAccounting("auto")
    assert TokenAccounting("auto").found is None
    accounting.note(_CHARGE, _window(600_000 - fallen), 1)
    assert accounting.found == found
    assert repr(accounting) == f"<TokenAccounting {found or 'unknown'}>"


def test_one_request_whose_two_charges_are_alike_tells_nothing() -> None:
    """An answer that is about as long as max_tokens fits both ways."""
    accounting = TokenAccounting("auto")
    accounting.note(Charge(used=500, reserved=562), _window(600_000 - 562), 1)
    assert accounting.found is None


def test_without_headers_it_is_by_use() -> None:
    """At the first answer; where what is left is not told, at the second."""
    without, untold = TokenAccounting("auto"), TokenAccounting("auto")
    without.note(_CHARGE, None, 0)
    assert without.found == "actual"
    untold.note(_CHARGE, _window(None), 0)
    assert untold.found is None
    untold.note(_CHARGE, _window(None), 1)
    assert untold.found == "actual"


Way = Literal["actual", "reserved"]


def _after_many(way: Way, *, refills: bool, others: float, seed: int, per_second: float = 30) -> TokenAccounting:
    """Answers from a server that others use as well, so that the first one tells nothing."""
    accounting, chance, limit = TokenAccounting("auto"), random.Random(seed), 1_000_000.0
    level = limit - others
    for number in range(600):
        now = number / per_second
        used = chance.uniform(100, 250)
        level -= used if way == "actual" else 562
        level = min(limit, level + (limit / 60 / per_second if refills else 0.0))
        accounting.note(Charge(used, 562), _window(max(0.0, level), limit), now)
        if accounting.found is not None:
            break
    return accounting


@pytest.mark.parametrize("refills", [True, False])
@pytest.mark.parametrize("way", ["actual", "reserved"])
@given(seed=st.integers(0, 10**6), others=st.floats(400_000, 600_000))
def test_many_requests_tell_it(way: Way, refills: bool, seed: int, others: float) -> None:  # noqa: FBT001 - a case
    """By what has fallen over a while, on servers that refill steadily and on those that count in windows."""
    assert _after_many(way, refills=refills, others=others, seed=seed).found == way


def test_a_window_that_begins_anew_is_not_mistaken() -> None:
    """What is left jumps up: the count begins with it."""
    accounting = TokenAccounting("auto")
    accounting.note(_CHARGE, _window(90_000, 100_000), 0)
    accounting.note(_CHARGE, _window(89_500, 100_000), 0.1)
    for number in range(2):
        accounting.note(_CHARGE, _window(89_000 - 562 * number, 100_000), 0.2)
    accounting.note(_CHARGE, _window(99_438, 100_000), 0.21)
    assert accounting.found is None
    for number in range(1, 5):
        accounting.note(_CHARGE, _window(99_438 - 562 * number, 100_000), 0.21)
    assert accounting.found == "reserved"


def test_next_to_nothing_sent_tells_nothing() -> None:
    """A budget that is full again before the next request hides what the last one took; what is dense tells it."""
    accounting, limit = TokenAccounting("auto"), 10_000.0
    accounting.note(_CHARGE, _window(9_000, limit), 0)
    for number in range(1, 10):
        accounting.note(_CHARGE, _window(limit - 400, limit), 30 * number)
    assert accounting.found is None
    for number in range(1, 5):
        accounting.note(_CHARGE, _window(limit - 400 - 562 * number, limit), 270 + 0.01 * number)
    assert accounting.found == "reserved"


def test_a_budget_that_stays_full_is_charged_by_use() -> None:
    """Reservations beyond the refill would have shown."""
    accounting = TokenAccounting("auto")
    for number in range(40):
        accounting.note(_CHARGE, _window(100_000, 100_000), number * 0.01)
    assert accounting.found == "actual"


def test_figures_that_fit_neither_way_mean_use() -> None:
    """They come from a limit of another kind; refusals will tell."""
    accounting = TokenAccounting("auto")
    for number in range(40):
        accounting.note(_CHARGE, _window(500_000 - 5_000 * number, 600_000), number * 0.01)
    assert accounting.found == "actual"
