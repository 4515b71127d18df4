"""Which failure is worth another attempt, and after how long."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_async.endpoint.retry import MAX_ATTEMPTS, next_delay_s
from synth_async.errors import TransientFailure

_JITTER = st.floats(0, 1, exclude_max=True)


def _failure(kind: str = "http_502", hint_s: float | None = None) -> TransientFailure:
    return TransientFailure("broken", kind=kind, hint_s=hint_s)


def test_attempts_are_counted() -> None:
    """Six for most failures; three for timeouts, each of which has cost a whole deadline."""
    assert [next_delay_s(_failure(), n, jitter=0.5) is None for n in range(1, 8)] == [False] * 5 + [True] * 2
    assert [next_delay_s(_failure("timeout"), n, jitter=0.5) is None for n in range(1, 5)] == [False] * 2 + [True] * 2


@given(st.integers(1, MAX_ATTEMPTS - 1), _JITTER)
def test_backoff_is_full_jitter_below_a_doubling_bound(attempt: int, jitter: float) -> None:
    """The wait is the jitter's share of 0.5 s x 2^attempt, never above 30 s."""
    assert next_delay_s(_failure(), attempt, jitter=jitter) == pytest.approx(jitter * min(30, 0.5 * 2**attempt))


def test_backoff_grows() -> None:
    """The same jitter waits longer each time."""
    delays = [next_delay_s(_failure(), n, jitter=0.9) or 0 for n in range(1, MAX_ATTEMPTS)]
    assert all(earlier < later for earlier, later in pairwise(delays))


@given(st.floats(0, 1e6), st.integers(1, MAX_ATTEMPTS - 1), _JITTER)
def test_a_hint_is_a_floor_of_at_most_a_minute(hint_s: float, attempt: int, jitter: float) -> None:
    """The server's wish is kept, but a 503 that asks for an hour is asked again after a minute."""
    delay_s = next_delay_s(_failure(hint_s=hint_s), attempt, jitter=jitter)
    assert delay_s is not None
    assert min(hint_s, 60) <= delay_s <= 60
