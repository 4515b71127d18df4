"""Admission within rate limits: requests, tokens, slots and the line, in virtual time."""

from __future__ import annotations

from typing import Literal

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits_at_work import (
    GENERATE,
    admission_times,
    answer,
    most_in_a_window,
    open_limits,
)

from synth_async.endpoint.accounting import Charge
from synth_async.endpoint.breaker import Breaker
from synth_async.endpoint.budget import TokenBudget
from synth_async.endpoint.headers import LimitWindow, SeenLimits
from synth_async.endpoint.limits import REQUEST_MARGIN, TOKEN_MARGIN, Limits
from synth_async.testing import run_in_virtual_time

# --- requests per minute -------------------------------------------------------------------------


@pytest.mark.parametrize("rpm", [1, 7, 60, 600, 12_000, 60_000])
def test_no_window_holds_more_requests_than_rpm_and_the_burst(rpm: float) -> None:
    """Over any window: rate x window, and a burst of 70 ms or two requests; and nearly all of the limit is used."""
    count = int(min(3_000, max(20, rpm * 2)))
    times = run_in_virtual_time(admission_times, open_limits(rpm=rpm), [1.0] * count)
    rate = rpm / 60
    for window_s in (0.1, 1.0, 10.0, 60.0, 600.0):
        assert most_in_a_window(times, [1.0] * count, window_s) <= rate * window_s + max(2.0, rate * 0.07) + 1
    assert count / rate <= times[-1] * 1.01 + 1.5 / rate + 0.1
    assert (count - max(2.0, rate * 0.07)) / (rate * REQUEST_MARGIN) <= times[-1] + 1e-6


def test_an_idle_hour_saves_up_no_burst() -> None:
    """After a long silence the next window is as bounded as the first."""

    async def main() -> list[float]:
        limits = open_limits(rpm=600)
        await admission_times(limits, [1.0] * 50)
        await anyio.sleep(3600)
        return await admission_times(limits, [1.0] * 50)

    times = run_in_virtual_time(main)
    assert most_in_a_window(times, [1.0] * 50, 1.0) <= 12
    assert times[-1] - times[0] >= 4.7


# --- tokens per minute ---------------------------------------------------------------------------


@given(st.lists(st.floats(1, 20_000), min_size=1, max_size=40), st.sampled_from([6_000.0, 60_000.0, 1e6]))
def test_no_window_holds_more_tokens_than_tpm_and_one_request(sizes: list[float], tpm: float) -> None:
    """Over any window: rate x window, the burst, and at most one request that is being paid off."""
    times = run_in_virtual_time(admission_times, open_limits(tpm=tpm), sizes)
    rate = tpm / 60
    for window_s in (0.05, 1.0, 60.0):
        assert most_in_a_window(times, sizes, window_s) <= (rate * window_s + rate * 0.1 + max(sizes) + 1) * (1 + 1e-6)
    assert times[-1] <= sum(sizes) / (rate * TOKEN_MARGIN) + 0.2


@given(st.lists(st.tuples(st.floats(0, 5_000), st.floats(0, 5_000), st.floats(0, 3)), max_size=60))
def test_tokens_are_neither_made_nor_lost(steps: list[tuple[float, float, float]]) -> None:
    """Level and credit, at any time, are what has flowed in less what the server counted."""
    # A bucket that starts empty of room never overflows, so nothing spills and the sum is exact.
    budget = TokenBudget(60_000 / 60, 0.0)
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
        limits, order = open_limits(tpm=60_000), list[str]()

        async def ask(name: str, tokens: float) -> None:
            (await limits.admit(tokens, GENERATE)).settle(None)
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
    """Charged by use, each later request is half paid from what was reserved too much; charged in full, not at all."""
    refunded = run_in_virtual_time(admission_times, open_limits(tpm=60_000), [1_000.0] * 100, 100.0)
    reserved = run_in_virtual_time(
        admission_times, open_limits(tpm=60_000, accounting="reserved"), [1_000.0] * 100, 100.0
    )
    assert refunded[-1] == pytest.approx(reserved[-1] / 2, rel=0.05)


def test_a_permit_is_settled_once() -> None:
    """Settling again gives back neither a second slot nor tokens twice."""

    async def main() -> str:
        limits = open_limits(tpm=60_000)
        permit = await limits.admit(80, GENERATE)
        for _ in range(3):
            permit.settle(20)
        assert limits.in_flight == 0
        return repr(limits._budget)  # noqa: SLF001 - what is left in it is the point

    assert run_in_virtual_time(main) == "<TokenBudget level=19/99 credit=60>"


# --- the line ------------------------------------------------------------------------------------


def test_judging_goes_before_generating() -> None:
    """On a shared endpoint, what waits is served by priority, and in the order of arrival within one."""

    async def main() -> list[str]:
        limits, order = open_limits(max_in_flight=1), list[str]()
        first = await limits.admit(1, GENERATE)

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


@given(st.lists(st.tuples(st.floats(1, 20_000), st.integers(0, 2)), min_size=1, max_size=30))
def test_whatever_their_sizes_requests_go_in_the_order_of_the_line(asked: list[tuple[float, int]]) -> None:
    """After the one that is at the head already: by priority, first in first out within one."""

    async def main() -> list[int]:
        limits, order = open_limits(rpm=600, tpm=60_000, max_in_flight=1), list[int]()
        first = await limits.admit(1, GENERATE)

        async def ask(number: int, tokens: float, priority: int) -> None:
            (await limits.admit(tokens, priority)).settle(None)
            order.append(number)

        async with anyio.create_task_group() as group:
            for number, (tokens, priority) in enumerate(asked):
                group.start_soon(ask, number, tokens, priority)
            await anyio.sleep(60)
            first.settle(None)
        return order

    rest = sorted(range(1, len(asked)), key=lambda number: asked[number][1])
    assert run_in_virtual_time(main) == [0, *rest]


def test_in_flight_never_exceeds_its_cap() -> None:
    """A slot is given again when its permit is settled, and at once."""

    async def main() -> tuple[int, float]:
        limits, most = open_limits(max_in_flight=7), 0

        async def ask() -> None:
            nonlocal most
            permit = await limits.admit(1, GENERATE)
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


# --- what a request is expected to take ----------------------------------------------------------


def test_the_estimate_is_asked_for_when_the_turn_comes() -> None:
    """Not when a request joins the line: by then more is known."""

    async def main() -> tuple[list[float], list[float]]:
        limits, asked, reserved = open_limits(tpm=60_000, max_in_flight=1), list[float](), list[float]()
        first = await limits.admit(1, GENERATE)

        def estimate() -> float:
            asked.append(anyio.current_time())
            return 50.0

        async def ask() -> None:
            permit = await limits.admit(estimate, GENERATE)
            reserved.append(permit.reserved)
            await anyio.sleep(10)
            permit.settle(50)

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(ask)
            await anyio.sleep(10)
            first.settle(1)
        return asked, reserved

    # The head of the line is asked at once, the others when they become the head.
    asked, reserved = run_in_virtual_time(main)
    assert asked == pytest.approx([0, 10, 20], abs=0.1)
    assert reserved == [50.0] * 3


def test_how_tokens_are_counted_is_learnt_from_headers() -> None:
    """In full until it is known, or while there is room to find it out; then as the server does."""

    async def main() -> list[bool]:
        limits = open_limits(tpm=600_000, accounting="auto")
        answers = [limits.charges_reserved]
        for charged in (562, 200):
            limits = open_limits(tpm=600_000, accounting="auto")
            window = LimitWindow(600_000, 600_000 - charged)
            answer(limits, Charge(used=200, reserved=562), SeenLimits(tokens=window))
            answers.append(limits.charges_reserved)
        for left in (400_000, 200_000):
            limits = open_limits(tpm=600_000, accounting="auto")
            answer(limits, Charge(used=500, reserved=562), SeenLimits(tokens=LimitWindow(600_000, left)))
            answers.append(limits.charges_reserved)
        return answers

    assert run_in_virtual_time(main) == [True, True, False, False, True]


def test_a_reservation_that_was_too_small_is_owed() -> None:
    """Whichever way the server counts; what was too large comes back only where it charges by use."""

    async def main(accounting: Literal["actual", "reserved"]) -> list[str]:
        budgets = []
        for used in (30, 0, 90):
            limits = open_limits(tpm=60_000, accounting=accounting)
            (await limits.admit(60, GENERATE)).settle(used)
            budgets.append(repr(limits._budget).partition(" ")[2])  # noqa: SLF001 - what is left in it is the point
        return budgets

    by_use = ["level=39/99 credit=30>", "level=39/99 credit=60>", "level=9/99 credit=0>"]
    assert run_in_virtual_time(main, "actual") == by_use
    assert run_in_virtual_time(main, "reserved") == ["level=39/99 credit=0>", *by_use[1:]]


# --- the breaker in front of it ------------------------------------------------------------------


def test_one_request_opens_the_way_for_all() -> None:
    """Until the first answer one request is out; then everybody goes."""

    async def main() -> list[tuple[float, int]]:
        breaker = Breaker("main", give_up_after_s=3600)
        limits = Limits(rpm=None, tpm=None, max_in_flight=50, breaker=breaker)
        seen: list[tuple[float, int]] = []

        async def ask() -> None:
            permit = await limits.admit(1, GENERATE)
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
