"""Balanced draws: which values may come next so that every count stays within 1 of its share for ever."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping

__all__ = ["drawable", "shares_of"]

_ROUNDING = 1e-9
"""Shares are floats: a bound that is met to this degree is met."""


def shares_of(weights: Mapping[str, float]) -> dict[str, float]:
    """Weights as shares of 1."""
    total = sum(weights.values())
    return {value: weight / total for value, weight in weights.items()}


def drawable(shares: Mapping[str, float], counts: Mapping[str, int], number: int) -> list[str]:
    """Values that draw `number` (from 1) may bring, so that all counts can stay within 1 of their shares for ever.

    This is scheduling of unit jobs on one machine: a value's next unit may not come before its count would exceed
    share + 1, and has to come before it falls short of share - 1. Schedules exist (Tijdeman, "The chairman assignment
    problem", 1980), so only the units due soonest matter: as soon as more of them are due by some draw than there are
    draws left until then, this draw has to be one of those.
    """
    due = {value: _due(share, counts[value] + 1) for value, share in shares.items()}
    free = [value for value, share in shares.items() if counts[value] <= share * number + _ROUNDING]
    tight = _first_tight_draw(shares, counts, due, number)
    return [value for value in free if due[value] <= tight] or [min(due, key=due.__getitem__)]


def _due(share: float, unit: int) -> int:
    """The last draw at which unit `unit` of a value (from 1) may come: without it the value is short by more than 1."""
    return math.floor(unit / share + _ROUNDING) + 1


def _first_tight_draw(
    shares: Mapping[str, float], counts: Mapping[str, int], due: Mapping[str, int], number: int
) -> float:
    """The first draw by which more units are due than come after this one; infinity when there is none."""
    upcoming = [(draw, value, counts[value] + 1) for value, draw in due.items()]
    heapq.heapify(upcoming)
    units, waiting = 0, len(upcoming)
    while waiting:  # once a unit of every value has been counted, the rest fits
        draw, value, unit = upcoming[0]
        units += 1
        waiting -= unit == counts[value] + 1
        if units > draw - number:
            return draw
        heapq.heapreplace(upcoming, (_due(shares[value], unit + 1), value, unit + 1))
    return math.inf
