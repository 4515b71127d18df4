"""What refusals and headers do to the limits: pauses, the cap, the rates, in virtual time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import anyio
import pytest
from limits_at_work import (
    GENERATE,
    admission_times,
    answer,
    most_in_a_window,
    open_limits,
    permits_for,
    refuse,
)

from synth_async.endpoint.accounting import Charge
from synth_async.endpoint.headers import LimitWindow, SeenLimits
from synth_async.endpoint.learning import RateFinder
from synth_async.endpoint.limits import REQUEST_MARGIN, TOKEN_MARGIN, Limits, Permit
from synth_async.testing import run_in_virtual_time

# --- pauses --------------------------------------------------------------------------------------


@pytest.mark.parametrize("hint_s", [0.25, 12.5, 65.0])
def test_a_hint_holds_everybody_exactly_that_long(hint_s: float) -> None:
    """Nobody is admitted before the hint is over; shorter hints in the meantime change nothing."""

    async def main() -> tuple[list[float], float]:
        limits = open_limits()
        await anyio.sleep(100)
        permits = await permits_for(limits, 3)
        refuse(limits, permits[0], hint_s)
        await anyio.sleep(hint_s * 0.1)
        refuse(limits, permits[1], hint_s * 0.1)
        refuse(limits, permits[2], None)
        assert limits.pause_left_s == pytest.approx(hint_s * 0.9)
        return await admission_times(limits, [1.0] * 5), limits.paused_s

    times, paused_s = run_in_virtual_time(main)
    assert times == [pytest.approx(100 + hint_s, abs=1e-4)] * 5
    assert paused_s == pytest.approx(hint_s)


def test_a_longer_hint_extends_a_pause() -> None:
    """The pause ends when the last hint is over, also for who waits already."""

    async def main() -> list[float]:
        limits, seen = open_limits(), list[float]()
        first, second = await permits_for(limits, 2)
        refuse(limits, first, 2)

        async def extend() -> None:
            await anyio.sleep(1)
            refuse(limits, second, 5)

        async with anyio.create_task_group() as group:
            group.start_soon(extend)
            seen.extend(await admission_times(limits, [1.0]))
        return seen

    assert run_in_virtual_time(main) == [pytest.approx(6, abs=1e-4)]


async def _pauses(hints: Sequence[float | None]) -> list[float]:
    """How long each of many refusals holds, when nothing is answered in between, and how long one does after that."""
    limits, pauses = open_limits(), []
    for hint_s in hints:
        refuse(limits, await limits.admit(1, GENERATE), hint_s)
        pauses.append(limits.pause_left_s)
        await anyio.sleep(limits.pause_left_s + 0.001)
    answer(limits)
    refuse(limits, await limits.admit(1, GENERATE), hints[0])
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
            permit = await limits.admit(1, GENERATE)
            sent.append((anyio.current_time(), limits.in_flight))
            await anyio.sleep(1)
            if anyio.current_time() < until_s:
                refuse(limits, permit, hint_s)
            else:
                permit.settle(1)
                answer(limits)

    with anyio.move_on_after(over_s):
        async with anyio.create_task_group() as group:
            for _ in range(40):
                group.start_soon(worker)
    return sent


def test_a_hint_of_hours_is_tried_out_by_single_requests() -> None:
    """After 65 s, then after twice as long each time, half an hour at most; one request at a time."""
    sent = run_in_virtual_time(_sent_while_away, open_limits(rpm=6_000), 86_400.0, 1e9, 12_000.0)
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
    sent = run_in_virtual_time(_sent_while_away, open_limits(rpm=6_000), 86_400.0, 120.0, 300.0)
    assert [when for when, _ in sent if 60 < when < 190] == pytest.approx([66])
    assert max(in_flight for when, in_flight in sent if when > 200) == 40


def test_answers_to_earlier_requests_do_not_let_a_burst_out_after_a_long_hint() -> None:
    """What was in flight when the pause began is answered meanwhile; still one request goes out alone after it."""

    async def main() -> list[float]:
        limits, sent = open_limits(rpm=6_000), list[float]()
        early = await permits_for(limits, 20)
        refuse(limits, early[0], 7_200)
        for permit in early[1:]:
            limits.note_answered(permit)
            permit.settle(1)

        async def ask() -> None:
            await limits.admit(1, GENERATE)
            sent.append(anyio.current_time())

        with anyio.move_on_after(69):
            async with anyio.create_task_group() as group:
                for _ in range(40):
                    group.start_soon(ask)
        return sent

    assert run_in_virtual_time(main) == pytest.approx([65], abs=0.2)


def test_the_pause_that_is_told_is_what_the_endpoint_asked_for() -> None:
    """Also while it is tried out whether it holds; and nothing is left of it after an answer."""

    async def main() -> list[float]:
        limits = open_limits()
        refuse(limits, await limits.admit(1, GENERATE), 7_200)
        left = [limits.pause_left_s]
        await anyio.sleep(100)
        left.append(limits.pause_left_s)
        answer(limits)
        left.append(limits.pause_left_s)
        refuse(limits, await limits.admit(1, GENERATE), 100)
        return [*left, limits.pause_left_s]

    assert run_in_virtual_time(main) == pytest.approx([7_200, 7_100, 0, 100], abs=1e-3)


# --- the cap where no limit is known -------------------------------------------------------------


def test_a_429_halves_the_cap_and_answers_win_it_back() -> None:
    """At most one halving a second, never below one; each cap's worth of answers adds one, up to the maximum."""

    async def main() -> list[int]:
        limits, caps = open_limits(max_in_flight=64), []
        permits = await permits_for(limits, 64)
        for permit in permits[:10]:
            refuse(limits, permit, 1)
        caps.append(limits.cap)
        for permit in permits[10:]:
            permit.settle(None)
        await anyio.sleep(1.1)
        for _ in range(33):
            answer(limits)
        caps.append(limits.cap)
        for _ in range(10_000):
            answer(limits)
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
            answer(limits)
    return counts


async def _permits_at_once(limits: Limits) -> list[Permit]:
    permits: list[Permit] = []
    with anyio.move_on_after(0.01):
        while True:
            permits.append(await limits.admit(1, GENERATE))
    return permits


def test_where_no_limit_is_known_the_start_is_slow() -> None:
    """32 at first, and twice as many in each round, up to the maximum; a smaller maximum is kept from the start."""
    assert run_in_virtual_time(_rounds, open_limits(max_in_flight=300), 6) == [32, 64, 128, 256, 300, 300]
    assert run_in_virtual_time(_rounds, open_limits(max_in_flight=7), 2) == [7, 7]


@pytest.mark.parametrize(("before", "counts"), [(2, [20, 20, 21]), (60, [20, 40, 80])])
def test_the_first_refusal_ends_the_doubling_unless_it_tells_a_rate(before: int, counts: list[int]) -> None:
    """From then on a round adds one; where the refusal told a rate, slots are not what holds requests back."""

    async def main() -> list[int]:
        limits = open_limits(max_in_flight=300)
        for permit in await permits_for(limits, before):
            permit.settle(1)
        await anyio.sleep(2)
        refuse(limits, (await permits_for(limits, 1))[0], 0.5)
        await anyio.sleep(1)
        limits._cap = 20.0  # noqa: SLF001 - where the halving led to is another rule
        limits._request_rate = RateFinder(None)  # noqa: SLF001 - and so is the rate that was learnt
        return await _rounds(limits, 3)

    assert run_in_virtual_time(main) == counts


@pytest.mark.parametrize("limit", [{"rpm": 600_000.0}, {"tpm": 6e6}])
def test_declared_limits_are_kept_at_a_429(limit: dict[str, float]) -> None:
    """Where rpm or tpm says what is allowed, the cap is the maximum from the start, and stays."""

    async def main() -> tuple[int, int]:
        limits = open_limits(**limit, max_in_flight=64)  # type: ignore[arg-type] # rpm or tpm
        before = limits.cap
        for permit in await permits_for(limits, 3):
            refuse(limits, permit, 2)
            await anyio.sleep(2)
        return before, limits.cap

    assert run_in_virtual_time(main) == (64, 64)


@pytest.mark.parametrize("message", ["HTTP 429: Too many concurrent requests", "HTTP 429: max parallel requests"])
def test_a_429_about_slots_caps_what_is_in_flight(message: str) -> None:
    """At 97 % of what is out, with a short pause whatever the hint; the rate stays as it is, known or not."""

    async def main(limits: Limits) -> tuple[int, float, str]:
        permits = await permits_for(limits, 101)
        refuse(limits, permits[0], 60, message)
        return limits.cap, round(limits.pause_left_s, 3), repr(limits._request_rate)  # noqa: SLF001 - it stays

    assert run_in_virtual_time(main, open_limits()) == (97, 0.5, "<RateFinder rate=inf/s ceiling=None>")
    declared = open_limits(rpm=600_000)
    before = repr(declared._request_rate)  # noqa: SLF001 - it stays
    assert run_in_virtual_time(main, declared) == (97, 0.5, before)


# --- rates that are learnt -----------------------------------------------------------------------


def _seen(rpm: float | None = None, tpm: float | None = None, period_s: float | None = None) -> SeenLimits:
    return SeenLimits(
        LimitWindow(rpm, period_s=period_s) if rpm else None, LimitWindow(tpm, period_s=period_s) if tpm else None
    )


async def _per_minute(limits: Limits, seen: SeenLimits, tokens: float) -> float:
    """Requests a minute after an answer with such headers."""
    answer(limits, Charge(used=tokens, reserved=tokens), seen)
    times = await admission_times(limits, [tokens] * 200, tokens)
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
    found = run_in_virtual_time(_per_minute, open_limits(rpm=rpm, tpm=tpm), seen, 100.0)
    assert per_minute * 0.97 < found < per_minute * 1.015


def test_a_limit_from_headers_counts_as_declared() -> None:
    """The cap is the maximum at once, and a 429 does not halve it."""

    async def main() -> list[int]:
        limits = open_limits(max_in_flight=300)
        caps = [limits.cap]
        answer(limits, Charge(20, 20), _seen(rpm=60_000))
        caps.append(limits.cap)
        refuse(limits, (await permits_for(limits, 1))[0], 1)
        return [*caps, limits.cap]

    assert run_in_virtual_time(main) == [32, 300, 300]


def test_headers_that_tell_nothing_change_nothing() -> None:
    """Answers without them leave the endpoint without limits."""

    async def main() -> tuple[int, float]:
        limits = open_limits(max_in_flight=300)
        answer(limits, Charge(20, 20), SeenLimits())
        times = await admission_times(limits, [20.0] * 500)
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
        limits = open_limits(rpm=6_000, tpm=600_000)
        refuse(limits, (await permits_for(limits, 2))[1], 1, message)
        rates = {"requests": limits._request_rate.rate(0.1), "tokens": limits._token_rate.rate(0.1)}  # noqa: SLF001
        full = {"requests": 100 * REQUEST_MARGIN, "tokens": 10_000 * TOKEN_MARGIN}
        return [name for name, rate in rates.items() if rate is not None and rate <= full[name] * 0.9901]

    assert run_in_virtual_time(main) == [lowered]


def test_a_rate_learnt_from_refusals_is_kept_to() -> None:
    """Where nothing is declared: after a refusal requests go out at the rate that the server took in before."""

    async def main() -> list[float]:
        limits = open_limits()
        for _ in range(200):
            (await limits.admit(1, GENERATE)).settle(1)
            await anyio.sleep(0.05)
        refuse(limits, (await permits_for(limits, 1))[0], 5)
        return await admission_times(limits, [1.0] * 200)

    times = run_in_virtual_time(main)
    assert times[0] >= 15
    assert 199 / (times[-1] - times[0]) == pytest.approx(20, rel=0.03)
    assert most_in_a_window(times, [1.0] * 200, 1.0) <= 23


def test_a_rate_that_changes_is_no_occasion_for_a_burst() -> None:
    """Twenty changes a second, for two seconds: no more goes out than at the rate that was the highest."""
    times: list[float] = []

    async def main() -> None:
        limits = open_limits(rpm=6_000)

        async def lower() -> None:
            for number in range(40):
                await anyio.sleep(0.05)
                answer(limits, Charge(1, 1), _seen(rpm=6_000 * 0.995**number))

        async with anyio.create_task_group() as group:
            group.start_soon(lower)
            times.extend(await admission_times(limits, [1.0] * 300))

    run_in_virtual_time(main)
    assert sum(when <= 2 for when in times) <= 100 * 2 + 7
