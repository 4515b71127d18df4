"""Rate limits, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from synth_async.endpoint.breaker import Breaker
from synth_async.endpoint.limits import REQUEST_MARGIN, TOKEN_MARGIN, Limits, Permit, TokenBudget
from synth_async.testing import run_in_virtual_time

_JUDGE, _GENERATE = 0, 2


def _limits(
    *, rpm: float | None = None, tpm: float | None = None, max_in_flight: int = 10_000, refunds: bool = True
) -> Limits:
    """Limits behind a breaker that is closed."""
    breaker = Breaker("main", give_up_after_s=3600)
    breaker.note_answered()
    return Limits(rpm=rpm, tpm=tpm, max_in_flight=max_in_flight, breaker=breaker, refunds=refunds)


async def _admission_times(limits: Limits, sizes: list[float], used: float | None = None) -> list[float]:
    """When each of many requests that all wait from the start is admitted; each is settled at once."""
    times: list[float] = []

    async def ask(tokens: float) -> None:
        permit = await limits.admit(tokens, _GENERATE)
        times.append(anyio.current_time())
        permit.settle(used)

    async with anyio.create_task_group() as group:
        for tokens in sizes:
            group.start_soon(ask, tokens)
    return times


def _most_in_a_window(times: list[float], amounts: list[float], window_s: float) -> float:
    most = total = 0.0
    first = 0
    for last, time in enumerate(times):
        total += amounts[last]
        while times[first] <= time - window_s:
            total -= amounts[first]
            first += 1
        most = max(most, total)
    return most


# --- requests per minute -------------------------------------------------------------------------


@pytest.mark.parametrize("rpm", [1, 7, 60, 600, 12_000, 60_000])
def test_no_window_holds_more_requests_than_rpm_and_the_burst(rpm: float) -> None:
    """Over any window: rate x window, and a burst of 70 ms or two requests; and nearly all of the limit is used."""
    count = int(min(3_000, max(20, rpm * 2)))
    times = run_in_virtual_time(_admission_times, _limits(rpm=rpm), [1.0] * count)
    rate = rpm / 60
    for window_s in (0.1, 1.0, 10.0, 60.0, 600.0):
        assert _most_in_a_window(times, [1.0] * count, window_s) <= rate * window_s + max(2.0, rate * 0.07) + 1
    assert count / rate <= times[-1] * 1.01 + 1.5 / rate + 0.1
    assert (count - max(2.0, rate * 0.07)) / (rate * REQUEST_MARGIN) <= times[-1] + 1e-6


def test_an_idle_hour_saves_up_no_burst() -> None:
    """After a long silence the next window is as bounded as the first."""

    async def main() -> list[float]:
        limits = _limits(rpm=600)
        await _admission_times(limits, [1.0] * 50)
        await anyio.sleep(3600)
        return await _admission_times(limits, [1.0] * 50)

    times = run_in_virtual_time(main)
    assert _most_in_a_window(times, [1.0] * 50, 1.0) <= 12
    assert times[-1] - times[0] >= 4.7


# --- tokens per minute ---------------------------------------------------------------------------


@given(st.lists(st.floats(1, 20_000), min_size=1, max_size=40), st.sampled_from([6_000.0, 60_000.0, 1e6]))
def test_no_window_holds_more_tokens_than_tpm_and_one_request(sizes: list[float], tpm: float) -> None:
    """Over any window: rate x window, the burst, and at most one request that is being paid off."""
    times = run_in_virtual_time(_admission_times, _limits(tpm=tpm), sizes)
    rate = tpm / 60
    for window_s in (0.05, 1.0, 60.0):
        assert _most_in_a_window(times, sizes, window_s) <= (rate * window_s + rate * 0.1 + max(sizes) + 1) * (1 + 1e-6)
    assert times[-1] <= sum(sizes) / (rate * TOKEN_MARGIN) + 0.2


@given(st.lists(st.tuples(st.floats(0, 5_000), st.floats(0, 5_000), st.floats(0, 3)), max_size=60))
def test_tokens_are_neither_made_nor_lost(steps: list[tuple[float, float, float]]) -> None:
    """Level and credit, at any time, are what has flowed in less what the server counted."""
    # A bucket that starts empty of room never overflows, so nothing spills and the sum is exact.
    budget = TokenBudget(60_000, 0.0)
    budget.reserve(1e6, 0.0)
    start = budget.level(0.0)
    now = counted = 0.0
    for reserved, used, pause_s in steps:
        before = budget.credit
        budget.reserve(reserved, now)
        assert before - budget.credit <= reserved / 2 + 1e-6
        now += pause_s
        budget.settle(reserved, used, now)
        counted += used
        assert budget.credit >= 0
        assert budget.level(now) + budget.credit == pytest.approx(start + now * budget.rate - counted)


def test_a_large_request_is_not_starved_by_small_ones() -> None:
    """It is admitted in its turn, however many small ones came after it."""

    async def main() -> list[str]:
        limits, order = _limits(tpm=60_000), list[str]()

        async def ask(name: str, tokens: float) -> None:
            (await limits.admit(tokens, _GENERATE)).settle(None)
            order.append(name)

        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(ask, f"small {number}", 50.0)
            group.start_soon(ask, "large", 30_000.0)
            for number in range(5, 200):
                group.start_soon(ask, f"small {number}", 50.0)
        return order

    assert run_in_virtual_time(main).index("large") == 5


def test_a_refund_lets_later_requests_go_sooner() -> None:
    """With accounting by use, half of what was reserved too much is saved by each later request; without, nothing."""
    refunded = run_in_virtual_time(_admission_times, _limits(tpm=60_000), [1_000.0] * 100, 100.0)
    reserved = run_in_virtual_time(_admission_times, _limits(tpm=60_000, refunds=False), [1_000.0] * 100, 100.0)
    assert refunded[-1] == pytest.approx(reserved[-1] / 2, rel=0.05)


def test_a_permit_is_settled_once() -> None:
    """Settling again gives back neither a second slot nor tokens twice."""

    async def main() -> str:
        limits = _limits(tpm=60_000)
        permit = await limits.admit(80, _GENERATE)
        for _ in range(3):
            permit.settle(20)
        assert limits.in_flight == 0
        return repr(limits._budget)  # noqa: SLF001 - what is left in it is the point

    assert run_in_virtual_time(main) == "<TokenBudget level=19/99 credit=60>"


# --- the line ------------------------------------------------------------------------------------


def test_judging_goes_before_generating() -> None:
    """On a shared endpoint, what waits is served by priority, and in the order of arrival within one."""

    async def main() -> list[str]:
        limits, order = _limits(max_in_flight=1), list[str]()
        first = await limits.admit(1, _GENERATE)

        async def ask(name: str, priority: int) -> None:
            permit = await limits.admit(1, priority)
            order.append(name)
            permit.settle(None)

        async with anyio.create_task_group() as group:
            for name, priority in [("head", 2), ("g1", 2), ("j1", 0), ("t1", 1), ("g2", 2), ("j2", 0)]:
                group.start_soon(ask, name, priority)
            await anyio.sleep(1)
            first.settle(None)
        return order

    assert run_in_virtual_time(main) == ["head", "j1", "j2", "t1", "g1", "g2"]


def test_in_flight_never_exceeds_its_cap() -> None:
    """A slot is given again when its permit is settled, and at once."""

    async def main() -> tuple[int, float]:
        limits, most = _limits(max_in_flight=7), 0

        async def ask() -> None:
            nonlocal most
            permit = await limits.admit(1, _GENERATE)
            most = max(most, limits.in_flight)
            await anyio.sleep(1)
            permit.settle(None)

        async with anyio.create_task_group() as group:
            for _ in range(70):
                group.start_soon(ask)
        assert limits.in_flight == 0
        return most, anyio.current_time()

    most, took_s = run_in_virtual_time(main)
    assert most == 7
    assert took_s == pytest.approx(10, abs=0.01)


# --- pauses --------------------------------------------------------------------------------------


def test_a_hint_holds_everybody_exactly_that_long() -> None:
    """Nobody is admitted before the hint is over; shorter hints in the meantime change nothing."""

    async def main() -> tuple[list[float], float]:
        limits = _limits()
        await anyio.sleep(100)
        limits.pause(12.5)
        await anyio.sleep(1)
        limits.pause(0.5)
        limits.pause(None)
        assert limits.pause_left_s == pytest.approx(11.5)
        return await _admission_times(limits, [1.0] * 5), limits.paused_s

    times, paused_s = run_in_virtual_time(main)
    assert times == [pytest.approx(112.5, abs=1e-4)] * 5
    assert paused_s == pytest.approx(12.5)


def test_a_longer_hint_extends_a_pause() -> None:
    """The pause ends when the last hint is over, also for who waits already."""

    async def main() -> list[float]:
        limits, seen = _limits(), list[float]()
        limits.pause(2)

        async def extend() -> None:
            await anyio.sleep(1)
            limits.pause(5)

        async with anyio.create_task_group() as group:
            group.start_soon(extend)
            seen.extend(await _admission_times(limits, [1.0]))
        return seen

    assert run_in_virtual_time(main) == [pytest.approx(6, abs=1e-4)]


def test_without_a_hint_pauses_double_until_an_answer() -> None:
    """0.5 s, 1 s, 2 s ... 30 s; a hint of nothing is no hint."""

    async def main() -> list[float]:
        limits, pauses = _limits(), []
        for hint_s in (None, None, 0.0, None, None, None, None, None):
            limits.pause(hint_s)
            pauses.append(limits.pause_left_s)
            await anyio.sleep(limits.pause_left_s + 0.001)
        limits.note_answered()
        limits.pause(None)
        return [*pauses, limits.pause_left_s]

    assert run_in_virtual_time(main) == pytest.approx([0.5, 1, 2, 4, 8, 16, 30, 30, 0.5])


# --- the cap where no limit is declared ----------------------------------------------------------


def test_a_429_halves_the_cap_and_answers_win_it_back() -> None:
    """At most one halving a second, never below one; each cap's worth of answers adds one, up to the maximum."""

    async def main() -> list[int]:
        limits, caps = _limits(max_in_flight=64), []
        permits = [await limits.admit(1, _GENERATE) for _ in range(64)]
        for permit in permits[:10]:
            permit.settle(0)
            limits.pause(1)
        caps.append(limits.cap)
        for permit in permits[10:]:
            permit.settle(None)
        await anyio.sleep(1.1)
        for _ in range(33):
            limits.note_answered()
        caps.append(limits.cap)
        for _ in range(10_000):
            limits.note_answered()
        caps.append(limits.cap)
        for _ in range(20):
            await anyio.sleep(2)
            limits.shrink()
        return [*caps, limits.cap]

    assert run_in_virtual_time(main) == [32, 33, 64, 1]


def test_declared_limits_are_kept_at_a_429() -> None:
    """Where rpm or tpm says what is allowed, the cap stays."""

    async def main() -> int:
        limits = _limits(rpm=100, max_in_flight=64)
        limits.pause(1)
        return limits.cap

    assert run_in_virtual_time(main) == 64


# --- the breaker in front of it ------------------------------------------------------------------


def test_one_request_opens_the_way_for_all() -> None:
    """Until the first answer one request is out; then everybody goes."""

    async def main() -> list[tuple[float, int]]:
        breaker = Breaker("main", give_up_after_s=3600)
        limits = Limits(rpm=None, tpm=None, max_in_flight=50, breaker=breaker)
        seen: list[tuple[float, int]] = []

        async def ask() -> None:
            permit = await limits.admit(1, _GENERATE)
            seen.append((round(anyio.current_time(), 3), limits.in_flight))
            await anyio.sleep(2)
            breaker.note_answered()
            permit.settle(None)

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(ask)
        return seen

    seen = run_in_virtual_time(main)
    assert seen[0] == (0.0, 1)
    assert [time for time, _ in seen[1:]] == [2.0] * 19


# --- cancellation --------------------------------------------------------------------------------


async def _cancel_after(steps: int, limits: Limits, prepare: Callable[[], Awaitable[Permit | None]]) -> bool:
    """Cancel one waiter among three after a number of turns of the loop; True when it was still waiting."""
    held = await prepare()
    cancelled = False
    others: list[Permit] = []

    async def neighbour() -> None:
        permit = await limits.admit(150, _GENERATE)
        others.append(permit)
        permit.settle(150)

    async def victim(scope: anyio.CancelScope) -> None:
        nonlocal cancelled
        with scope:
            permit = await limits.admit(150, _JUDGE)
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
            limits = _limits(
                rpm=30 if waits_for == "pacer" else None,
                tpm=60_000 if waits_for == "tokens" else None,
                max_in_flight=1 if waits_for == "slot" else 100,
            )

            async def prepare() -> Permit | None:
                if waits_for == "pause":
                    limits.pause(3)
                if waits_for == "breaker":
                    for _ in range(12):
                        limits._breaker.note_failure(anyio.current_time(), "HTTP 502", connected=True)  # noqa: SLF001
                        await anyio.sleep(1)
                if waits_for in ("slot", "breaker"):
                    return await limits.admit(150, _GENERATE)
                return None

            cancelled = await _cancel_after(steps, limits, prepare)
            # Everything that was granted is granted again: a full round goes through as on the first day.
            assert len(await _admission_times(limits, [1.0] * 5)) == 5
            return cancelled

        outcomes.add(run_in_virtual_time(main))
    assert True in outcomes


def test_a_turn_that_was_just_given_is_passed_on_when_its_waiter_is_cut_off() -> None:
    """Between being called and waking up, a waiter may be cancelled: the next in line goes, and nobody is stuck."""

    async def main() -> int:
        limits = _limits(max_in_flight=1)
        first = await limits.admit(1, _GENERATE)
        head, second, third = (asyncio.create_task(limits.admit(1, _GENERATE)) for _ in range(3))
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


def test_a_cancelled_reservation_is_given_back() -> None:
    """Tokens that were reserved for a request that never went out are credit for the next."""

    async def main() -> str:
        limits = _limits(tpm=60_000, max_in_flight=1)
        first = await limits.admit(10, _GENERATE)
        with anyio.move_on_after(5):
            await limits.admit(80, _GENERATE)
        first.settle(10)
        return repr(limits._budget)  # noqa: SLF001 - what is left in it is the point

    assert run_in_virtual_time(main).endswith("credit=80>")


def test_a_storm_of_cancellations_leaves_the_limits_idle() -> None:
    """Hundreds of waiters cut off at random moments, while others go on."""

    async def main() -> str:
        chance, limits = random.Random(5), _limits(rpm=6_000, tpm=600_000, max_in_flight=5)

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
        await _admission_times(limits, [1.0] * 20)
        return repr(limits)

    assert "in_flight=0/5 waiting=0" in run_in_virtual_time(main)
