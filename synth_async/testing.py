"""Fakes for tests of what is built on this package: a scripted endpoint, and a clock that jumps.

`ScriptedClient` keeps the contract of `endpoint.client.ChatClient` without a network. `run_in_virtual_time` runs a
coroutine on an event loop that never sleeps: when nothing can run, its clock jumps to the next timer, so that hours of
limits, backoff and pauses pass in milliseconds and always in the same order.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, TypeVarTuple

import anyio
import httpx2
import orjson

from synth_async.endpoint.client import HttpAnswer

__all__ = ["Delayed", "ScriptedClient", "Step", "chat_body", "run_in_virtual_time", "stand_still"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_TICK_S = 1e-9
"""What a turn of the loop takes: without it, a timer that rounding puts a hair early would be set again for ever."""

_THREAD_PATIENCE_S = 5.0


# --- a scripted endpoint -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Delayed:
    """A step of a script that comes after `delay_s` seconds (of the event loop's clock)."""

    step: bytes | HttpAnswer | BaseException
    delay_s: float


Step = bytes | HttpAnswer | BaseException | Delayed
"""A 200 body, a whole answer, or an error to raise; `Delayed` to let it take its time."""


def chat_body(
    content: str | None,
    *,
    model: str = "scripted",
    finish_reason: str = "stop",
    prompt_tokens: int = 20,
    completion_tokens: int = 10,
    **more: Any,
) -> bytes:
    """The bytes of a chat completion with one choice; `more` are further top-level keys."""
    return orjson.dumps(
        {
            "id": "chatcmpl-scripted",
            "object": "chat.completion",
            "model": model,
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish_reason}
            ],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "total_tokens": prompt_tokens + completion_tokens,
            },
            **more,
        }
    )


class ScriptedClient:
    """A `ChatClient` that answers from a script: one step a request, or a function from the request's body to a step.

    `bodies` are the requests in the order of their arrival; `in_flight` and `most_in_flight` count the open ones,
    `cancelled` those that were cut off, `renewals` how often new connections were asked for. A request after the last
    step raises `AssertionError`.
    """

    def __init__(self, script: Iterable[Step] | Callable[[dict[str, Any]], Step], *, delay_s: float = 0.0) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.cancelled = 0
        self.renewals = 0
        self.is_closed = False
        self._delay_s = delay_s
        self._answer = script if callable(script) else _in_order(script)

    def __repr__(self) -> str:
        return f"<ScriptedClient requests={len(self.bodies)} in_flight={self.in_flight}>"

    async def post(self, body: bytes) -> HttpAnswer:
        """The next step of the script."""
        request: dict[str, Any] = orjson.loads(body)
        self.bodies.append(request)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._play(self._answer(request))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.in_flight -= 1

    def renew(self) -> None:
        """Count it."""
        self.renewals += 1

    async def aclose(self) -> None:
        """Remember that it was closed."""
        self.is_closed = True

    async def _play(self, step: Step) -> HttpAnswer:
        delayed = step if isinstance(step, Delayed) else Delayed(step, self._delay_s)
        await anyio.sleep(delayed.delay_s)
        if isinstance(delayed.step, BaseException):
            raise delayed.step
        if isinstance(delayed.step, HttpAnswer):
            return delayed.step
        return HttpAnswer(delayed.step, httpx2.Headers(), delayed.delay_s)


def _in_order(script: Iterable[Step]) -> Callable[[Mapping[str, Any]], Step]:
    steps = iter(script)

    def answer(_request: Mapping[str, Any]) -> Step:
        for step in steps:
            return step
        raise AssertionError("a request came after the last step of the script")

    return answer


# --- a clock that jumps --------------------------------------------------------------------------


class _JumpingSelector(selectors.DefaultSelector):
    """Reports what is ready now; in place of waiting it moves the clock on."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        self.now_s += _TICK_S
        if ready or timeout == 0:
            return ready
        if timeout is not None:
            self.now_s += max(0.0, timeout)
            return ready
        if threading.active_count() > 1:
            ready = super().select(_THREAD_PATIENCE_S)
        if not ready:
            raise RuntimeError("deadlock in virtual time: every task waits, and no timer is set that could wake one")
        return ready


class _VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock starts at 0 and stands still while something can run."""

    def __init__(self) -> None:
        self._clock = _JumpingSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now_s

    def skip(self, duration_s: float) -> None:
        self._clock.now_s += duration_s


def run_in_virtual_time(function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
    """What `await function(*args)` returns, on an event loop whose clock jumps to the next timer in place of sleeping.

    `anyio.sleep`, timeouts and `loop.time()` follow that clock, which starts at 0. Meant for code without sockets; a
    thread's result is taken when it comes, while the clock goes on. Raises `RuntimeError` when everything waits and no
    timer is set: a deadlock.
    """
    return anyio.run(function, *args, backend="asyncio", backend_options={"loop_factory": _VirtualTimeLoop})


def stand_still(duration_s: float) -> None:
    """Within `run_in_virtual_time`: let time pass in which nothing runs, as when a process is stopped and continued.

    Every timer that fell due meanwhile fires in the next turn of the loop.
    """
    loop = asyncio.get_running_loop()
    if not isinstance(loop, _VirtualTimeLoop):
        raise TypeError("time can be skipped within run_in_virtual_time only")
    loop.skip(duration_s)
