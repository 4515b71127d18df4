"""Who is next, and when: the line in front of an endpoint, and the pace at which it moves."""

from __future__ import annotations

import asyncio
from collections import deque

from aiolimiter import AsyncLimiter

__all__ = ["Line", "Pacer"]

_SHORTEST_PERIOD_S = 0.05
_SLICE_S = 0.02
_SAME_RATE = 0.002


class Line:
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


class Pacer:
    """aiolimiter at one rate: short periods make it exact and first in first out; each holds at least one request."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.granted = 0
        self._slice = max(1, int(rate * _SLICE_S))
        period_s = max(_SHORTEST_PERIOD_S, 1 / rate)
        self._limiter = AsyncLimiter(max(1.0, rate * period_s), period_s)

    def keeps(self, rate: float) -> bool:
        """Whether this is the pace for `rate`, near enough."""
        return abs(self.rate - rate) <= _SAME_RATE * rate

    async def acquire(self) -> None:
        """Wait for the next request's time; at high rates for a slice of them."""
        if self.granted <= 0:
            await self._limiter.acquire(self._slice)
            self.granted = self._slice

    async def fill(self) -> None:
        """Use up what the limiter holds at its start."""
        await self._limiter.acquire(self._limiter.max_rate)
