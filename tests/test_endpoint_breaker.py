"""The breaker, by an explicit clock."""

from __future__ import annotations

import pytest

from synth_async.endpoint.breaker import Breaker
from synth_async.errors import EndpointRefused, StoppedEarly


def _breaker(give_up_after_s: float = 3600.0) -> Breaker:
    return Breaker("main", give_up_after_s=give_up_after_s)


def _closed() -> Breaker:
    breaker = _breaker()
    breaker.note_sent(0)
    breaker.note_answered()
    return breaker


def _is_probing(breaker: Breaker) -> bool:
    return breaker.is_probing


def _tripped(now: float = 100.0) -> Breaker:
    """A breaker that tripped at `now`, after six seconds of failures."""
    breaker = _closed()
    for number in range(12):
        breaker.note_failure(now - 6 if number < 11 else now, "HTTP 502", connected=True)
    return breaker


def test_the_first_request_goes_alone_until_it_is_answered() -> None:
    """At the start one may go; a second waits while it is out; after the answer nobody waits."""
    breaker = _breaker()
    assert breaker.wait_s(0, in_flight=0) == 0
    breaker.note_sent(0)
    assert breaker.wait_s(1, in_flight=1) > 0
    breaker.note_answered()
    assert breaker.wait_s(1, in_flight=200) == 0
    assert breaker.has_answered


def test_a_hanging_probe_lets_a_second_one_through() -> None:
    """Five seconds after the last probe another may join it, and a third five seconds after that."""
    breaker = _breaker()
    breaker.note_sent(10)
    assert breaker.wait_s(12, in_flight=1) == 3
    assert breaker.wait_s(15, in_flight=1) == 0
    breaker.note_sent(15)
    assert breaker.wait_s(16, in_flight=2) == 4


def test_an_endpoint_that_is_never_reached_is_refused_after_30_s() -> None:
    """Not before, even if the clock begins at 0, and with the advice to check base_url."""
    breaker = _breaker()
    breaker.note_sent(0)
    breaker.note_failure(0.1, "connection refused", connected=False)
    breaker.note_failure(29.9, "connection refused", connected=False)
    with pytest.raises(EndpointRefused, match=r"30 s: connection refused; check base_url"):
        breaker.note_failure(30.0, "connection refused", connected=False)


def test_an_endpoint_that_was_reached_once_is_waited_for() -> None:
    """A server that answered anything, even a 503, is there: it may be loading its model."""
    breaker = _breaker()
    breaker.note_sent(0)
    breaker.note_failure(1, "HTTP 503", connected=True)
    breaker.note_failure(100, "connection refused", connected=False)
    assert _is_probing(breaker)


def test_pauses_at_the_start_grow_to_five_seconds() -> None:
    """A server that is just being started is found soon after it is up."""
    breaker, now, pauses = _breaker(), 0.0, []
    breaker.note_sent(now)
    for _ in range(6):
        breaker.note_failure(now, "connection refused", connected=False)
        pauses.append(breaker.wait_s(now, in_flight=0))
        now += pauses[-1]
    assert pauses == [0.5, 1, 2, 4, 5, 5]


def test_it_trips_after_a_dozen_failures_over_five_silent_seconds() -> None:
    """Fewer failures, or a shorter silence, are weather."""
    breaker = _closed()
    for _ in range(50):
        breaker.note_failure(10, "HTTP 502", connected=True)
    assert not _is_probing(breaker)
    breaker.note_failure(14.9, "HTTP 502", connected=True)
    assert not _is_probing(breaker)
    breaker.note_failure(15, "HTTP 502", connected=True)
    assert _is_probing(breaker)

    few = _closed()
    few.note_failure(10, "HTTP 502", connected=True)
    few.note_failure(100, "HTTP 502", connected=True)
    assert not _is_probing(few)


def test_an_answer_in_between_starts_the_count_anew() -> None:
    """An endpoint that fails often and answers now and then is never taken for dead."""
    breaker = _closed()
    for second in range(100):
        breaker.note_failure(second, "HTTP 502", connected=True)
        if second % 4 == 0:
            breaker.note_answered()
    assert not _is_probing(breaker)


def test_probes_after_an_outage_are_alone_and_rarer_and_rarer() -> None:
    """Pauses double from half a second to half a minute; requests sent before the outage do not make them longer."""
    breaker, now, pauses = _tripped(), 100.0, []
    for _ in range(8):
        for _ in range(200):
            breaker.note_failure(now + 0.01, "reset", connected=True)
        pauses.append(breaker.wait_s(now, in_flight=0))
        now += pauses[-1]
        assert breaker.wait_s(now, in_flight=0) == 0
        breaker.note_sent(now)
        assert breaker.wait_s(now, in_flight=1) > 0
        breaker.note_failure(now, "HTTP 502", connected=True)
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_an_answer_closes_it_again() -> None:
    """All may go at once, and the message of the outage is gone."""
    breaker = _tripped()
    assert breaker.last_message == "HTTP 502"
    breaker.note_answered()
    assert breaker.wait_s(100, in_flight=100) == 0
    assert breaker.last_message == ""
    assert repr(breaker) == "<Breaker main closed failures=0>"


def test_a_refused_request_proves_that_the_endpoint_is_there() -> None:
    """After an outage a 400 closes the breaker as well, and the next failure does not trip it again."""
    breaker = _tripped()
    breaker.note_rejected("HTTP 400")
    assert not _is_probing(breaker)
    breaker.note_failure(101, "HTTP 502", connected=True)
    assert not _is_probing(breaker)


def test_five_rejections_and_nothing_else_refuse_the_endpoint() -> None:
    """Four are bad luck; after an answer any number is."""
    breaker = _breaker()
    for _ in range(4):
        breaker.note_rejected("HTTP 400: bad")
    with pytest.raises(EndpointRefused, match="refuses every request: HTTP 400: bad"):
        breaker.note_rejected("HTTP 400: bad")
    answered = _closed()
    for _ in range(50):
        answered.note_rejected("HTTP 400: bad")


def test_it_gives_up_after_the_declared_time_of_failures() -> None:
    """Counted from the first failure after the last answer: an idle endpoint has not been silent."""
    breaker = _closed()
    breaker.note_failure(9_000, "HTTP 502", connected=True)
    breaker.note_failure(12_599, "HTTP 502", connected=True)
    with pytest.raises(StoppedEarly, match="has not answered for 3600 s: HTTP 502"):
        breaker.note_failure(12_600, "HTTP 502", connected=True)


def test_rate_limits_without_an_end_give_up_too() -> None:
    """Patience with 429s ends after the same time, counted from the first one after an answer, and not before."""
    breaker = _closed()
    breaker.note_limited(10, "HTTP 429")
    breaker.note_limited(3_609, "HTTP 429")
    with pytest.raises(StoppedEarly, match="3600 s: HTTP 429"):
        breaker.note_limited(3_610, "HTTP 429")


def test_an_answer_between_rate_limits_renews_the_patience() -> None:
    """An endpoint that refuses often and answers now and then has not stopped answering."""
    breaker = _closed()
    for now in range(0, 36_000, 1_800):
        breaker.note_limited(now, "HTTP 429")
        breaker.note_answered()


def test_rate_limits_are_no_outage() -> None:
    """Any number of 429s keeps the breaker closed, and an endpoint that sends them is there."""
    limited = _closed()
    for second in range(100):
        limited.note_limited(second, "HTTP 429")
    assert not _is_probing(limited)
    starting = _breaker()
    starting.note_sent(0)
    starting.note_limited(1, "HTTP 429")
    starting.note_failure(100, "connection refused", connected=False)
    assert _is_probing(starting)
