"""How a server charges tokens: by use, or prompt + max_tokens. Plain arithmetic over an explicit clock in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from synth_async.endpoint.headers import LimitWindow
from synth_async.endpoint.learning import Intake

__all__ = ["Accounting", "Charge", "TokenAccounting"]

Accounting = Literal["actual", "reserved"]


@dataclass(frozen=True, slots=True)
class Charge:
    """The tokens of one answered request: what was used, and prompt + max_tokens, which some servers charge instead."""

    used: float
    reserved: float


_LEAST_RATIO = 1.2
"""Reservations that are larger than the use by less than this are not worth telling apart."""

_EXPLAINED = 0.12
_WINDOW_S = 60.0
_ALONE_TOLERANCE = 0.25
_LEAST_SHARE = 0.02
_FULL = 0.98
_CLEAR = 0.3
_SPARSE = 1.25


class TokenAccounting:
    """Whether a server charges tokens by use, or prompt + max_tokens when it admits a request (as OpenAI does).

    Told by how `remaining` falls. The first request of a run is alone, so `limit - remaining` is its charge, where the
    budget was full before. Else what has fallen over a while is compared with what either way would have taken, for
    servers that refill steadily and for those that count in windows. Without headers it is taken to be by use, until a
    refusal names another amount, or comes just when reservations have used up the limit.
    """

    def __init__(self, configured: Literal["auto", "actual", "reserved"]) -> None:
        self._found: Accounting | None = None if configured == "auto" else configured
        self._is_sure = configured != "auto"
        self._answers = 0
        self._all_used = 0.0
        self._all_reserved = 0.0
        self._used = 0.0
        self._reserved = 0.0
        self._from: tuple[float, float] | None = None

    def __repr__(self) -> str:
        return f"<TokenAccounting {self._found or 'unknown'}>"

    @property
    def found(self) -> Accounting | None:
        """What is known; None before it is."""
        return self._found

    @property
    def ratio(self) -> float:
        """How many times what is used the reservations are, by all answers so far; 1 before the first."""
        return self._all_reserved / self._all_used if self._all_used > 0 else 1.0

    def note(self, charge: Charge, seen: LimitWindow | None, now: float) -> None:
        """An answer came, with what its headers said of the token limit."""
        self._all_used += charge.used
        self._all_reserved += charge.reserved
        if self._found is not None:
            return
        self._answers += 1
        if seen is None or seen.remaining is None:
            self._found = "actual" if self._answers > 1 or seen is None else None
            return
        if self._answers == 1:
            self._found = _told_by_one(charge, seen.limit - seen.remaining)
            self._is_sure = self._found is not None
        if self._from is None:
            self._from = (now, seen.remaining)
            return
        self._used += charge.used
        self._reserved += charge.reserved
        if self._found is None and self._reserved >= _LEAST_SHARE * seen.limit:
            self._found = self._told_by_many(seen, now)

    def note_refused(self, intake: Intake | None, limit_per_s: float, named: float | None, expected: float) -> bool:
        """A refusal over tokens; True where it shows that the server charges reservations, which was not thought so.

        `intake` is what was taken in, in tokens as they were thought to be charged; `named` what the refusal says the
        request asked for, and `expected` what it was thought to ask for.
        """
        if self._is_sure or self._found == "reserved" or self.ratio < _LEAST_RATIO:
            return False
        if named is not None:
            is_reserved = abs(named - expected * self.ratio) < _ALONE_TOLERANCE * expected * self.ratio
        else:
            is_reserved = intake is not None and _explained(intake, self.ratio, limit_per_s)
        if is_reserved:
            self._found, self._is_sure = "reserved", True
        return is_reserved

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


def _explained(intake: Intake, ratio: float, limit_per_s: float) -> bool:
    """Whether reservations would have used up the limit just now, whichever kind of limit it is.

    Up to the first refusal that is a window, or a bucket of a minute that was full and its refill; after one, as much
    as flows in. By use alone the limit would not have been met.
    """
    reserved = intake.units * ratio
    if intake.from_start:
        amounts = [limit_per_s * _WINDOW_S, limit_per_s * (_WINDOW_S + intake.span_s)]
    else:
        amounts = [limit_per_s * intake.span_s] if intake.is_enough else []
    return any(abs(reserved - amount) <= _EXPLAINED * amount for amount in amounts)
