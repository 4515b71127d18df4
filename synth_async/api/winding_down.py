"""A run in a task of its own, so that cancelling whoever waits for it is no more than an interruption to it.

The task is asyncio's and not one of a task group: a task group cannot be open while a generator yields, and the rule
that every task has a parent holds all the same, since whoever starts it waits for its end on every way out.
"""

from __future__ import annotations

import asyncio

import anyio

from synth_async.errors import Interrupted, SynthAsyncError, UsageError
from synth_async.pipeline.run import Run

__all__ = ["raise_what_stopped", "start", "wind_down"]


def start(run: Run) -> asyncio.Task[None]:
    """The task that drives a run; raises `UsageError` where the event loop is another than asyncio's."""
    try:
        return asyncio.get_running_loop().create_task(run.drive())
    except RuntimeError:
        raise UsageError(
            "runs go on asyncio's event loop only: use asyncio.run, or anyio.run with its default backend"
        ) from None


async def wind_down(run: Run, driver: asyncio.Task[None], grace_s: float | None) -> None:
    """Stop a run as Ctrl-C does, and wait for its end; what the run raises on this way out is not told.

    The requests in flight are let finish, up to `grace_s` seconds (None: as long as they take) or until this is
    cancelled itself; then they are abandoned. Cancelled once more, it does not wait for that either.
    """
    for patience_s in (grace_s, None):
        run.interrupt(Interrupted("cancelled; the same call goes on from here"))
        if await _has_ended(driver, patience_s):
            break
    else:
        driver.cancel()
        await _has_ended(driver, None)
    if not driver.cancelled():
        driver.exception()  # looked at, so that asyncio does not report it


async def _has_ended(driver: asyncio.Task[None], patience_s: float | None) -> bool:
    """Whether the task has ended; False after `patience_s`, or when the waiting task is cancelled by hand."""
    try:
        with anyio.CancelScope(shield=True):
            await asyncio.wait([driver], timeout=patience_s)
    except asyncio.CancelledError:
        return driver.done()
    return driver.done()


def raise_what_stopped(driver: asyncio.Task[None]) -> None:
    """Raise what ended the run, if anything did: a deliberate error for itself, also where a task group wrapped it."""
    error = driver.exception()
    if error is None:
        return
    inner: BaseException = error
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    if isinstance(inner, SynthAsyncError) or not isinstance(error, BaseExceptionGroup):
        raise inner
    raise error
