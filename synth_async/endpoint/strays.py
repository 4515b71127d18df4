"""Refusals that come whatever the rate is, told from those of a limit.

Some servers answer 429 to one request in a hundred because a machine behind them is busy. Each would take its per cent
off the rate, down to a fraction of what is allowed. A limit shows otherwise: it lets in no more than it allows, and
once the rate is below that, refusals end. So single refusals of a server that takes in what it is sent, and goes on
with them while the rate falls and falls, are no limit's, and from then on as many of them are taken as given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Strays"]

_TAKEN_IN = 0.8
_FALLEN_TO = 0.7
"""A server that took in so much of a rate may have its limit a quarter below that; this is below that limit, too."""

_CUTS = 6
_DEEP = 0.85
"""A cut that takes more than the rest off was measured: that is what a limit which fell looks like."""

_SINGLE_SHARE = 0.05
_SINGLE_BY_CHANCE = 3

_REMEMBERED = 200
_ALLOWED, _ALLOWED_SHARES = 3.0, 3.0
"""So many refusals, and so many times the known share, are chance; beyond that there is a limit as well."""


@dataclass(slots=True)
class _Series:
    """Refusals since the one at the rate `top`; `before` was the rate then, infinite where there was none.

    `sendable` are the units that the rate allowed since then, `taken` those that the server took in.
    """

    before: float
    top: float
    cuts: int = 1
    requests: int = 0
    refused: int = 0
    sendable: float = 0.0
    taken: float = 0.0

    @property
    def is_of_no_limit(self) -> bool:
        is_single = self.refused <= _SINGLE_BY_CHANCE + _SINGLE_SHARE * self.requests
        return is_single and self.taken >= _TAKEN_IN * self.sendable


class Strays:
    """Looks at the refusals of one rate. `share` of the requests are refused at random, as far as is known."""

    def __init__(self) -> None:
        self.share = 0.0
        self._requests = 0.0
        self._refused = 0.0
        self._requests_since = 0
        self._refused_since = 0
        self._series: _Series | None = None

    def note_sent(self) -> None:
        """A request was sent."""
        self._requests_since += 1
        self._requests += 1
        if self._requests > _REMEMBERED:
            self._requests, self._refused = self._requests / 2, self._refused / 2

    def explain(self) -> bool:
        """A request was refused: whether that is no more than what comes at random."""
        self._refused += 1
        self._refused_since += 1
        return self.share > 0 and self._refused <= _ALLOWED + _ALLOWED_SHARES * self.share * self._requests

    def note_cut(self, rate: float, lowered: float, *, taken: float, elapsed_s: float) -> float | None:
        """A refusal took the rate (infinite where there was none) from `rate` to `lowered`.

        `taken` units were taken in since the refusal before, `elapsed_s` ago. Gives the rate to go back to, where a
        series of refusals shows that no limit was meant; else None.
        """
        requests, refused = self._requests_since, self._refused_since
        self._requests_since = self._refused_since = 0
        self._refused = 0.0
        series = self._series
        if lowered < _DEEP * rate and math.isfinite(rate):
            self._series = _Series(before=lowered, top=lowered)
            return None
        if series is None or series.top < rate:
            self._begin(rate, lowered)
            return None
        series.cuts += 1
        series.requests += requests
        series.refused += refused
        series.taken += taken
        series.sendable += rate * elapsed_s
        if not series.is_of_no_limit:
            self._begin(rate, lowered)
        elif series.cuts >= _CUTS and lowered <= _FALLEN_TO * series.top:
            self._series = None
            self.share = max(self.share, series.refused / series.requests)
            return series.before
        return None

    def _begin(self, rate: float, lowered: float) -> None:
        self._series = _Series(before=rate, top=rate if math.isfinite(rate) else lowered)
