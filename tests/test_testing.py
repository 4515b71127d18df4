"""The public fakes keep their promises."""

from __future__ import annotations

import threading

import anyio
import anyio.to_thread
import pytest

from synth_async.testing import Delayed, ScriptedClient, chat_body, run_in_virtual_time


def test_hours_pass_at_once_and_in_order() -> None:
    """Timers fire in the order of their time, and the clock shows it."""

    async def main() -> list[tuple[str, float]]:
        seen: list[tuple[str, float]] = []

        async def sleep(name: str, delay_s: float) -> None:
            await anyio.sleep(delay_s)
            seen.append((name, round(anyio.current_time(), 3)))

        async with anyio.create_task_group() as group:
            for name, delay_s in [("month", 2_600_000), ("none", 0), ("hour", 3_600), ("blink", 0.001)]:
                group.start_soon(sleep, name, delay_s)
        return seen

    assert run_in_virtual_time(main) == [("none", 0), ("blink", 0.001), ("hour", 3_600), ("month", 2_600_000)]


def test_a_deadlock_is_an_error() -> None:
    """When everybody waits and no timer is set, the run ends, and tasks clean up."""
    cleaned = []

    async def main() -> None:
        try:
            await anyio.Event().wait()
        finally:
            cleaned.append(True)

    with pytest.raises(RuntimeError, match="deadlock in virtual time"):
        run_in_virtual_time(main)
    assert cleaned == [True]


def test_a_threads_result_is_waited_for() -> None:
    """Nothing else can run, and no timer is set: that is no deadlock while a thread works."""
    assert run_in_virtual_time(anyio.to_thread.run_sync, threading.get_native_id) != threading.get_native_id()


def test_a_timeout_fires_at_its_time() -> None:
    """Cancel scopes follow the same clock."""

    async def main() -> float:
        with anyio.move_on_after(7):
            await anyio.sleep_forever()
        return anyio.current_time()

    assert run_in_virtual_time(main) == pytest.approx(7)


def test_a_scripted_client_plays_its_script() -> None:
    """One step a request; bodies are recorded; a request too many is an error of the test."""
    client = ScriptedClient([chat_body("one"), Delayed(OSError("two"), 9)], delay_s=1)

    async def main() -> list[float]:
        times = []
        assert (await client.post(b'{"n": 1}')).body == chat_body("one")
        times.append(round(anyio.current_time(), 3))
        with pytest.raises(OSError, match="two"):
            await client.post(b'{"n": 2}')
        times.append(round(anyio.current_time(), 3))
        with pytest.raises(AssertionError, match="last step"):
            await client.post(b'{"n": 3}')
        await client.aclose()
        return times

    assert run_in_virtual_time(main) == [1, 10]
    assert client.bodies == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert (client.in_flight, client.most_in_flight, client.is_closed) == (0, 1, True)
