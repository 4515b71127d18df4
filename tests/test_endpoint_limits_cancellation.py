"""Waiters that are cut off take nothing with them: slots, turns and tokens go to the others."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import anyio
import pytest
from anyio.lowlevel import checkpoint
from limits_at_work import (
    GENERATE,
    JUDGE,
    admission_times,
    open_limits,
    refuse,
)

from synth_async.endpoint.limits import Limits, Permit
from synth_async.testing import run_in_virtual_time

# --- cancellation --------------------------------------------------------------------------------


async def _cancel_after(steps: int, limits: Limits, prepare: Callable[[], Awaitable[Permit | None]]) -> bool:
    """Cancel one waiter among three after a number of turns of the loop; True when it was still waiting."""
    held = await prepare()
    cancelled = False
    others: list[Permit] = []

    async def neighbour() -> None:
        permit = await limits.admit(150, GENERATE)
        others.append(permit)
        permit.settle(150)

    async def victim(scope: anyio.CancelScope) -> None:
        nonlocal cancelled
        with scope:
            permit = await limits.admit(150, JUDGE)
            permit.settle(150)
        cancelled = scope.cancelled_caught

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as group:
        group.start_soon(neighbour)
        group.start_soon(victim, scope)
        group.start_soon(neighbour)
        for _ in range(steps):
            await checkpoint()
        scope.cancel()
        await anyio.sleep(0.5)
        if held is not None:
            held.settle(150)
    assert len(others) == 2
    assert limits.in_flight == 0
    assert "waiting=0" in repr(limits)
    return cancelled


@pytest.mark.parametrize("waits_for", ["pacer", "tokens", "slot", "pause", "breaker"])
def test_cancelling_at_any_step_leaks_nothing(waits_for: str) -> None:
    """Whatever the waiter waits for and whenever it is cut off: slot, turn and tokens go to the others."""
    outcomes = set()
    for steps in range(12):

        async def main(steps: int = steps) -> bool:
            limits = open_limits(
                rpm=30 if waits_for == "pacer" else None,
                tpm=60_000 if waits_for == "tokens" else None,
                max_in_flight=1 if waits_for == "slot" else 100,
            )

            async def prepare() -> Permit | None:
                if waits_for == "pause":
                    refuse(limits, await limits.admit(1, GENERATE), 3)
                if waits_for == "breaker":
                    for _ in range(12):
                        limits._breaker.note_failure(anyio.current_time(), "HTTP 502", connected=True)  # noqa: SLF001
                        await anyio.sleep(1)
                if waits_for in ("slot", "breaker"):
                    return await limits.admit(150, GENERATE)
                return None

            cancelled = await _cancel_after(steps, limits, prepare)
            # Everything that was granted is granted again: a full round goes through as on the first day.
            assert len(await admission_times(limits, [1.0] * 5)) == 5
            return cancelled

        outcomes.add(run_in_virtual_time(main))
    assert True in outcomes


def test_a_turn_that_was_just_given_is_passed_on_when_its_waiter_is_cut_off() -> None:
    """Between being called and waking up, a waiter may be cancelled: the next in line goes, and nobody is stuck."""

    async def main() -> int:
        limits = open_limits(max_in_flight=1)
        first = await limits.admit(1, GENERATE)
        head, second, third = (asyncio.create_task(limits.admit(1, GENERATE)) for _ in range(3))
        await anyio.sleep(1)
        first.settle(None)
        # The head wakes up, takes the slot and calls the second, which is cut off before it wakes up in its turn.
        while not head.done():
            await checkpoint()
        second.cancel()
        head.result().settle(None)
        (await third).settle(None)
        return second.cancelled() + limits.in_flight

    assert run_in_virtual_time(main) == 1


def test_a_stop_gets_through_where_nothing_has_to_be_waited_for() -> None:
    """Who asks again and again, each time granted at once and shielded while sending, is cut off all the same."""

    async def main() -> float:
        limits = open_limits(rpm=6_000)

        async def ask() -> None:
            while anyio.current_time() < 1_000:
                permit = await limits.admit(1, GENERATE)
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(1)
                permit.settle(1)

        with anyio.move_on_after(10):
            await ask()
        assert limits.in_flight == 0
        return anyio.current_time()

    assert run_in_virtual_time(main) == pytest.approx(10, abs=1.1)


def test_a_cancelled_reservation_is_given_back() -> None:
    """Tokens that were reserved for a request that never went out are credit for the next."""

    async def main() -> str:
        limits = open_limits(tpm=60_000, max_in_flight=1)
        first = await limits.admit(10, GENERATE)
        with anyio.move_on_after(5):
            await limits.admit(80, GENERATE)
        first.settle(10)
        return repr(limits._budget)  # noqa: SLF001 - what is left in it is the point

    assert run_in_virtual_time(main).endswith("credit=80>")


def test_a_storm_of_cancellations_leaves_the_limits_idle() -> None:
    """Hundreds of waiters cut off at random moments, while others go on."""

    async def main() -> str:
        chance, limits = random.Random(5), open_limits(rpm=6_000, tpm=600_000, max_in_flight=5)

        async def ask() -> None:
            with anyio.move_on_after(chance.random() * 4):
                permit = await limits.admit(chance.random() * 500, chance.randrange(3))
                try:
                    await anyio.sleep(chance.random() * 0.1)
                finally:
                    permit.settle(None)

        async with anyio.create_task_group() as group:
            for _ in range(600):
                group.start_soon(ask)
        await admission_times(limits, [1.0] * 20)
        return repr(limits)

    assert "in_flight=0/5 waiting=0" in run_in_virtual_time(main)
