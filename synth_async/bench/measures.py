"""Seconds of traffic -> utilisation of a rate limit, and the ramp up to it. Plain arithmetic.

A rate limit of L per minute allows L / 60 a second. Utilisation is what the server accepted, in the unit that it
charges, as a share of what the limit allows in the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["AMOUNTS", "RAMPED_SHARE", "Second", "Utilisation", "binding", "ramp_s", "utilisation", "whole_seconds"]

RAMPED_SHARE = 0.9
"""The ramp is over with the first second that brings this share of the binding limit."""

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Second:
    """What was accepted in one second.

    `start_s` counts from the begin of the measurement; the first of a server's own seconds may begin before it.
    """

    start_s: float
    requests: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Utilisation:
    """Accepted units (`requests` or `tokens`) of one limit; `after_ramp` is None where it was never approached."""

    unit: str
    limit_per_minute: float
    accepted: int
    whole: float
    after_ramp: float | None


AMOUNTS: dict[str, Callable[[Second], int]] = {
    "requests": lambda second: second.requests,
    "tokens": lambda second: second.tokens,
}
"""What is counted of a second, by the unit of a limit."""


def whole_seconds(seconds: Sequence[Second], end_s: float) -> list[Second]:
    """The seconds that lie within the measurement, those without traffic filled in; in order."""
    if not seconds:
        return []
    offset = seconds[0].start_s % 1.0
    found = {round(second.start_s - offset): second for second in seconds}
    return [found.get(number) or Second(number + offset, 0, 0) for number in range(int(end_s - offset + _ROUNDING))]


def ramp_s(seconds: Sequence[Second], unit: str, limit_per_minute: float, *, end_s: float) -> float | None:
    """Seconds from the begin until a whole second brought 90 % of a limit; None where none did."""
    amount, needed = AMOUNTS[unit], RAMPED_SHARE * limit_per_minute / 60
    return next((one.start_s for one in whole_seconds(seconds, end_s) if amount(one) >= needed), None)


def utilisation(
    seconds: Sequence[Second],
    unit: str,
    limit_per_minute: float,
    *,
    end_s: float,
    ramped_at_s: float | None,
) -> Utilisation:
    """The share of one limit that was used until `end_s`, when sending ended, and from `ramped_at_s` on.

    The first counts all that was accepted over all of the time; the second whole seconds only, because the last one is
    cut short.
    """
    amount = AMOUNTS[unit]
    per_second = limit_per_minute / 60
    accepted = sum(amount(second) for second in seconds)
    steady = [] if ramped_at_s is None else [s for s in whole_seconds(seconds, end_s) if s.start_s >= ramped_at_s]
    return Utilisation(
        unit,
        limit_per_minute,
        accepted,
        accepted / (per_second * end_s) if end_s > 0 else 0.0,
        sum(map(amount, steady)) / (per_second * len(steady)) if steady else None,
    )


def binding(seconds: Sequence[Second], limits: dict[str, float]) -> str | None:
    """The limit (`requests` or `tokens`) that is used most, and so holds the traffic back; None without limits."""
    used = {unit: sum(map(AMOUNTS[unit], seconds)) / limit for unit, limit in limits.items()}
    return max(used, key=used.__getitem__, default=None)
