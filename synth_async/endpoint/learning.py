"""The rate at which an endpoint stops refusing, found out from its refusals.

Plain arithmetic over an explicit clock in seconds; `endpoint.limits` acts on what it says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from synth_async.endpoint.strays import Strays

__all__ = ["Intake", "RateFinder"]

_CUT = 0.99
"""A refusal at a rate that was thought to be allowed takes one per cent off, once a second at most."""

_DEEPEST_CUT = 0.5
_SHORTEST_CUT_S = 1.0

_ENOUGH_REQUESTS = 20
_SOLID_S = 5.0
_SOLID_REQUESTS = 10
_LONG_S = 60.0
_RECENT_S = 70.0
"""Measured from the first refusal of so many seconds ago, or from the one before: the longer, the less noise."""

_SOLID = 0.98
"""Below what was measured, so that a server which has nothing left at a refusal has room again for a small burst."""

_PROVISIONAL = 1.1
"""What was measured over less than five seconds may be too low by its noise."""

_IDLE_BELOW = 0.8
_STEP_S = 1.0
_RECOVERY_PER_S = 0.03
_GROWTH_PER_S = 0.0005
_GROWTH_DOUBLES_AFTER_S = 10.0
"""Above the rate that was refused it grows slowly at first, and faster the longer nothing was refused."""

_LEAST_USED = 1 / 16
"""A rate of which less than this share was used since the last refusal stays: nobody knows whether more is allowed."""

_NEAR_REFUSAL = 0.98
_SLOWEST = 0.05
_RAISED_AFTER_S = 10.0
"""A higher ceiling counts when nothing lower was told for so long: servers behind one address may differ."""

_AWAY_S = 90.0
"""Limits are per minute: a server that takes in nothing for longer is not at its limit, but away."""


@dataclass(frozen=True, slots=True)
class Intake:
    """What a server took in over a while, up to now; `from_start` where that began with the first request."""

    units: float
    requests: int
    span_s: float
    from_start: bool

    @property
    def per_s(self) -> float:
        return self.units / self.span_s

    @property
    def is_enough(self) -> bool:
        """Whether it tells a rate at all."""
        return self.requests >= _ENOUGH_REQUESTS or self.is_solid

    @property
    def is_solid(self) -> bool:
        """Whether noise has averaged out."""
        return self.span_s >= _SOLID_S and (self.requests >= _SOLID_REQUESTS or self.span_s >= _LONG_S)


@dataclass(slots=True)
class _Mark:
    """All that had been taken in at the time of a refusal."""

    at: float
    units: float
    requests: int


class RateFinder:
    """Units (requests or tokens) per second that may be sent, at most `ceiling` where that is known.

    Between two refusals a server takes in just what its limit allows, whichever way it counts: a drained bucket its
    refill, a window its share. So a refusal sets the rate to what was taken in since an earlier one, and each takes at
    least one per cent off. From there the rate grows, quickly up to shortly below where it was refused, slowly above.
    Refusals that go on however low the rate is are taken as given (`endpoint.strays`).
    """

    def __init__(self, ceiling: float | None) -> None:
        self._declared = math.inf if ceiling is None else ceiling
        self._told = math.inf
        self._lower_told_at = -math.inf
        self._rate = self._declared
        self._refused_rate = math.inf
        self._units = 0.0
        self._requests = 0
        self._marks: list[_Mark] = []
        self._steps: list[_Mark] = []
        self._is_from_start = True
        self._is_measured = ceiling is not None
        self._limited_at = -math.inf
        self._grown_at = 0.0
        self._strays = Strays()

    def __repr__(self) -> str:
        return f"<RateFinder rate={self._rate:.3g}/s ceiling={self.ceiling}>"

    @property
    def ceiling(self) -> float | None:
        """Units per second, by the config or the server's own words, whichever is less; None where neither says."""
        least = min(self._declared, self._told)
        return least if math.isfinite(least) else None

    def set_ceiling(self, ceiling: float, now: float) -> None:
        """The server said what it allows; that it allows more counts when it has said so for a while."""
        if ceiling <= self._told:
            self._told, self._lower_told_at = ceiling, now
        elif now - self._lower_told_at >= _RAISED_AFTER_S:
            was_full = self._rate >= min(self._declared, self._told) and not math.isfinite(self._refused_rate)
            self._told = ceiling
            self._rate = min(self._declared, ceiling) if was_full else self._rate
        self._rate = min(self._rate, self._told)

    def forget_refusals(self, now: float) -> None:
        """Begin again at the ceiling: what was refused had another cause."""
        self._rate, self._refused_rate = min(self._declared, self._told), math.inf
        self._mark(now)
        self._marks = self._marks[-1:]
        self._limited_at = self._grown_at = now

    def rate(self, now: float) -> float | None:
        """Units per second that may be sent now; None: as many as there are slots."""
        if math.isfinite(self._rate):
            self._grow(now)
        return self._rate if math.isfinite(self._rate) else None

    def learnt(self, now: float) -> float | None:
        """The rate, where it is not the declared one."""
        rate = self.rate(now)
        return rate if rate is not None and rate < self._declared else None

    @property
    def is_limited(self) -> bool:
        """Whether there is a rate at all."""
        return math.isfinite(self._rate)

    def note_sent(self, units: float, now: float) -> None:
        """`units` were sent; they count as taken in until they are refused."""
        if not self._marks:
            self._mark(now)
        if not self._steps or now - self._steps[-1].at >= _STEP_S:
            self._steps = [step for step in self._steps if now - step.at <= _LONG_S]
            self._steps.append(_Mark(now, self._units, self._requests))
        self._units += units
        self._requests += 1
        self._strays.note_sent()

    def note_not_taken(self, units: float, sent_at: float, now: float) -> None:
        """`units` were refused, which alone says nothing of the rate: the pauses wait for the end of such times."""
        self._units -= units
        self._requests -= 1
        for mark in (*self._marks, *self._steps):
            # What was sent before an earlier refusal is not taken off what came after that.
            if sent_at < mark.at:
                mark.units -= units
                mark.requests -= 1
        if self._marks and now - self._marks[-1].at > _AWAY_S and self._units <= self._marks[-1].units:
            self._mark(now)
            self._marks = self._marks[-1:]

    def note_limited(self, units: float, sent_at: float, now: float) -> bool:
        """The server refused `units` although it takes others; whether that says something about the rate.

        Then it was too high. Refusals within a second of one another change it once.
        """
        self.note_not_taken(units, sent_at, now)
        if self._strays.explain():
            return False
        if now - self._limited_at < _SHORTEST_CUT_S:
            return True
        rate, before = self.rate(now), self._marks[-1] if self._marks else _Mark(now, self._units, self._requests)
        self._lower(rate, self.intake(now), now)
        self._mark(now)
        self._is_from_start = False
        self._limited_at = self._grown_at = now
        allowed = self._strays.note_cut(
            math.inf if rate is None else rate,
            self._rate,
            taken=self._units - before.units,
            elapsed_s=now - before.at,
        )
        if allowed is not None:
            self._rate = min(allowed, self._declared, self._told)
            self._refused_rate = allowed
        return allowed is None

    def intake(self, now: float) -> Intake | None:
        """What was taken in since an earlier refusal, or since the start; None when that is right now."""
        if not self._marks:
            return None
        recent = [mark for mark in self._marks if now - mark.at <= _RECENT_S]
        mark = recent[0] if recent else self._marks[-1]
        return self._since(mark, now)

    def _since(self, mark: _Mark, now: float) -> Intake | None:
        if now <= mark.at or self._units <= mark.units:
            return None
        return Intake(self._units - mark.units, self._requests - mark.requests, now - mark.at, self._is_from_start)

    def used_share(self, now: float) -> float:
        """The share of the rate that was taken in lately."""
        intake = self.intake(now)
        return intake.per_s / self._rate if intake is not None else 0.0

    def _lower(self, rate: float | None, intake: Intake | None, now: float) -> None:
        if rate is None:
            if intake is not None and intake.is_enough:
                # Speed picks up at the start: it is the last second or two that were too much.
                lately = [self._since(step, now) for step in self._steps[-2:] if now - step.at >= _STEP_S / 2]
                self._rate = max(_SLOWEST, intake.per_s, *(one.per_s for one in lately if one is not None))
                self._refused_rate = self._rate
            return
        found, solid = rate, False
        if intake is not None and intake.is_enough:
            intake = self._unless_idle(intake, now)
            # Far below what was thought, it takes a minute to tell the limit from an idle while, or from a debt.
            is_near = intake.per_s >= rate * _DEEPEST_CUT
            solid = intake.is_solid and not intake.from_start and (is_near or intake.span_s >= _LONG_S)
            is_first = not self._is_measured and not intake.from_start and intake.span_s <= _AWAY_S
            least = 0.0 if is_first else rate * _DEEPEST_CUT
            measured = (
                intake.per_s * _SOLID if solid else max(intake.per_s * _PROVISIONAL, self._per_s_of_a_minute(now))
            )
            found = max(measured, least)
        self._rate = max(_SLOWEST, min(rate * _CUT, found))
        self._refused_rate = self._rate if solid else min(self._refused_rate, rate)
        self._is_measured = self._is_measured or solid

    def _unless_idle(self, intake: Intake, now: float) -> Intake:
        """What was taken in during the last minute, where that is far more a second than in a longer span before now.

        Then that had an idle while in it, or one of waiting for a sliding window to forget a burst.
        """
        per_s = self._per_s_of_a_minute(now)
        if intake.span_s <= _LONG_S or intake.per_s >= _IDLE_BELOW * per_s:
            return intake
        return Intake(per_s * _LONG_S, intake.requests, _LONG_S, intake.from_start)

    def _per_s_of_a_minute(self, now: float) -> float:
        """Units per second over the last minute, or as if the time before the start had belonged to it.

        A limit per minute allows no less, however long the server was closed in between.
        """
        first = next((step for step in self._steps if now - step.at <= _LONG_S), None)
        return (self._units - first.units) / _LONG_S if first is not None else 0.0

    def _mark(self, now: float) -> None:
        self._marks = [mark for mark in self._marks if now - mark.at <= _RECENT_S and not self._is_from_start]
        self._marks.append(_Mark(now, self._units, self._requests))

    def _is_used(self, now: float) -> bool:
        mark = self._marks[-1] if self._marks else None
        return mark is not None and self._units - mark.units >= _LEAST_USED * self._rate * (now - mark.at)

    def _grow(self, now: float) -> None:
        elapsed_s, self._grown_at = max(0.0, now - self._grown_at), now
        near = self._refused_rate * _NEAR_REFUSAL
        if self._rate < near:
            self._rate = min(near, self._rate * (1 + _RECOVERY_PER_S * elapsed_s))
        elif math.isfinite(self._refused_rate) and self._is_used(now):
            patience = 1 + max(0.0, now - self._limited_at) / _GROWTH_DOUBLES_AFTER_S
            self._rate *= 1 + _GROWTH_PER_S * patience * elapsed_s
        self._rate = min(self._rate, self._declared, self._told)
