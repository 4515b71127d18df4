"""What a run notices about itself: that it stood still for long, and that nothing happens any more.

Whether a machine slept (a closed lid, a paused virtual machine, SIGSTOP) shows in a tick that comes late by a clock
which goes on meanwhile. The tick is a timer's callback and not a task: of all that fell due during the sleep it comes
first, so deadlines can be moved before they cut off what was answered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import anyio

from synth_async.config.models import Config

__all__ = ["SleepWatch", "StallWatch", "clock_through_sleep_s", "patience_s", "watch_for_sleep", "watch_for_stall"]

TICK_S = 1.0
LONG_SLEEP_S = 60.0
"""A connection outlives less than that: keep-alive spans and the tables of routers begin at a minute."""

_LOOK_EVERY_S = 5.0
_MARGIN_S = 60.0


def clock_through_sleep_s() -> float:
    """Seconds of a clock that also runs while the machine sleeps, and that nobody sets."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class SleepWatch:
    """Reads a clock once a tick, and knows from a late one how long nothing ran."""

    def __init__(self, now_s: float) -> None:
        self._last_s = now_s

    def tick(self, now_s: float) -> float:
        """Seconds that were slept since the last tick; 0 for less than a minute."""
        slept_s = now_s - self._last_s - TICK_S
        self._last_s = now_s
        return slept_s if slept_s >= LONG_SLEEP_S else 0.0


class StallWatch:
    """Knows for how long nothing has happened that ought to."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._happened: object = None
        self._since_s = 0.0
        self._told_after_s = patience_s

    def look(self, now_s: float, happened: object, *, waits: bool) -> float:
        """Seconds of a stall that is to be told now, else 0: first after the patience, then after twice as long each.

        `happened` is equal to the last one when nothing did; `waits` when there is a known reason for that.
        """
        if waits or happened != self._happened:
            self._happened, self._since_s, self._told_after_s = happened, now_s, self._patience_s
        stalled_s = now_s - self._since_s
        if stalled_s < self._told_after_s:
            return 0.0
        self._told_after_s = 2 * stalled_s
        return stalled_s


def patience_s(config: Config) -> float:
    """How long a sound run may be silent: the longest answer, the widest gap between two requests, and a minute."""
    endpoints = config.endpoints.values()
    return max(each.timeout_s + (60 / each.rpm if each.rpm else 0.0) for each in endpoints) + _MARGIN_S


async def watch_for_sleep(
    on_sleep: Callable[[float], None], clock_s: Callable[[], float] = clock_through_sleep_s
) -> None:
    """Call `on_sleep` with the seconds after every sleep of more than a minute, until cancelled."""
    loop, watch = asyncio.get_running_loop(), SleepWatch(clock_s())
    timer: asyncio.TimerHandle | None = None

    def tick() -> None:
        nonlocal timer
        timer = loop.call_later(TICK_S, tick)
        if (slept_s := watch.tick(clock_s())) > 0:
            on_sleep(slept_s)

    timer = loop.call_later(TICK_S, tick)
    try:
        await anyio.sleep_forever()
    finally:
        timer.cancel()


async def watch_for_stall(
    look: Callable[[], tuple[object, bool]], on_stall: Callable[[float], None], patience_s: float
) -> None:
    """Call `on_stall` with the seconds for which `look` (what happened, whether it waits) has told nothing new."""
    watch = StallWatch(patience_s)
    while True:
        happened, waits = look()
        if (stalled_s := watch.look(anyio.current_time(), happened, waits=waits)) > 0:
            on_stall(stalled_s)
        await anyio.sleep(_LOOK_EVERY_S)
