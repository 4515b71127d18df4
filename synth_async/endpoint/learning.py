"""What an endpoint allows, found out from its answers: the rate at which it stops refusing, and how it counts tokens.

Both learners are plain arithmetic over an explicit clock in seconds; `endpoint.limits` acts on what they say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from synth_async.endpoint.headers import LimitWindow

__all__ = ["Charge", "RateFinder", "TokenAccounting"]

_CUT = 0.99
"""A refusal at a rate that was thought to be allowed takes one per cent off, once a second at most."""

_DEEPEST_CUT = 0.5
_SHORTEST_CUT_S = 1.0
_ENOUGH_TAKEN = 20.0
_ENOUGH_S = 5.0
_GROWTH_PER_S = 0.01
_GROWTH_ABOVE_REFUSAL_PER_S = 0.0005
_GROWTH_DOUBLES_AFTER_S = 10.0
"""Above the rate that was refused it grows slowly at first, and faster the longer nothing was refused."""

_LEAST_USED = 1 / 16
"""A rate of which less than this share was used since the last refusal stays: nobody knows whether more is allowed."""

_NEAR_REFUSAL = 0.98
_SLOWEST = 0.05


class RateFinder:
    """Units (requests or tokens) per second that may be sent, at most `ceiling` where that is known.

    Between two refusals a server takes in just what its limit allows, whichever way it counts: a drained bucket its
    refill, a window its share. So a refusal sets the rate to what was taken in since the one before, and each takes at
    least one per cent off. From there the rate grows, quickly up to shortly below where it was refused, slowly above.
    """

    def __init__(self, ceiling: float | None) -> None:
        self._ceiling = ceiling
        self._rate = math.inf if ceiling is None else ceiling
        self._refused_rate = math.inf
        self._taken = 0.0
        self._since: float | None = None
        self._limited_at = -math.inf
        self._grown_at = 0.0

    def __repr__(self) -> str:
        return f"<RateFinder rate={self._rate:.3g}/s ceiling={self._ceiling}>"

    def set_ceiling(self, ceiling: float) -> None:
        """The server said what it allows."""
        if self._ceiling is None or ceiling < self._ceiling:
            self._ceiling = ceiling
            self._rate = min(self._rate, ceiling)

    def rate(self, now: float) -> float | None:
        """Units per second that may be sent now; None: as many as there are slots."""
        if math.isfinite(self._rate):
            self._grow(now)
        return self._rate if math.isfinite(self._rate) else None

    @property
    def is_limited(self) -> bool:
        """Whether there is a rate at all."""
        return math.isfinite(self._rate)

    def note_sent(self, units: float, now: float) -> None:
        """`units` were sent; they count as taken in until they are refused."""
        if self._since is None:
            self._since = now
        self._taken += units

    def note_limited(self, units: float, sent_at: float, now: float) -> None:
        """The server refused `units`; refusals within a second of one another change the rate once."""
        if self._since is not None and sent_at >= self._since:
            self._taken -= units
        if now - self._limited_at < _SHORTEST_CUT_S:
            return
        measured = self._measured(now)
        rate = self.rate(now)
        if rate is None:
            self._rate = measured if measured is not None else math.inf
        else:
            found = rate if measured is None else max(measured, rate * _DEEPEST_CUT)
            self._rate = min(rate * _CUT, found)
        self._rate = max(self._rate, _SLOWEST)
        self._refused_rate = self._rate
        self._limited_at = self._grown_at = self._since = now
        self._taken = 0.0

    def _measured(self, now: float) -> float | None:
        """Units per second since the last refusal, when that was long enough to tell.

        Where nothing was taken in since then, the server takes nothing at present: the pauses wait for that, and it
        says nothing of the rate.
        """
        if self._since is None or now <= self._since or self._taken <= 0:
            return None
        elapsed_s = now - self._since
        return self._taken / elapsed_s if self._taken >= _ENOUGH_TAKEN or elapsed_s >= _ENOUGH_S else None

    def _is_used(self, now: float) -> bool:
        return self._since is not None and self._taken >= _LEAST_USED * self._rate * (now - self._since)

    def _grow(self, now: float) -> None:
        elapsed_s, self._grown_at = max(0.0, now - self._grown_at), now
        near = self._refused_rate * _NEAR_REFUSAL
        if self._rate < near:
            self._rate = min(near, self._rate * (1 + _GROWTH_PER_S * elapsed_s))
        elif math.isfinite(self._refused_rate) and self._is_used(now):
            patience = 1 + max(0.0, now - self._limited_at) / _GROWTH_DOUBLES_AFTER_S
            self._rate *= 1 + _GROWTH_ABOVE_REFUSAL_PER_S * patience * elapsed_s
        if self._ceiling is not None:
            self._rate = min(self._rate, self._ceiling)


Accounting = Literal["actual", "reserved"]


@dataclass(frozen=True, slots=True)
class Charge:
    """The tokens of one answered request: what was used, and prompt + max_tokens, which some servers charge instead."""

    used: float
    reserved: float


_ALONE_TOLERANCE = 0.25
_LEAST_SHARE = 0.02
_FULL = 0.98
_CLEAR = 0.3
_SPARSE = 1.25


class TokenAccounting:
    """Whether a server charges tokens by use, or prompt + max_tokens when it admits a request (as OpenAI does).

    Told by how `remaining` falls. The first request of a run is alone, so `limit - remaining` is its charge, where the
    budget was full before. Else what has fallen over a while is compared with what either way would have taken, for
    servers that refill steadily and for those that count in windows. Without headers: by use, and refusals do the rest.
    """

    def __init__(self, configured: Literal["auto", "actual", "reserved"]) -> None:
        self._found: Accounting | None = None if configured == "auto" else configured
        self._answers = 0
        self._used = 0.0
        self._reserved = 0.0
        self._from: tuple[float, float] | None = None

    def __repr__(self) -> str:
        return f"<TokenAccounting {self._found or 'unknown'}>"

    @property
    def found(self) -> Accounting | None:
        """What is known; None before it is."""
        return self._found

    def note(self, charge: Charge, seen: LimitWindow | None, now: float) -> None:
        """An answer came, with what its headers said of the token limit."""
        if self._found is not None:
            return
        self._answers += 1
        if seen is None or seen.remaining is None:
            self._found = "actual" if self._answers > 1 or seen is None else None
            return
        if self._answers == 1:
            self._found = _told_by_one(charge, seen.limit - seen.remaining)
        if self._from is None:
            self._from = (now, seen.remaining)
            return
        self._used += charge.used
        self._reserved += charge.reserved
        if self._found is None and self._reserved >= _LEAST_SHARE * seen.limit:
            self._found = self._told_by_many(seen, now)

    def _told_by_many(self, seen: LimitWindow, now: float) -> Accounting | None:
        if self._from is None or seen.remaining is None:
            return None
        since, before = self._from
        fallen, refill = before - seen.remaining, seen.limit / 60 * (now - since)
        began_anew = fallen < 0 and -fallen > refill * 1.5
        if began_anew or refill > _SPARSE * self._reserved:
            # A window began in between; or so little was sent that a full budget hides what it took.
            self._from, self._used, self._reserved = (now, seen.remaining), 0.0, 0.0
            return None
        if seen.remaining >= _FULL * seen.limit and self._reserved - refill > (1 - _FULL) * seen.limit:
            return "actual"
        expected = {
            "actual": (self._used - refill, self._used),
            "reserved": (self._reserved - refill, self._reserved),
        }
        off = {way: min(abs(fallen - amount) for amount in amounts) for way, amounts in expected.items()}
        if off["reserved"] < min(off["actual"], _CLEAR * self._reserved):
            return "reserved"
        # Figures that fit neither way come from a limit of another kind: refusals will tell.
        return "actual"


def _told_by_one(charge: Charge, fallen: float) -> Accounting | None:
    """What one request alone tells, where the two ways differ enough and the budget was full before it."""
    if charge.reserved < 1.5 * charge.used or fallen <= 0:
        return None
    if abs(fallen - charge.reserved) <= _ALONE_TOLERANCE * charge.reserved:
        return "reserved"
    return "actual" if fallen <= charge.used * (1 + _ALONE_TOLERANCE) else None
