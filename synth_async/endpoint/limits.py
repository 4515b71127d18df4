"""Rate limits of one endpoint, shared by every stage that uses it.

Admission has one head: the request whose turn it is waits for the request pacer, the token budget, and then for the end
of a pause, the breaker and a free slot; the rest stand in line behind it, judging before generating, first in first out
within each. So a large request is never starved by small ones, and a slot is taken only when all else is granted.

* requests: aiolimiter, unweighted, over periods of at least 50 ms; at high rates it is asked for slices of 20 ms.
* tokens: a budget of our own (aiolimiter serves the smallest amount first and knows no refund): a request reserves an
  estimate and settles with what the server counted; what was reserved too much is credit for later requests.
* in flight: a cap. Where no limit is known, it starts small, doubles with the answers, and a 429 or 503 halves it.

Both rates are those of the config, or less where the endpoint's headers or refusals say so (`endpoint.learning`).
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Literal

import anyio
from aiolimiter import AsyncLimiter
from anyio.lowlevel import checkpoint_if_cancelled

from synth_async.endpoint.breaker import Breaker
from synth_async.endpoint.headers import MINUTE_S, SeenLimits
from synth_async.endpoint.learning import Charge, RateFinder, TokenAccounting
from synth_async.errors import Busy

__all__ = ["Limits", "Permit", "TokenBudget"]

REQUEST_MARGIN = 0.998
TOKEN_MARGIN = 0.99
"""Shares of the declared limits that are used: clocks differ, servers count on arrival (measured on five kinds)."""

_SHORTEST_PERIOD_S = 0.05
_SLICE_S = 0.02
_BURST_S = 0.1
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_LONGEST_TRUSTED_S = 65.0
"""Limits are per minute: a longer hint is tried out after this long, and after twice as long each time it holds."""

_LONGEST_TRIAL_S = 1800.0
_SHORT_WAIT_S = 2.0
"""A request that may go elsewhere does so when it would have to wait longer."""

_SLOT_HINT_S = 0.5
_SLOTS_KEPT = 0.97
_FIRST_CAP = 32
_SAME_RATE = 0.002
_ROOM_TO_FIND_OUT = 0.5


class TokenBudget:
    """Tokens per second with a small burst, FIFO by its caller; all methods take the time `now` in seconds."""

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self.capacity = max(1.0, self.rate * _BURST_S)
        self.credit = 0.0
        self._level = self.capacity
        self._as_of = now

    def __repr__(self) -> str:
        return f"<TokenBudget level={self._level:.0f}/{self.capacity:.0f} credit={self.credit:.0f}>"

    def set_rate(self, rate: float, now: float) -> None:
        """Go on at another rate, in tokens per second."""
        if rate != self.rate:
            self.level(now)
            self.rate, self.capacity = rate, max(1.0, rate * _BURST_S)

    def level(self, now: float) -> float:
        """Tokens that may be spent now; negative while a large request is being paid off."""
        self._level = min(self.capacity, self._level + (now - self._as_of) * self.rate)
        self._as_of = now
        return self._level

    def wait_s(self, tokens: float, now: float) -> float:
        """Seconds until `tokens` can be reserved; a request above the burst goes when the bucket is full."""
        needed = min(tokens - self._spendable_credit(tokens), self.capacity)
        # The smallest slack keeps float rounding from asking for a wait of 1e-17 s for ever.
        return max(0.0, (needed - self.level(now)) / self.rate - 1e-9)

    def reserve(self, tokens: float, now: float) -> None:
        """Spend `tokens`, up to half of them from credit."""
        spent = self._spendable_credit(tokens)
        self.credit -= spent
        self._level = self.level(now) - (tokens - spent)

    def settle(self, reserved: float, used: float, now: float) -> None:
        """The server counted `used`: a surplus becomes credit, a shortfall is owed at once."""
        if used <= reserved:
            self.credit += reserved - used
        else:
            self._level = self.level(now) - (used - reserved)

    def _spendable_credit(self, tokens: float) -> float:
        return min(self.credit, tokens / 2)


class _Line:
    """A turnstile: one holder at a time, waiters by priority (0 first), first in first out within a priority."""

    def __init__(self, priorities: int) -> None:
        self._waiting: tuple[deque[asyncio.Future[None]], ...] = tuple(deque() for _ in range(priorities))
        self._held = False
        self._count = 0

    def __len__(self) -> int:
        return self._count

    async def acquire(self, priority: int) -> None:
        if not self._held:
            self._held = True
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting[priority].append(turn)
        self._count += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()
            raise
        finally:
            self._count -= 1

    def release(self) -> None:
        for line in self._waiting:
            while line:
                turn = line.popleft()
                if not turn.done():
                    turn.set_result(None)
                    return
        self._held = False


class Permit:
    """One admitted request; `settle` gives its slot back, with the tokens that the server counted."""

    __slots__ = ("_limits", "_open", "reserved", "sent_at")

    def __init__(self, limits: Limits, reserved: float, sent_at: float) -> None:
        self._limits = limits
        self._open = True
        self.reserved = reserved
        self.sent_at = sent_at

    def settle(self, used_tokens: float | None) -> None:
        """Give the slot back. None: the server counted nothing that we know of, so the reservation stands."""
        if self._open:
            self._open = False
            self._limits.close_permit(self.reserved, used_tokens)


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
        self.paused_s = 0.0
        self.accounting = TokenAccounting(accounting)
        self._limit_known = rpm is not None or tpm is not None
        self._cap = float(max_in_flight if self._limit_known else min(max_in_flight, _FIRST_CAP))
        self._slow_start = not self._limit_known
        self._breaker = breaker
        self._line = _Line(PRIORITIES)
        self._request_rate = RateFinder(rpm * REQUEST_MARGIN / 60 if rpm else None)
        self._token_rate = RateFinder(tpm * TOKEN_MARGIN / 60 if tpm else None)
        self._pacer: _Pacer | None = None
        self._budget: TokenBudget | None = None
        self._tokens_left: float | None = None
        self._resume_at = 0.0
        self._hinted_until = 0.0
        self._trial_after_s = _LONGEST_TRUSTED_S
        self._on_trial = False
        self._limited_in_a_row = 0
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
        now = anyio.current_time()
        return max(0.0, self._resume_at - now, self._hinted_until - now if self._on_trial else 0.0)

    @property
    def charges_reserved(self) -> bool:
        """Whether the server charges prompt + max_tokens. Before that is known: unless there is room to find it out."""
        found = self.accounting.found
        return found == "reserved" or (found is None and (self._tokens_left or 0.0) < _ROOM_TO_FIND_OUT)

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
        return max(0.0, self._resume_at - now, self._breaker.wait_s(now, self.in_flight))

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
        self.in_flight += 1
        self.requests_sent += 1
        self._request_rate.note_sent(1.0, now)
        self._token_rate.note_sent(tokens, now)
        self._breaker.note_sent(now)
        return Permit(self, tokens, now)

    async def _pace(self) -> None:
        rate = self._request_rate.rate(anyio.current_time())
        if rate is None:
            return
        if self._pacer is None or abs(self._pacer.rate - rate) > _SAME_RATE * rate:
            begun = self._pacer is not None or self.requests_sent > 0
            self._pacer = _Pacer(rate)
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
            wait_s = max(self._resume_at - now, self._breaker.wait_s(now, self.in_flight))
            has_slot = self.in_flight < int(self._cap) and not (self._on_trial and self.in_flight)
            if wait_s <= 0 and has_slot:
                return
            if not patient and (wait_s > _SHORT_WAIT_S or self._on_trial) and self._breaker.has_answered_or_failed:
                raise Busy(f"not sent: {wait_s:.0f} s to wait")
            self._changed.clear()
            with anyio.move_on_after(wait_s if wait_s > 0 else None):
                await self._changed.wait()

    # --- after it --------------------------------------------------------------------------------

    def close_permit(self, reserved: float, used: float | None) -> None:
        """A request is over (called by its permit, once)."""
        self.in_flight -= 1
        if self._budget is not None and used is not None:
            # Where the server charges reservations, a smaller use is no refund; a larger one was a wrong estimate.
            charged = max(used, reserved) if self.charges_reserved and used > 0 else used
            self._budget.settle(reserved, charged, anyio.current_time())
        self._changed.set()

    def note_answered(self, charge: Charge | None = None, seen: SeenLimits | None = None) -> None:
        """An answer came, with its tokens and what its headers say of the limits."""
        self._limited_in_a_row = 0
        self._on_trial = False
        self._hinted_until = 0.0
        self._trial_after_s = _LONGEST_TRUSTED_S
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
                finder.set_ceiling(window.limit * margin / (window.period_s or MINUTE_S))
                if not self._limit_known:
                    self._limit_known, self._slow_start, self._cap = True, False, float(self.max_in_flight)

    def note_limited(self, permit: Permit, message: str, hint_s: float | None) -> None:
        """A 429: everybody waits, and the rate that was too high goes down."""
        now = anyio.current_time()
        words = message.lower()
        is_about_tokens = self._token_rate.is_limited and ("token" in words or "tpm" in words)
        is_about_slots = "concurren" in words or "parallel" in words
        if is_about_slots:
            # A slot comes free when an answer does, not when a window ends: such a hint is looked at sooner.
            self._pause(min(hint_s or _SLOT_HINT_S, _SLOT_HINT_S), now)
            self._cap = max(1.0, min(self._cap, _SLOTS_KEPT * self.in_flight))
            self._slow_start = False
            return
        finder, units = (self._token_rate, permit.reserved) if is_about_tokens else (self._request_rate, 1.0)
        finder.note_limited(units, permit.sent_at, now)
        self._pause(hint_s, now)
        self.shrink()

    def _pause(self, hint_s: float | None, now: float) -> None:
        """Everybody waits for the server's hint, or for a growing while where it gave none.

        A hint of more than a minute is believed less the longer it is: meanwhile single requests try whether it holds.
        """
        self._hinted_until = max(self._hinted_until, now + (hint_s or 0.0))
        if self._resume_at <= now:
            self._limited_in_a_row += 1
            guess = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(self._limited_in_a_row - 1, 10))
            # A hint that was followed by nothing but refusals twice is too short.
            wait_s = max(hint_s or 0.0, guess) if self._limited_in_a_row > 2 else hint_s or guess
            if wait_s > self._trial_after_s:
                wait_s, self._on_trial = self._trial_after_s, True
                self._trial_after_s = min(2 * self._trial_after_s, _LONGEST_TRIAL_S)
            self._set_resume(now + wait_s, now)
        elif hint_s is not None and not self._on_trial:
            self._set_resume(max(self._resume_at, now + min(hint_s, self._trial_after_s)), now)

    def _set_resume(self, resume_at: float, now: float) -> None:
        self.paused_s += resume_at - max(now, self._resume_at)
        self._resume_at = resume_at

    def shrink(self) -> None:
        """Half of what was in flight, at most once a second, where concurrency is the only limit we know.

        Called when the permit of the request that failed is settled: it was in flight as well.
        """
        now = anyio.current_time()
        if not self._limit_known and now - self._shrunk_at >= 1.0:
            self._slow_start = False
            self._shrunk_at = now
            self._cap = max(1.0, min(self._cap, self.in_flight + 1) / 2)


class _Pacer:
    """aiolimiter at one rate: short periods make it exact and first in first out; each holds at least one request."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.granted = 0
        self._slice = max(1, int(rate * _SLICE_S))
        period_s = max(_SHORTEST_PERIOD_S, 1 / rate)
        self._limiter = AsyncLimiter(max(1.0, rate * period_s), period_s)

    async def acquire(self) -> None:
        """Wait for the next request's time; at high rates for a slice of them."""
        if self.granted <= 0:
            await self._limiter.acquire(self._slice)
            self.granted = self._slice

    async def fill(self) -> None:
        """Use up what the limiter holds at its start."""
        await self._limiter.acquire(self._limiter.max_rate)
