"""Which failure is worth another attempt, and after how long."""

from __future__ import annotations

from synth_async.errors import TransientFailure

__all__ = ["MAX_ATTEMPTS", "next_delay_s"]

MAX_ATTEMPTS = 6
_MAX_TIMEOUTS = 3
_BASE_S = 0.5
_CAP_S = 30.0


def next_delay_s(failure: TransientFailure, attempt: int, *, jitter: float) -> float | None:
    """Seconds to wait after failed attempt number `attempt` (from 1), or None to give up.

    Exponential backoff with full jitter (`jitter` uniform in [0, 1)); a server's hint is a floor, kept to a minute. A
    timeout has already cost a whole deadline, so it is tried less often.
    """
    if attempt >= (_MAX_TIMEOUTS if failure.kind == "timeout" else MAX_ATTEMPTS):
        return None
    backoff = jitter * min(_CAP_S, _BASE_S * 2.0**attempt)
    return max(backoff, min(failure.hint_s or 0.0, 60.0))
