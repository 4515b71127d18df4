"""Rate limits, in virtual time."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from synth_async.endpoint.breaker import Breaker
from synth_async.endpoint.headers import LimitWindow, SeenLimits
from synth_async.endpoint.learning import Charge, RateFinder
from synth_async.endpoint.limits import REQUEST_MARGIN, TOKEN_MARGIN, Limits, Permit, TokenBudget
from synth_async.testing import run_in_virtual_time

_JUDGE, _GENERATE = 0, 2


def _limits(
    *,
    rpm: float | None = None,
    tpm: float | None = None,
    max_in_flight: int = 10_000,
    accounting: Literal["auto", "actual", "reserved"] = "actual",
) -> Limits:
    """Limits behind a breaker that is closed."""
    breaker = Breaker("main", give_up_after_s=3600)
    breaker.note_answered()
    return Limits(rpm=rpm, tpm=tpm, max_in_flight=max_in_flight, breaker=breaker, accounting=accounting)


async def _permits(limits: Limits, count: int) -> list[Permit]:
    """So many requests that are out, where as many answers have opened the way for them."""
    while limits.cap < limits.in_flight + count:
        limits.note_answered()
    return [await limits.admit(1, _GENERATE) for _ in range(count)]


def _refuse(limits: Limits, permit: Permit, hint_s: float | None, message: str = "HTTP 429") -> None:
    """The server refuses what this permit was given for."""
    permit.settle(0.0)
    limits.note_limited(permit, message, hint_s)


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
    """Charged by use, each later request is half paid from what was reserved too much; charged in full, not at all."""
    refunded = run_in_virtual_time(_admission_times, _limits(tpm=60_000), [1_000.0] * 100, 100.0)
    reserved = run_in_virtual_time(_admission_times, _limits(tpm=60_000, accounting="reserved"), [1_000.0] * 100, 100.0)
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


@pytest.mark.parametrize("hint_s", [0.25, 12.5, 65.0])
def test_a_hint_holds_everybody_exactly_that_long(hint_s: float) -> None:
    """Nobody is admitted before the hint is over; shorter hints in the meantime change nothing."""

    async def main() -> tuple[list[float], float]:
        limits = _limits()
        await anyio.sleep(100)
        permits = await _permits(limits, 3)
        _refuse(limits, permits[0], hint_s)
        await anyio.sleep(hint_s * 0.1)
        _refuse(limits, permits[1], hint_s * 0.1)
        _refuse(limits, permits[2], None)
        assert limits.pause_left_s == pytest.approx(hint_s * 0.9)
        return await _admission_times(limits, [1.0] * 5), limits.paused_s

    times, paused_s = run_in_virtual_time(main)
    assert times == [pytest.approx(100 + hint_s, abs=1e-4)] * 5
    assert paused_s == pytest.approx(hint_s)


def test_a_longer_hint_extends_a_pause() -> None:
    """The pause ends when the last hint is over, also for who waits already."""

    async def main() -> list[float]:
        limits, seen = _limits(), list[float]()
        first, second = await _permits(limits, 2)
        _refuse(limits, first, 2)

        async def extend() -> None:
            await anyio.sleep(1)
            _refuse(limits, second, 5)

        async with anyio.create_task_group() as group:
            group.start_soon(extend)
            seen.extend(await _admission_times(limits, [1.0]))
        return seen

    assert run_in_virtual_time(main) == [pytest.approx(6, abs=1e-4)]


async def _pauses(hints: Sequence[float | None]) -> list[float]:
    """How long each of many refusals holds, when nothing is answered in between, and how long one does after that."""
    limits, pauses = _limits(), []
    permits = await _permits(limits, len(hints) + 1)
    for permit, hint_s in zip(permits, hints, strict=False):
        _refuse(limits, permit, hint_s)
        pauses.append(limits.pause_left_s)
        await anyio.sleep(limits.pause_left_s + 0.001)
    limits.note_answered()
    _refuse(limits, permits[-1], hints[0])
    return [*pauses, limits.pause_left_s]


def test_without_a_hint_pauses_double_until_an_answer() -> None:
    """0.5 s, 1 s, 2 s ... 30 s; a hint of nothing is no hint."""
    pauses = run_in_virtual_time(_pauses, [None, None, 0.0, None, None, None, None, None])
    assert pauses == pytest.approx([0.5, 1, 2, 4, 8, 16, 30, 30, 0.5])


def test_a_hint_that_nothing_but_refusals_followed_twice_is_too_short() -> None:
    """From the third on our own growing pause counts, where it is longer; after an answer hints are trusted again."""
    assert run_in_virtual_time(_pauses, [0.01] * 8) == pytest.approx([0.01, 0.01, 2, 4, 8, 16, 30, 30, 0.01])
    assert run_in_virtual_time(_pauses, [10.0] * 7) == pytest.approx([10, 10, 10, 10, 10, 16, 30, 10])


async def _sent_while_away(limits: Limits, hint_s: float, until_s: float, over_s: float) -> list[tuple[float, int]]:
    """(when, how many were out) of the requests of 40 workers to a server that refuses all of them for a while."""
    sent: list[tuple[float, int]] = []

    async def worker() -> None:
        while anyio.current_time() < over_s:
            permit = await limits.admit(1, _GENERATE)
            sent.append((anyio.current_time(), limits.in_flight))
            await anyio.sleep(1)
            if anyio.current_time() < until_s:
                _refuse(limits, permit, hint_s)
            else:
                permit.settle(1)
                limits.note_answered()

    with anyio.move_on_after(over_s):
        async with anyio.create_task_group() as group:
            for _ in range(40):
                group.start_soon(worker)
    return sent


def test_a_hint_of_hours_is_tried_out_by_single_requests() -> None:
    """After 65 s, then after twice as long each time, half an hour at most; one request at a time."""
    sent = run_in_virtual_time(_sent_while_away, _limits(rpm=6_000), 86_400.0, 1e9, 12_000.0)
    burst, trials = [one for one in sent if one[0] < 60], [one for one in sent if one[0] >= 60]
    assert len(burst) == 40
    assert {in_flight for _, in_flight in trials} == {1}
    times = [1.0, *(when for when, _ in trials)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    # A refused trial comes back after a second, and the next gap is counted from there.
    expected = [65, 131, 261, 521, 1_041, 1_801, 1_801, 1_801, 1_801, 1_801]
    assert gaps == pytest.approx(expected, abs=0.5)


def test_an_answered_trial_ends_a_pause_of_hours_for_all() -> None:
    """Where the endpoint is there again after two minutes, nobody waits for the rest of the day."""
    sent = run_in_virtual_time(_sent_while_away, _limits(rpm=6_000), 86_400.0, 120.0, 300.0)
    assert [when for when, _ in sent if 60 < when < 190] == pytest.approx([66])
    assert max(in_flight for when, in_flight in sent if when > 200) == 40


def test_the_pause_that_is_told_is_what_the_endpoint_asked_for() -> None:
    """Also while it is tried out whether it holds; and nothing is left of it after an answer."""

    async def main() -> list[float]:
        limits = _limits()
        first, second = await _permits(limits, 2)
        _refuse(limits, first, 7_200)
        left = [limits.pause_left_s]
        await anyio.sleep(100)
        left.append(limits.pause_left_s)
        limits.note_answered()
        left.append(limits.pause_left_s)
        _refuse(limits, second, 100)
        return [*left, limits.pause_left_s]

    assert run_in_virtual_time(main) == pytest.approx([7_200, 7_100, 0, 100], abs=1e-3)


# --- the cap where no limit is known -------------------------------------------------------------


def test_a_429_halves_the_cap_and_answers_win_it_back() -> None:
    """At most one halving a second, never below one; each cap's worth of answers adds one, up to the maximum."""

    async def main() -> list[int]:
        limits, caps = _limits(max_in_flight=64), []
        permits = await _permits(limits, 64)
        for permit in permits[:10]:
            _refuse(limits, permit, 1)
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


async def _rounds(limits: Limits, rounds: int) -> list[int]:
    """How many requests go out at once in each round, when every answer comes at the round's end."""
    counts = []
    for _ in range(rounds):
        permits = await _permits_at_once(limits)
        counts.append(len(permits))
        for permit in permits:
            permit.settle(1)
            limits.note_answered()
    return counts


async def _permits_at_once(limits: Limits) -> list[Permit]:
    permits: list[Permit] = []
    with anyio.move_on_after(0.01):
        while True:
            permits.append(await limits.admit(1, _GENERATE))
    return permits


def test_where_no_limit_is_known_the_start_is_slow() -> None:
    """32 at first, and twice as many in each round, up to the maximum; a smaller maximum is kept from the start."""
    assert run_in_virtual_time(_rounds, _limits(max_in_flight=300), 6) == [32, 64, 128, 256, 300, 300]
    assert run_in_virtual_time(_rounds, _limits(max_in_flight=7), 2) == [7, 7]


def test_the_first_refusal_ends_the_doubling() -> None:
    """From then on a round adds one."""

    async def main() -> list[int]:
        limits = _limits(max_in_flight=300)
        await _rounds(limits, 2)
        await anyio.sleep(10)
        for permit in await _permits(limits, 1):
            _refuse(limits, permit, 0.5)
        await anyio.sleep(1)
        limits._cap = 20.0  # noqa: SLF001 - where the halving led to is another rule
        limits._request_rate = RateFinder(None)  # noqa: SLF001 - and so is the rate that was learnt
        return await _rounds(limits, 3)

    assert run_in_virtual_time(main) == [20, 20, 21]


@pytest.mark.parametrize("limit", [{"rpm": 600_000.0}, {"tpm": 6e6}])
def test_declared_limits_are_kept_at_a_429(limit: dict[str, float]) -> None:
    """Where rpm or tpm says what is allowed, the cap is the maximum from the start, and stays."""

    async def main() -> tuple[int, int]:
        limits = _limits(**limit, max_in_flight=64)  # type: ignore[arg-type] # rpm or tpm
        before = limits.cap
        for permit in await _permits(limits, 3):
            _refuse(limits, permit, 2)
            await anyio.sleep(2)
        return before, limits.cap

    assert run_in_virtual_time(main) == (64, 64)


@pytest.mark.parametrize("message", ["HTTP 429: Too many concurrent requests", "HTTP 429: max parallel requests"])
def test_a_429_about_slots_caps_what_is_in_flight(message: str) -> None:
    """At 97 % of what is out, with a short pause whatever the hint; the rate stays as it is, known or not."""

    async def main(limits: Limits) -> tuple[int, float, str]:
        permits = await _permits(limits, 101)
        _refuse(limits, permits[0], 60, message)
        return limits.cap, round(limits.pause_left_s, 3), repr(limits._request_rate)  # noqa: SLF001 - it stays

    assert run_in_virtual_time(main, _limits()) == (97, 0.5, "<RateFinder rate=inf/s ceiling=None>")
    declared = _limits(rpm=600_000)
    before = repr(declared._request_rate)  # noqa: SLF001 - it stays
    assert run_in_virtual_time(main, declared) == (97, 0.5, before)


# --- rates that are learnt -----------------------------------------------------------------------


def _seen(rpm: float | None = None, tpm: float | None = None, period_s: float | None = None) -> SeenLimits:
    return SeenLimits(
        LimitWindow(rpm, period_s=period_s) if rpm else None, LimitWindow(tpm, period_s=period_s) if tpm else None
    )


async def _per_minute(limits: Limits, seen: SeenLimits, tokens: float) -> float:
    """Requests a minute after an answer with such headers."""
    limits.note_answered(Charge(used=tokens, reserved=tokens), seen)
    times = await _admission_times(limits, [tokens] * 200, tokens)
    return 199 / (times[-1] - times[0]) * 60


@pytest.mark.parametrize(
    ("rpm", "tpm", "seen", "per_minute"),
    [
        (None, None, _seen(rpm=600), 600),
        (None, None, _seen(tpm=60_000), 600),
        (None, None, _seen(rpm=600, tpm=6e6), 600),
        (600, None, _seen(rpm=60, period_s=86_400), 600),
        (1_200, None, _seen(rpm=600), 600),
        (600, None, _seen(rpm=1_200), 600),
        (None, 60_000, _seen(tpm=120_000), 600),
        (None, 120_000, _seen(rpm=9e9, tpm=60_000), 600),
    ],
)
def test_the_rate_is_the_configs_or_the_headers(
    rpm: float | None, tpm: float | None, seen: SeenLimits, per_minute: float
) -> None:
    """Whichever is less, per minute unless the header says otherwise, of requests and of tokens."""
    found = run_in_virtual_time(_per_minute, _limits(rpm=rpm, tpm=tpm), seen, 100.0)
    assert per_minute * 0.97 < found < per_minute * 1.015


def test_a_limit_from_headers_counts_as_declared() -> None:
    """The cap is the maximum at once, and a 429 does not halve it."""

    async def main() -> list[int]:
        limits = _limits(max_in_flight=300)
        caps = [limits.cap]
        limits.note_answered(Charge(20, 20), _seen(rpm=60_000))
        caps.append(limits.cap)
        _refuse(limits, (await _permits(limits, 1))[0], 1)
        return [*caps, limits.cap]

    assert run_in_virtual_time(main) == [32, 300, 300]


def test_headers_that_tell_nothing_change_nothing() -> None:
    """Answers without them leave the endpoint without limits."""

    async def main() -> tuple[int, float]:
        limits = _limits(max_in_flight=300)
        limits.note_answered(Charge(20, 20), SeenLimits())
        times = await _admission_times(limits, [20.0] * 500)
        return limits.cap, times[-1]

    cap, took_s = run_in_virtual_time(main)
    assert cap == 33
    assert took_s == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    ("message", "lowered"),
    [("Rate limit reached for tokens per min (TPM)", "tokens"), ("Rate limit reached for requests", "requests")],
)
def test_a_429_lowers_the_rate_that_it_is_about(message: str, lowered: str) -> None:
    """And leaves the other one."""

    async def main() -> list[str]:
        limits = _limits(rpm=6_000, tpm=600_000)
        _refuse(limits, (await _permits(limits, 1))[0], 1, message)
        rates = {"requests": limits._request_rate.rate(0.1), "tokens": limits._token_rate.rate(0.1)}  # noqa: SLF001
        full = {"requests": 100 * REQUEST_MARGIN, "tokens": 10_000 * TOKEN_MARGIN}
        return [name for name, rate in rates.items() if rate is not None and rate <= full[name] * 0.9901]

    assert run_in_virtual_time(main) == [lowered]


def test_a_rate_learnt_from_refusals_is_kept_to() -> None:
    """Where nothing is declared: after a refusal requests go out at the rate that the server took in before."""

    async def main() -> list[float]:
        limits = _limits()
        for _ in range(200):
            (await limits.admit(1, _GENERATE)).settle(1)
            await anyio.sleep(0.05)
        _refuse(limits, (await _permits(limits, 1))[0], 5)
        return await _admission_times(limits, [1.0] * 200)

    times = run_in_virtual_time(main)
    assert times[0] >= 15
    assert 199 / (times[-1] - times[0]) == pytest.approx(20, rel=0.03)
    assert _most_in_a_window(times, [1.0] * 200, 1.0) <= 23


def test_a_rate_that_changes_is_no_occasion_for_a_burst() -> None:
    """Twenty changes a second, for two seconds: no more goes out than at the rate that was the highest."""
    times: list[float] = []

    async def main() -> None:
        limits = _limits(rpm=6_000)

        async def lower() -> None:
            for number in range(40):
                await anyio.sleep(0.05)
                limits.note_answered(Charge(1, 1), _seen(rpm=6_000 * 0.995**number))

        async with anyio.create_task_group() as group:
            group.start_soon(lower)
            times.extend(await _admission_times(limits, [1.0] * 300))

    run_in_virtual_time(main)
    assert sum(when <= 2 for when in times) <= 100 * 2 + 7


# --- what a request is expected to take ----------------------------------------------------------


def test_the_estimate_is_asked_for_when_the_turn_comes() -> None:
    """Not when a request joins the line: by then more is known."""

    async def main() -> tuple[list[float], list[float]]:
        limits, asked, reserved = _limits(tpm=60_000, max_in_flight=1), list[float](), list[float]()
        first = await limits.admit(1, _GENERATE)

        def estimate() -> float:
            asked.append(anyio.current_time())
            return 50.0

        async def ask() -> None:
            permit = await limits.admit(estimate, _GENERATE)
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
        limits = _limits(tpm=600_000, accounting="auto")
        answers = [limits.charges_reserved]
        for charged in (562, 200):
            limits = _limits(tpm=600_000, accounting="auto")
            window = LimitWindow(600_000, 600_000 - charged)
            limits.note_answered(Charge(used=200, reserved=562), SeenLimits(tokens=window))
            answers.append(limits.charges_reserved)
        for left in (400_000, 200_000):
            limits = _limits(tpm=600_000, accounting="auto")
            limits.note_answered(Charge(used=500, reserved=562), SeenLimits(tokens=LimitWindow(600_000, left)))
            answers.append(limits.charges_reserved)
        return answers

    assert run_in_virtual_time(main) == [True, True, False, False, True]


def test_a_reservation_that_was_too_small_is_owed() -> None:
    """Whichever way the server counts; what was too large comes back only where it charges by use."""

    async def main(accounting: Literal["actual", "reserved"]) -> list[str]:
        budgets = []
        for used in (30, 0, 90):
            limits = _limits(tpm=60_000, accounting=accounting)
            (await limits.admit(60, _GENERATE)).settle(used)
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
                    _refuse(limits, await limits.admit(1, _GENERATE), 3)
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


def test_a_stop_gets_through_where_nothing_has_to_be_waited_for() -> None:
    """Who asks again and again, each time granted at once and shielded while sending, is cut off all the same."""

    async def main() -> float:
        limits = _limits(rpm=6_000)

        async def ask() -> None:
            while anyio.current_time() < 1_000:
                permit = await limits.admit(1, _GENERATE)
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
