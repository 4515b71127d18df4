"""The limits of the embedded endpoint, with an explicit clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_async.endpoint.simulator.limits import Bucket, RateLimits, format_duration

_STEPS = st.lists(st.tuples(st.floats(0, 20), st.integers(1, 400)), min_size=1, max_size=60)


@given(limit=st.floats(1, 10_000), burst_s=st.sampled_from([1.0, 5.0, 60.0]), steps=_STEPS)
def test_no_stretch_of_time_admits_more_than_a_full_bucket_and_what_flowed_in(
    limit: float, burst_s: float, steps: list[tuple[float, int]]
) -> None:
    """Between any two admissions, the tokens charged stay within capacity + rate x time + the one that made a debt."""
    limits = RateLimits(None, limit, burst_s=burst_s)
    now, admitted = 0.0, []
    for pause_s, amount in steps:
        now += pause_s
        if limits.admit(amount, now) is None:
            admitted.append((now, amount))
    for first in range(len(admitted)):
        charged = 0
        for at, amount in admitted[first:]:
            charged += amount
            room = limit * burst_s / 60 + (at - admitted[first][0]) * limit / 60
            assert charged <= max(room, room - limit * burst_s / 60 + amount) + 1e-3


@given(limit=st.floats(1, 10_000), steps=_STEPS)
def test_waiting_as_long_as_told_is_enough_and_less_is_not(limit: float, steps: list[tuple[float, int]]) -> None:
    """A refused request passes after exactly the wait in the refusal, and not well before it."""
    limits = RateLimits(None, limit)
    now = 0.0
    for pause_s, amount in steps:
        now += pause_s
        refusal = limits.admit(amount, now)
        if refusal is None or refusal.wait_s is None:
            continue
        assert refusal.wait_s > 0
        assert limits.admit(amount, now + refusal.wait_s * 0.9) is not None
        now += refusal.wait_s
        assert limits.admit(amount, now) is None


def test_a_refused_request_is_charged_to_neither_limit() -> None:
    """Where tokens run out, no request is taken off the other limit."""
    limits = RateLimits(10, 100)
    assert limits.admit(90, 0) is None
    assert limits.admit(90, 0) is not None
    assert limits.headers()["x-ratelimit-remaining-requests"] == "9"
    assert limits.headers()["x-ratelimit-remaining-tokens"] == "10"


def test_a_request_above_the_limit_is_told_that_waiting_is_of_no_use() -> None:
    """Above the limit itself there is no wait, and the message says too large."""
    refusal = RateLimits(None, 1000).admit(1500, 0)
    assert refusal is not None
    assert refusal.wait_s is None
    assert "Request too large" in refusal.message
    assert "Limit 1000, Requested 1500" in refusal.message


def test_a_request_between_capacity_and_limit_passes_a_full_bucket_and_leaves_a_debt() -> None:
    """With a small burst, a large request is paid for by the time after it."""
    bucket = Bucket(600, burst_s=1)
    assert bucket.wait_s(60) == 0
    bucket.take(60)
    assert bucket.remaining == 0
    assert bucket.wait_s(10) == pytest.approx(6)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.017, "17ms"), (1.2, "1.2s"), (59.9995, "1m0s"), (360, "6m0s"), (3605.5, "1h0m5.5s")],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    """Units go from the largest down, milliseconds stand alone."""
    assert format_duration(seconds) == text
