"""Rate limits behind a breaker that is closed, and what tests do with them in virtual time."""

from __future__ import annotations

from typing import Literal

import anyio

from synth_async.endpoint.accounting import Charge
from synth_async.endpoint.breaker import Breaker
from synth_async.endpoint.headers import SeenLimits
from synth_async.endpoint.limits import Limits, Permit

JUDGE, GENERATE = 0, 2


def open_limits(
    *,
    rpm: float | None = None,
    tpm: float | None = None,
    max_in_flight: int = 10_000,
    accounting: Literal["auto", "actual", "reserved"] = "actual",
) -> Limits:
    """Limits behind a breaker that is closed."""
    breaker = Breaker("main", give_up_after_s=3600)
    breaker.note_answered()
    return Limits(rpm=rpm, tpm=tpm, max_in_flight=max_in_flight, breaker=breaker, accounting=accounting)


async def permits_for(limits: Limits, count: int) -> list[Permit]:
    """So many requests that are out, where as many answers have opened the way for them."""
    while limits.cap < limits.in_flight + count:
        answer(limits)
    return [await limits.admit(1, GENERATE) for _ in range(count)]


def answer(limits: Limits, charge: Charge | None = None, seen: SeenLimits | None = None) -> None:
    """An answer to a request that might have been sent right now."""
    limits.note_answered(Permit(limits, limits.requests_sent, 1.0, anyio.current_time()), charge, seen)


def refuse(limits: Limits, permit: Permit, hint_s: float | None, message: str = "HTTP 429") -> None:
    """The server refuses what this permit was given for."""
    permit.settle(0.0)
    limits.note_limited(permit, message, hint_s)


async def admission_times(limits: Limits, sizes: list[float], used: float | None = None) -> list[float]:
    """When each of many requests that all wait from the start is admitted; each is settled at once."""
    times: list[float] = []

    async def ask(tokens: float) -> None:
        permit = await limits.admit(tokens, GENERATE)
        times.append(anyio.current_time())
        permit.settle(used)

    async with anyio.create_task_group() as group:
        for tokens in sizes:
            group.start_soon(ask, tokens)
    return times


def most_in_a_window(times: list[float], amounts: list[float], window_s: float) -> float:
    """The largest sum of amounts in any window of that length; times in order."""
    most = total = 0.0
    first = 0
    for last, time in enumerate(times):
        total += amounts[last]
        while times[first] <= time - window_s:
            total -= amounts[first]
            first += 1
        most = max(most, total)
    return most
