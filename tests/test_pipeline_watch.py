"""Long sleeps and stalls are noticed; what was in flight over a sleep is nobody's failure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_config import small_config

from synth_async.config.models import Endpoint as EndpointConfig
from synth_async.endpoint.client import HttpAnswer
from synth_async.endpoint.service import Endpoint
from synth_async.errors import TransientFailure
from synth_async.pipeline.watch import (
    LONG_SLEEP_S,
    TICK_S,
    SleepWatch,
    StallWatch,
    patience_s,
    watch_for_sleep,
    watch_for_stall,
)
from synth_async.records import ChatRequest, Completion, Stage
from synth_async.testing import Delayed, ScriptedClient, Step, chat_body, run_in_virtual_time, stand_still

_ANSWER = chat_body("fine")


@given(late_s=st.lists(st.floats(0, 1e6), max_size=20))
def test_only_a_tick_that_is_a_minute_late_is_a_sleep(late_s: list[float]) -> None:
    """Each sleep is told once, with its length, whatever came before it."""
    watch, now_s = SleepWatch(5.0), 5.0
    for late in late_s:
        now_s += TICK_S + late
        slept_s = watch.tick(now_s)
        assert slept_s == pytest.approx(late if late >= LONG_SLEEP_S else 0.0, abs=1e-6)


def test_a_stall_is_told_ever_less_often() -> None:
    """After the patience, then after twice as long each; a sign of life or a known reason begins anew."""
    watch = StallWatch(100)
    told = [now_s for now_s in range(0, 1001, 10) if watch.look(now_s, "same", waits=False)]
    assert told == [100, 200, 400, 800]
    assert watch.look(1010, "more", waits=False) == 0
    assert [watch.look(now_s, "more", waits=now_s < 1200) for now_s in (1110, 1190, 1280, 1290)] == [0, 0, 0, 100]


def test_patience_covers_the_longest_answer_and_the_widest_gap() -> None:
    """A server that may take 300 s, paced at one request in two minutes, is no stall for 480 s."""
    assert patience_s(small_config({"timeout_s": 300, "rpm": 0.5})) == 480
    assert patience_s(small_config({"timeout_s": 30})) == 90


def test_a_stall_is_told_in_virtual_time() -> None:
    """The watch looks at what happened until it is cancelled, and tells a stall with its seconds."""
    told: list[float] = []

    async def watched() -> None:
        with anyio.move_on_after(130):
            await watch_for_stall(lambda: (anyio.current_time() // 40 if anyio.current_time() < 50 else 2, False),
                                  told.append, 60)  # fmt: skip

    run_in_virtual_time(watched)
    assert [round(each) for each in told] == [60]


# --- an endpoint over a sleep --------------------------------------------------------------------


def _request() -> ChatRequest:
    return ChatRequest("0" * 32, Stage.GENERATE, ({"role": "user", "content": "hi"},), 0.0, 20, "text")


async def _over_a_sleep(client: ScriptedClient, *, after_s: float, slept_s: float) -> tuple[Endpoint, Completion]:
    """One request during which, `after_s` seconds from its start, nothing runs for `slept_s`."""
    endpoint = Endpoint("only", EndpointConfig(model="m", timeout_s=300), client, give_up_after_s=3600, seed=1)

    async def sleep() -> None:
        await anyio.sleep(after_s)
        stand_still(slept_s)

    async with anyio.create_task_group() as group:
        group.start_soon(watch_for_sleep, lambda _: endpoint.note_slept(), anyio.current_time)
        group.start_soon(sleep)
        completion = await endpoint.ask(_request(), lambda _: None)
        group.cancel_scope.cancel()
    return endpoint, completion


def _first(step: Step) -> Callable[[dict[str, Any]], Step]:
    """A script: this step for the first request, an answer for every other."""
    steps = iter([step])
    return lambda _: next(steps, _ANSWER)


@pytest.mark.parametrize(
    "dead",
    [
        Delayed(_ANSWER, 100_000.0),
        Delayed(TransientFailure("connection broken", kind="reset"), 3600.0),
        Delayed(TransientFailure("no answer within 3600 s", kind="timeout"), 3600.0),
    ],
)
def test_a_request_that_a_sleep_killed_is_sent_anew(dead: Delayed) -> None:
    """It is sent once more, over new connections, ten seconds later at most, and counts as no failure."""

    async def slept() -> tuple[Endpoint, Completion, float]:
        endpoint, completion = await _over_a_sleep(client, after_s=2.5, slept_s=3600.0)
        return endpoint, completion, anyio.current_time()

    client = ScriptedClient(_first(dead))
    endpoint, completion, ended_s = run_in_virtual_time(slept)
    assert completion.content == "fine"
    assert (len(client.bodies), client.renewals) == (2, 1)
    assert dict(endpoint.counts.failures) == {"slept": 1}
    assert endpoint.counts.attempts == 2
    assert ended_s < 3600 + 2.5 + 10 + 1


def test_an_answer_that_came_during_a_sleep_is_kept() -> None:
    """A sleep far beyond the deadline of a request does not cut off its answer, and nothing is paid for twice."""
    client = ScriptedClient([Delayed(_ANSWER, 3605.0)])
    endpoint, completion = run_in_virtual_time(lambda: _over_a_sleep(client, after_s=2.5, slept_s=3600.0))
    assert completion.content == "fine"
    assert (len(client.bodies), client.cancelled) == (1, 0)
    assert not endpoint.counts.failures


def test_a_short_stop_changes_nothing() -> None:
    """Thirty seconds without running are no sleep: no connection is dropped, no request sent again."""
    client = ScriptedClient([Delayed(_ANSWER, 40.0)])
    run_in_virtual_time(lambda: _over_a_sleep(client, after_s=2.5, slept_s=30.0))
    assert (len(client.bodies), client.renewals, client.cancelled) == (1, 0, 0)


def test_what_a_server_says_after_a_sleep_counts() -> None:
    """A 500 that came over the old connection is the server's failure, and one attempt."""
    client = ScriptedClient(_first(Delayed(TransientFailure("HTTP 500", kind="http_500"), 3601.0)))
    endpoint, completion = run_in_virtual_time(lambda: _over_a_sleep(client, after_s=2.5, slept_s=3600.0))
    assert completion.content == "fine"
    assert dict(endpoint.counts.failures) == {"http_500": 1}


def test_a_failing_endpoint_is_not_given_up_for_a_sleep() -> None:
    """Hours in which nothing ran are not hours in which the endpoint stayed away: `give_up_after_s` begins anew."""

    async def slept() -> str | None:
        client = ScriptedClient(_away_until(7300.0))
        endpoint = Endpoint("only", EndpointConfig(model="m"), client, give_up_after_s=3600, seed=1)

        async def sleep() -> None:
            await anyio.sleep(60.5)
            stand_still(7200.0)

        async with anyio.create_task_group() as group:
            group.start_soon(watch_for_sleep, lambda _: endpoint.note_slept(), anyio.current_time)
            group.start_soon(sleep)
            completion = await endpoint.ask(_request(), lambda _: None)
            group.cancel_scope.cancel()
        return completion.content

    assert run_in_virtual_time(slept) == "fine"


def _away_until(back_s: float) -> Callable[[dict[str, Any]], bytes | HttpAnswer | BaseException]:
    return lambda _: _ANSWER if anyio.current_time() > back_s else TransientFailure("HTTP 503", kind="http_503")
