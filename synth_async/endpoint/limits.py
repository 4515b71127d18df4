"""Rate limits of one endpoint, shared by every stage that uses it.

Admission has one head: the request whose turn it is waits for the request pacer, the token budget, and then for the end
of a pause, the breaker and a free slot; the rest stand in line behind it, judging before generating, first in first out
within each. So a large request is never starved by small ones, and a slot is taken only when all else is granted.

* requests: aiolimiter, unweighted, over periods of at least 50 ms; at high rates it is asked for slices of 20 ms.
* tokens: a budget of our own (aiolimiter serves the smallest amount first and knows no refund): a request reserves an
  estimate and settles with what the server counted; what was reserved too much is credit for later requests.
* in flight: a cap. Where no limit is known, it starts small, doubles with the answers, and a 503 or a 429 that tells no
  rate halves it.

Both rates are those of the config, or less where the endpoint's headers or refusals say so (`endpoint.learning`); how
tokens are charged is found out by `endpoint.accounting`, and how long a refusal holds everybody by `endpoint.pauses`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Literal

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from synth_async.endpoint.accounting import Charge, TokenAccounting
from synth_async.endpoint.breaker import Breaker
from synth_async.endpoint.budget import TokenBudget
from synth_async.endpoint.headers import MINUTE_S, RefusedLimit, SeenLimits, read_refusal
from synth_async.endpoint.learning import RateFinder
from synth_async.endpoint.pacing import Line, Pacer
from synth_async.endpoint.pauses import Pauses
from synth_async.errors import Busy

__all__ = ["Limits", "Permit"]

REQUEST_MARGIN = 0.998
TOKEN_MARGIN = 0.99
"""Shares of the declared limits that are used: clocks differ, servers count on arrival (measured on five kinds)."""

_SHORT_WAIT_S = 2.0
"""A request that may go elsewhere does so when it would have to wait longer."""

_ABOUT_REQUESTS = ("rpm", "requests per", "for requests", "on requests")
_SLOT_HINT_S = 0.5
_SLOTS_KEPT = 0.97
_FIRST_CAP = 32
_ROOM_TO_FIND_OUT = 0.5


class Permit:
    """One admitted request; `settle` gives its slot back, with the tokens that the server counted."""

    __slots__ = ("_limits", "_open", "number", "reserved", "sent_at")

    def __init__(self, limits: Limits, number: int, reserved: float, sent_at: float) -> None:
        self._limits = limits
        self._open = True
        self.number = number
        self.reserved = reserved
        self.sent_at = sent_at

    def settle(self, used_tokens: float | None) -> None:
        """Give the slot back. None: the server counted nothing that we know of, so the reservation stands."""
        if self._open:
            self._open = False
            self._limits.close_permit(self, used_tokens)


PRIORITIES = 3


class Limits:
    """Admission to one endpoint: `await admit(...)`, send, `permit.settle(...)`, and tell what the answer said."""

    def __init__(
        self,
        *,
        rpm: float | None,
        tpm: float | None,
        max_in_flight: int,
        breaker: Breaker,
        accounting: Literal["auto", "actual", "reserved"] = "auto",
    ) -> None:
        self.in_flight = 0
        self.max_in_flight = max_in_flight
        self.requests_sent = 0
        self.accounting = TokenAccounting(accounting)
        self._limit_known = rpm is not None or tpm is not None
        self._cap = float(max_in_flight if self._limit_known else min(max_in_flight, _FIRST_CAP))
        self._slow_start = not self._limit_known
        self._breaker = breaker
        self._line = Line(PRIORITIES)
        self._request_rate = RateFinder(rpm * REQUEST_MARGIN / 60 if rpm else None)
        self._token_rate = RateFinder(tpm * TOKEN_MARGIN / 60 if tpm else None)
        self._pacer: Pacer | None = None
        self._budget: TokenBudget | None = None
        self._tokens_left: float | None = None
        self._pauses = Pauses()
        self._shrunk_at = -math.inf
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Limits in_flight={self.in_flight}/{self._cap:.0f} waiting={len(self._line)} {self._breaker!r}>"

    @property
    def cap(self) -> int:
        """Requests that may be in flight now: `max_in_flight`, or less while the endpoint asks for less."""
        return int(self._cap)

    @property
    def pause_left_s(self) -> float:
        """Seconds of the pause that the endpoint asked for that are left; 0 when there is none."""
        return self._pauses.left_s(anyio.current_time())

    @property
    def paused_s(self) -> float:
        """Seconds of all pauses so far."""
        return self._pauses.total_s

    @property
    def per_minute(self) -> dict[str, float]:
        """Requests and tokens a minute that the config or the server's own words allow, as far as they are known."""
        ceilings = {"requests": (self._request_rate, REQUEST_MARGIN), "tokens": (self._token_rate, TOKEN_MARGIN)}
        return {
            unit: round(60 * finder.ceiling / margin, 3)
            for unit, (finder, margin) in ceilings.items()
            if finder.ceiling is not None
        }

    @property
    def charges_reserved(self) -> bool:
        """Whether the server charges prompt + max_tokens. Before that is known: unless there is room to find it out."""
        found = self.accounting.found
        return found == "reserved" or (found is None and (self._tokens_left or 0.0) < _ROOM_TO_FIND_OUT)

    def learnt(self) -> tuple[float | None, float | None, int | None]:
        """(requests, tokens per minute, slots): what the endpoint allows, None where that is what was declared."""
        now = anyio.current_time()
        rates = (finder.learnt(now) for finder in (self._request_rate, self._token_rate))
        requests, tokens = (60 * rate if rate is not None else None for rate in rates)
        return requests, tokens, None if self._slow_start or self.cap == self.max_in_flight else self.cap

    # --- before a request ------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Requests in line."""
        return len(self._line)

    def per_second(self, mean_tokens: float, mean_latency_s: float) -> float | None:
        """Requests a second that can be sent, by the rates and slots that are known; None while nothing is."""
        now = anyio.current_time()
        requests, tokens = self._request_rate.rate(now), self._token_rate.rate(now)
        known = [requests] if requests is not None else []
        known += [tokens / mean_tokens] if tokens is not None and mean_tokens > 0 else []
        known += [self._cap / mean_latency_s] if mean_latency_s > 0 else []
        return min(known, default=None)

    def away_s(self) -> float:
        """Seconds until a request could be sent, as far as pauses and the breaker go; 0 when it could be now."""
        now = anyio.current_time()
        return max(self._pauses.wait_s(now), self._breaker.wait_s(now, self.in_flight))

    async def admit(self, tokens: float | Callable[[], float], priority: int, *, patient: bool = True) -> Permit:
        """Wait for permission to send a request that is expected to be charged `tokens`, asked when its turn comes.

        One that is not `patient` raises `Busy` where the endpoint is away or in a pause, to be taken elsewhere.
        """
        # Where nothing has to be waited for, nothing below lets a stop of the run through.
        await checkpoint_if_cancelled()
        await self._line.acquire(priority)
        try:
            await self._pace()
            expected = tokens() if callable(tokens) else tokens
            await self._reserve(expected)
            try:
                await self._until_clear(patient=patient)
            except (asyncio.CancelledError, Busy):
                self._give_back(expected)
                raise
            return self._sent(expected)
        finally:
            self._line.release()

    def _sent(self, tokens: float) -> Permit:
        now = anyio.current_time()
        if self._pacer is not None:
            self._pacer.granted -= 1
        permit = Permit(self, self.requests_sent, tokens, now)
        self.in_flight += 1
        self.requests_sent += 1
        self._pauses.note_sent(now)
        self._request_rate.note_sent(1.0, now)
        self._token_rate.note_sent(tokens, now)
        self._breaker.note_sent(now)
        return permit

    async def _pace(self) -> None:
        rate = self._request_rate.rate(anyio.current_time())
        if rate is None:
            return
        if self._pacer is None or not self._pacer.keeps(rate):
            begun = self._pacer is not None or self.requests_sent > 0
            self._pacer = Pacer(rate)
            if begun:
                # A changed rate is a new limiter; it begins full, so that a change is no occasion for a burst.
                await self._pacer.fill()
        await self._pacer.acquire()

    async def _reserve(self, tokens: float) -> None:
        rate = self._token_rate.rate(anyio.current_time())
        if rate is None:
            return
        if self._budget is None:
            self._budget = TokenBudget(rate, anyio.current_time())
        self._budget.set_rate(rate, anyio.current_time())
        while (wait_s := self._budget.wait_s(tokens, anyio.current_time())) > 0:  # noqa: ASYNC110 - time alone fills it
            await anyio.sleep(wait_s)
        self._budget.reserve(tokens, anyio.current_time())

    def _give_back(self, tokens: float) -> None:
        """A reservation that nothing was sent for."""
        if self._budget is not None:
            self._budget.settle(tokens, 0.0, anyio.current_time())

    async def _until_clear(self, *, patient: bool) -> None:
        """Wait until there is no pause, the breaker lets a request go, and a slot is free."""
        while True:
            now = anyio.current_time()
            wait_s = max(self._pauses.wait_s(now), self._breaker.wait_s(now, self.in_flight))
            if wait_s <= 0 and self.in_flight < int(self._cap):
                return
            if (
                not patient
                and (wait_s > _SHORT_WAIT_S or self._pauses.is_trial)
                and self._breaker.has_answered_or_failed
            ):
                raise Busy(f"not sent: {wait_s:.0f} s to wait")
            self._changed.clear()
            with anyio.move_on_after(wait_s if wait_s > 0 else None):
                await self._changed.wait()

    # --- after it --------------------------------------------------------------------------------

    def close_permit(self, permit: Permit, used: float | None) -> None:
        """A request is over (called by its permit, once)."""
        self.in_flight -= 1
        self._pauses.note_over(permit.number)
        if self._budget is not None and used is not None:
            # Where the server charges reservations, a smaller use is no refund; a larger one was a wrong estimate.
            charged = max(used, permit.reserved) if self.charges_reserved and used > 0 else used
            self._budget.settle(permit.reserved, charged, anyio.current_time())
        self._changed.set()

    def note_answered(self, permit: Permit, charge: Charge | None = None, seen: SeenLimits | None = None) -> None:
        """An answer came, with its tokens and what its headers say of the limits."""
        self._pauses.note_answered(permit.number, anyio.current_time())
        if self._cap < self.max_in_flight:
            self._cap = min(self.max_in_flight, self._cap + (1.0 if self._slow_start else 1 / self._cap))
        if charge is None or seen is None:
            return
        if seen.tokens is not None and seen.tokens.remaining is not None:
            self._tokens_left = seen.tokens.remaining / seen.tokens.limit
        self.accounting.note(charge, seen.tokens, anyio.current_time())
        self._learn_ceilings(seen)

    def _learn_ceilings(self, seen: SeenLimits) -> None:
        """The rate is the config's or the headers', whichever is less."""
        for window, finder, margin in (
            (seen.requests, self._request_rate, REQUEST_MARGIN),
            (seen.tokens, self._token_rate, TOKEN_MARGIN),
        ):
            # A limit per day is no pace: it is met by a refusal, and waited for.
            if window is not None and (window.period_s or MINUTE_S) <= MINUTE_S:
                finder.set_ceiling(window.limit * margin / (window.period_s or MINUTE_S), anyio.current_time())
                if not self._limit_known:
                    self._limit_known, self._slow_start, self._cap = True, False, float(self.max_in_flight)

    def note_limited(self, permit: Permit, message: str, hint_s: float | None) -> None:
        """A 429: everybody waits, and the rate that was too high goes down."""
        now, words = anyio.current_time(), message.lower()
        is_about_slots = "concurren" in words or "parallel" in words
        if is_about_slots:
            # A slot comes free when an answer does, not when a window ends: such a hint is looked at sooner.
            self._pauses.note_refused(permit.number, self.requests_sent, min(hint_s or _SLOT_HINT_S, _SLOT_HINT_S), now)
            self._cap = max(1.0, min(self._cap, _SLOTS_KEPT * self.in_flight))
            self._slow_start = False
            return
        is_news = self._pauses.is_news(permit.number)
        self._pauses.note_refused(permit.number, self.requests_sent, hint_s, now)
        had_rate = self._has_rate
        if self._learn_from_refusal(permit, words, now, is_news=is_news) and not had_rate:
            self.shrink()
            # Where the refusal told a rate, that is what holds us back from here on, and slots are not.
            self._slow_start = self._has_rate

    @property
    def _has_rate(self) -> bool:
        return self._request_rate.is_limited or self._token_rate.is_limited

    def _learn_from_refusal(self, permit: Permit, words: str, now: float, *, is_news: bool) -> bool:
        """Whether it says something about a limit: some servers refuse a request now and then, whatever the rate."""
        told = read_refusal(words)
        if told is not None:
            self._learn_ceilings(told.as_seen)
        finders = ((self._token_rate, permit.reserved), (self._request_rate, 1.0))
        too_fast = self._refused_finder(words, now) if is_news else None
        is_limit = True
        for finder, units in finders:
            if finder is too_fast and not self._reserves_after_all(permit, words, told, now):
                is_limit = finder.note_limited(units, permit.sent_at, now)
            else:
                finder.note_not_taken(units, permit.sent_at, now)
        return is_limit

    def _refused_finder(self, words: str, now: float) -> RateFinder:
        """The rate that a refusal is about: by its words, or else the one of which more is used."""
        if not self._token_rate.is_limited:
            return self._request_rate
        if "token" in words or "tpm" in words:
            return self._token_rate
        if any(mark in words for mark in _ABOUT_REQUESTS):
            return self._request_rate
        return max(self._token_rate, self._request_rate, key=lambda finder: finder.used_share(now))

    def _reserves_after_all(self, permit: Permit, words: str, told: RefusedLimit | None, now: float) -> bool:
        """Whether a refusal shows that tokens are charged as they are reserved; then the token rate begins anew."""
        ceiling = self._token_rate.ceiling
        if ceiling is None or any(mark in words for mark in _ABOUT_REQUESTS):
            return False
        # Where nothing waits, or slots are what is waited for, it is not the tokens that are used up.
        is_busy = self.waiting > 0 and self.in_flight < int(self._cap)
        intake = self._token_rate.intake(now) if is_busy else None
        named = told.requested if told is not None and told.kind == "tokens" else None
        if not self.accounting.note_refused(intake, ceiling / TOKEN_MARGIN, named, permit.reserved):
            return False
        self._token_rate.forget_refusals(now)
        if self._budget is not None:
            self._budget.drain(now)
        return True

    def shrink(self) -> None:
        """Half of what was in flight, at most once a second, where concurrency is the only limit we know.

        Called when the permit of the request that failed is settled: it was in flight as well.
        """
        now = anyio.current_time()
        if not self._limit_known and now - self._shrunk_at >= 1.0:
            self._slow_start = False
            self._shrunk_at = now
            self._cap = max(1.0, min(self._cap, self.in_flight + 1) / 2)
