"""Rate limits of one endpoint, shared by every stage that uses it.

Admission has one head: the request whose turn it is waits for the request pacer, the token budget, and then for the end
of a pause, the breaker and a free slot; the rest stand in line behind it, judging before generating, first in first out
within each. So a large request is never starved by small ones, and a slot is taken when everything else is granted.

* requests: aiolimiter, unweighted, over periods of at least 50 ms; at high rates it is asked for slices of 20 ms.
* tokens: a budget of our own (aiolimiter serves the smallest amount first and knows no refund): a request reserves an
  estimate and settles with what the server counted; what was reserved too much is credit for later requests.
* in flight: a cap. Where no limit is declared, a 429 or 503 halves it and answers win it back.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque

import anyio
from aiolimiter import AsyncLimiter

from synth_async.endpoint.breaker import Breaker

__all__ = ["Limits", "Permit", "TokenBudget"]

REQUEST_MARGIN = 0.998
TOKEN_MARGIN = 0.99
"""Shares of the declared limits that are used: clocks differ, servers count on arrival (measured on five kinds)."""

_SHORTEST_PERIOD_S = 0.05
_SLICE_S = 0.02
_BURST_S = 0.1
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0


class TokenBudget:
    """Tokens per second with a small burst, FIFO by its caller; all methods take the time `now` in seconds."""

    def __init__(self, tokens_per_minute: float, now: float) -> None:
        self.rate = tokens_per_minute * TOKEN_MARGIN / 60
        self.capacity = max(1.0, self.rate * _BURST_S)
        self.credit = 0.0
        self._level = self.capacity
        self._as_of = now

    def __repr__(self) -> str:
        return f"<TokenBudget level={self._level:.0f}/{self.capacity:.0f} credit={self.credit:.0f}>"

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

    def __len__(self) -> int:
        return sum(not turn.done() for line in self._waiting for turn in line)

    async def acquire(self, priority: int) -> None:
        if not self._held:
            self._held = True
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting[priority].append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()
            raise

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

    __slots__ = ("_limits", "_open", "reserved")

    def __init__(self, limits: Limits, reserved: float) -> None:
        self._limits = limits
        self._open = True
        self.reserved = reserved

    def settle(self, used_tokens: float | None) -> None:
        """Give the slot back. None: the server counted nothing that we know of, so the reservation stands."""
        if self._open:
            self._open = False
            self._limits.close_permit(self.reserved, used_tokens)


PRIORITIES = 3


class Limits:
    """Admission to one endpoint: `await admit(...)`, send, `permit.settle(...)`."""

    def __init__(
        self, *, rpm: float | None, tpm: float | None, max_in_flight: int, breaker: Breaker, refunds: bool = True
    ) -> None:
        self.in_flight = 0
        self.max_in_flight = max_in_flight
        self.requests_sent = 0
        self.paused_s = 0.0
        self._cap = float(max_in_flight)
        self._declared = rpm is not None or tpm is not None
        self._refunds = refunds
        self._breaker = breaker
        self._line = _Line(PRIORITIES)
        self._pacer = _pacer(rpm)
        self._slice = max(1, int((rpm or 0) * REQUEST_MARGIN / 60 * _SLICE_S))
        self._granted = 0
        self._tpm = tpm
        self._budget: TokenBudget | None = None
        self._resume_at = 0.0
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
        """Seconds of the present pause that are left; 0 when there is none."""
        return max(0.0, self._resume_at - anyio.current_time())

    async def admit(self, tokens: float, priority: int) -> Permit:
        """Wait for permission to send a request that is expected to be charged `tokens`."""
        await self._line.acquire(priority)
        try:
            if self._granted == 0 and self._pacer is not None:
                await self._pacer.acquire(self._slice)
                self._granted = self._slice
            await self._reserve(tokens)
            try:
                await self._until_clear()
            except asyncio.CancelledError:
                self._give_back(tokens)
                raise
            self._granted -= 1
            self.in_flight += 1
            self.requests_sent += 1
            self._breaker.note_sent(anyio.current_time())
            return Permit(self, tokens)
        finally:
            self._line.release()

    def pause(self, hint_s: float | None) -> None:
        """A 429: everybody waits for the server's hint, or for a growing while where it gave none."""
        now = anyio.current_time()
        if self._resume_at <= now:
            self._limited_in_a_row += 1
            guess = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(self._limited_in_a_row - 1, 10))
            self._resume_at = now + (hint_s or guess)
            self.paused_s += self._resume_at - now
        elif hint_s is not None and now + hint_s > self._resume_at:
            self.paused_s += now + hint_s - self._resume_at
            self._resume_at = now + hint_s
        self.shrink()

    def shrink(self) -> None:
        """Half of what was in flight, at most once a second, where concurrency is the only limit we know.

        Called when the permit of the request that failed is settled: it was in flight as well.
        """
        now = anyio.current_time()
        if not self._declared and now - self._shrunk_at >= 1.0:
            self._shrunk_at = now
            self._cap = max(1.0, min(self._cap, self.in_flight + 1) / 2)

    def note_answered(self) -> None:
        """An answer came: pauses start small again, and the cap grows by one for every cap's worth of answers."""
        self._limited_in_a_row = 0
        if self._cap < self.max_in_flight:
            self._cap = min(self.max_in_flight, self._cap + 1 / self._cap)

    def close_permit(self, reserved: float, used: float | None) -> None:
        """A request is over (called by its permit, once)."""
        self.in_flight -= 1
        if self._budget is not None and used is not None and (self._refunds or used > reserved):
            self._budget.settle(reserved, used, anyio.current_time())
        self._changed.set()

    def _give_back(self, tokens: float) -> None:
        """A reservation that nothing was sent for."""
        if self._budget is not None:
            self._budget.settle(tokens, 0.0, anyio.current_time())

    async def _reserve(self, tokens: float) -> None:
        if self._tpm is None:
            return
        if self._budget is None:
            self._budget = TokenBudget(self._tpm, anyio.current_time())
        while (wait_s := self._budget.wait_s(tokens, anyio.current_time())) > 0:  # noqa: ASYNC110 - time alone fills it
            await anyio.sleep(wait_s)
        self._budget.reserve(tokens, anyio.current_time())

    async def _until_clear(self) -> None:
        """Wait until there is no pause, the breaker lets a request go, and a slot is free."""
        while True:
            now = anyio.current_time()
            wait_s = max(self._resume_at - now, self._breaker.wait_s(now, self.in_flight))
            if wait_s <= 0 and self.in_flight < int(self._cap):
                return
            self._changed.clear()
            with anyio.move_on_after(wait_s if wait_s > 0 else None):
                await self._changed.wait()


def _pacer(rpm: float | None) -> AsyncLimiter | None:
    """Short periods make aiolimiter exact and first in first out; a period holds at least one request."""
    if rpm is None:
        return None
    rate = rpm * REQUEST_MARGIN / 60
    period = max(_SHORTEST_PERIOD_S, 1 / rate)
    return AsyncLimiter(max(1.0, rate * period), period)
