"""An endpoint as the stages see it, in virtual time, against a scripted client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import anyio
import httpx2
import pytest

from synth_async.config.models import Endpoint as Settings
from synth_async.endpoint.client import HttpAnswer
from synth_async.endpoint.service import Endpoint
from synth_async.errors import EndpointRefused, RateLimited, RequestRejected, StoppedEarly, TransientFailure
from synth_async.records import AnswerSchema, ChatRequest, Completion, Message, ResponseFormat, Stage
from synth_async.testing import Delayed, ScriptedClient, Step, chat_body, run_in_virtual_time

_GOOD = chat_body("hello")


def _request(number: int = 0, response_format: ResponseFormat = "text") -> ChatRequest:
    messages = (Message(role="user", content=f"question {number}"),)
    schema = AnswerSchema("exchange", {"type": "object"}) if response_format != "text" else None
    return ChatRequest(f"{number:032x}", Stage.GENERATE, messages, 0.8, 100, response_format, schema)


def _endpoint(client: ScriptedClient, *, give_up_after_s: float = 3600, **settings: Any) -> Endpoint:
    return Endpoint("main", Settings(model="m", **settings), client, give_up_after_s=give_up_after_s, seed=3)


def _opened(client: ScriptedClient, **settings: Any) -> Endpoint:
    """An endpoint that has answered before, so that its breaker is closed."""
    endpoint = _endpoint(client, **settings)
    endpoint.breaker.note_answered()
    return endpoint


async def _ask(endpoint: Endpoint, kept: list[bytes], number: int = 0) -> Completion:
    return await endpoint.ask(_request(number), kept.append)


def _one(endpoint: Endpoint) -> tuple[Completion, list[bytes]]:
    kept: list[bytes] = []
    return run_in_virtual_time(_ask, endpoint, kept), kept


def _broken(kind: str = "http_502") -> TransientFailure:
    return TransientFailure("HTTP 502", kind=kind)


# --- keeping -------------------------------------------------------------------------------------


def test_an_answer_is_kept_once_and_counted() -> None:
    """The journal gets the raw bytes; the counts are the server's."""
    endpoint = _endpoint(ScriptedClient([_GOOD], delay_s=2))
    completion, kept = _one(endpoint)
    assert completion.content == "hello"
    assert kept == [_GOOD]
    counts = endpoint.counts
    assert (counts.attempts, counts.answered, counts.prompt_tokens, counts.completion_tokens) == (1, 1, 20, 10)
    assert endpoint.mean_latency_s == 2
    assert endpoint.limits.in_flight == 0


def test_an_answer_is_kept_before_it_is_read() -> None:
    """What nobody can read is in the journal all the same, and is asked for again."""
    endpoint = _endpoint(ScriptedClient([b"<html>what?", chat_body("cut")[:-20], _GOOD]))
    completion, kept = _one(endpoint)
    assert completion.content == "hello"
    assert kept == [b"<html>what?", chat_body("cut")[:-20], _GOOD]
    assert endpoint.counts.failures == {"body": 2}


def test_a_journal_that_fails_ends_the_request() -> None:
    """The error passes through, and the slot is free again."""
    endpoint = _endpoint(ScriptedClient([_GOOD]))

    def full(_body: bytes) -> None:
        raise OSError("full")

    async def main() -> None:
        await endpoint.ask(_request(), full)

    with pytest.raises(OSError, match="full"):
        run_in_virtual_time(main)
    assert endpoint.limits.in_flight == 0


# --- attempts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("hint_s", [0.3, 7.0, 65.0])
@pytest.mark.parametrize("rpm", [None, 600])
def test_a_429_with_a_hint_waits_exactly_that_long(hint_s: float, rpm: float | None) -> None:
    """Neither sooner nor later, whether or not a limit is declared."""
    endpoint = _opened(ScriptedClient([_GOOD, RateLimited("HTTP 429", hint_s=hint_s), _GOOD], delay_s=1), rpm=rpm)

    async def main() -> float:
        await _ask(endpoint, [], 0)
        await _ask(endpoint, [], 1)
        return anyio.current_time()

    assert run_in_virtual_time(main) == pytest.approx(3 + hint_s, abs=0.01)
    assert endpoint.counts.http_429 == 1
    assert endpoint.limits.paused_s == pytest.approx(hint_s)


def test_a_429_is_never_an_attempt() -> None:
    """Any number of them is waited out, at least for the hint each time, and the answer comes in the end."""
    script: list[Step] = [RateLimited("HTTP 429", hint_s=40) for _ in range(50)]
    endpoint = _opened(ScriptedClient([*script, _GOOD]))

    async def main() -> float:
        await _ask(endpoint, [])
        return anyio.current_time()

    assert run_in_virtual_time(main) == pytest.approx(2_000, abs=0.01)
    assert endpoint.counts.http_429 == 50
    assert endpoint.limits.paused_s == pytest.approx(2_000)


def test_hints_that_are_too_short_are_no_storm() -> None:
    """An endpoint that refuses for ten minutes and says `1 s` each time is asked a few dozen times."""
    client = ScriptedClient(lambda _: _GOOD if anyio.current_time() > 600 else RateLimited("HTTP 429", hint_s=1))
    endpoint = _opened(client)

    async def main() -> float:
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(_ask, endpoint, [], number)
        return anyio.current_time()

    assert 600 < run_in_virtual_time(main) <= 640
    assert len(client.bodies) < 100


def test_a_hint_of_a_day_does_not_end_the_run() -> None:
    """It is tried out meanwhile: an endpoint that is there again after ten minutes is found soon after."""
    day = RateLimited("HTTP 429: try again tomorrow", hint_s=86_400)
    client = ScriptedClient(lambda _body: _GOOD if anyio.current_time() > 600 else day)
    endpoint = _opened(client, rpm=600)

    async def main() -> float:
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(_ask, endpoint, [], number)
            await anyio.sleep(100)
            assert endpoint.waiting_for() == "main asked for a pause, 86365 s left"
        return anyio.current_time()

    assert 600 < run_in_virtual_time(main) < 1_200
    assert len(client.bodies) < 20 + 10


def test_a_429_holds_the_others_too() -> None:
    """Whoever comes later waits until the pause is over."""
    client = ScriptedClient(lambda _body: RateLimited("HTTP 429", hint_s=30) if len(client.bodies) == 1 else _GOOD)
    endpoint = _opened(client)

    async def main() -> list[float]:
        times: list[float] = []

        async def ask(number: int) -> None:
            await anyio.sleep(number)
            await _ask(endpoint, [], number)
            times.append(anyio.current_time())

        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(ask, number)
        return times

    assert run_in_virtual_time(main) == pytest.approx([30] * 4, abs=0.01)


def test_a_429_leaves_half_of_what_was_in_flight() -> None:
    """Where no limit is known; the one that was refused counts as in flight."""
    client = ScriptedClient(
        lambda _body: Delayed(RateLimited("HTTP 429", hint_s=60), 1) if len(client.bodies) == 21 else Delayed(_GOOD, 2)
    )
    endpoint = _opened(client)

    caps: list[int] = []

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(21):
                group.start_soon(_ask, endpoint, [], number)
            await anyio.sleep(1.5)
            caps.append(endpoint.limits.cap)

    run_in_virtual_time(main)
    assert caps == [10]


def test_attempts_are_used_up() -> None:
    """Six failures in a row are passed on: the task stays undecided."""
    client = ScriptedClient(lambda _body: _broken())
    endpoint = _opened(client)
    with pytest.raises(TransientFailure, match="HTTP 502"):
        _one(endpoint)
    assert len(client.bodies) == endpoint.counts.attempts == 6
    assert endpoint.counts.failures == {"http_502": 6}


def test_rate_limits_between_failures_do_not_use_up_attempts() -> None:
    """Five failures and any number of 429s leave the sixth attempt."""
    limited = RateLimited("HTTP 429", hint_s=1)
    script = [step for _ in range(5) for step in (_broken(), limited, limited)]
    completion, _ = _one(_opened(ScriptedClient([*script, _GOOD])))
    assert completion.content == "hello"


def test_a_deadline_is_a_timeout() -> None:
    """An exchange is cut off after timeout_s, three times; then it is given up."""
    client = ScriptedClient(lambda _body: Delayed(_GOOD, 10_000))
    endpoint = _opened(client, timeout_s=60)

    async def main() -> float:
        with pytest.raises(TransientFailure, match="no answer within 60 s") as caught:
            await _ask(endpoint, [])
        assert caught.value.kind == "timeout"
        return anyio.current_time()

    assert 180 <= run_in_virtual_time(main) <= 185
    assert client.cancelled == 3
    assert endpoint.limits.in_flight == 0


def test_timeouts_take_the_requests_in_flight_down_where_no_limit_is_known() -> None:
    """As a 503 does: a server that answers too late has too much to do. With declared limits the cap stays."""

    async def main(endpoint: Endpoint) -> int:
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(_ask, endpoint, [], number)
            await anyio.sleep(60.5)
            group.cancel_scope.cancel()
            endpoint.abandon()
        return endpoint.limits.cap

    for settings, most in (({}, 10), ({"rpm": 60_000, "max_in_flight": 20}, 20)):
        client = ScriptedClient(lambda _body: Delayed(_GOOD, 10_000))
        assert run_in_virtual_time(main, _opened(client, timeout_s=60, **settings)) == most


def test_a_retry_waits_without_a_slot_while_fresh_work_goes_on() -> None:
    """With one slot and two workers, the backoff of a failed request is a time in which others are answered."""
    order: list[str] = []

    def answer(body: dict[str, Any]) -> Step:
        order.append(body["messages"][0]["content"])
        return TransientFailure("HTTP 502", kind="http_502", hint_s=10) if len(order) == 1 else _GOOD

    endpoint = _opened(ScriptedClient(answer, delay_s=1), max_in_flight=1)

    async def main() -> float:
        numbers = iter(range(21))

        async def worker() -> None:
            for number in numbers:
                await _ask(endpoint, [], number)

        async with anyio.create_task_group() as group:
            group.start_soon(worker)
            group.start_soon(worker)
        return anyio.current_time()

    assert run_in_virtual_time(main) == pytest.approx(22, abs=0.01)
    assert order.index("question 0", 1) in range(10, 13)


def test_an_outage_is_nobodys_attempt() -> None:
    """While the endpoint is away requests wait, one probe at a time; when it is back, all are answered."""

    async def main() -> tuple[Endpoint, ScriptedClient, int, float]:
        def answer(_body: dict[str, Any]) -> Step:
            if anyio.current_time() < 100:
                return _GOOD
            return _broken() if anyio.current_time() < 1_000 else _GOOD

        client, kept = ScriptedClient(answer, delay_s=0.5), list[bytes]()
        endpoint = _endpoint(client, max_in_flight=20)

        async def worker(number: int) -> None:
            for turn in range(20):
                await _ask(endpoint, kept, 100 * number + turn)
                await anyio.sleep(10)

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(worker, number)
        assert endpoint.waiting_for() == ""
        return endpoint, client, len(kept), anyio.current_time()

    endpoint, client, kept, took_s = run_in_virtual_time(main)
    assert kept == 400
    assert 1_000 < took_s < 1_300
    assert len(client.bodies) < 400 + 200
    assert repr(endpoint.breaker) == "<Breaker main closed failures=0>"


# --- the start -----------------------------------------------------------------------------------


def test_the_first_request_goes_alone() -> None:
    """A hundred callers and a wrong key cost one request."""
    client = ScriptedClient(lambda _body: EndpointRefused("wrong key"), delay_s=1)
    endpoint = _endpoint(client)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(_ask, endpoint, [], number)

    with pytest.raises(ExceptionGroup):
        run_in_virtual_time(main)
    assert len(client.bodies) == 1


@pytest.mark.parametrize("answer", [RequestRejected("HTTP 400: no", status=400), b"<html>hello</html>"])
def test_an_endpoint_that_never_makes_sense_is_refused(answer: Step) -> None:
    """Five rejections, or five bodies that are no completions, and nothing else from the start: it is the wrong one."""
    client = ScriptedClient(lambda _body: answer)
    endpoint = _endpoint(client)

    async def main() -> None:
        for number in range(5):
            try:
                await _ask(endpoint, [], number)
            except RequestRejected:
                assert number < 4

    with pytest.raises(EndpointRefused, match="refuses every request"):
        run_in_virtual_time(main)
    assert len(client.bodies) == 5


def test_an_endpoint_that_cannot_be_reached_is_refused_after_half_a_minute() -> None:
    """Thirty seconds of refused connections at the start, a few probes only."""
    client = ScriptedClient(lambda _body: TransientFailure("refused", kind="connect", connected=False))
    endpoint = _endpoint(client)

    async def main() -> float:
        with pytest.raises(EndpointRefused, match="could not be reached"):
            await _ask(endpoint, [])
        return anyio.current_time()

    assert 30 <= run_in_virtual_time(main) <= 36
    assert len(client.bodies) < 12


@pytest.mark.parametrize("answer", [_broken(), RateLimited("HTTP 429", hint_s=100)])
def test_an_endpoint_that_stays_away_ends_the_run(answer: Step) -> None:
    """After give_up_after_s of failures, and of rate limits as well."""
    endpoint = _endpoint(ScriptedClient(lambda _body: answer), give_up_after_s=7_200)

    async def main() -> float:
        with pytest.raises(StoppedEarly, match="has not answered for"):
            await _ask(endpoint, [])
        return anyio.current_time()

    assert 7_200 <= run_in_virtual_time(main) <= 7_301


def test_patience_with_a_hint_of_a_day_ends_as_well() -> None:
    """After give_up_after_s, with a few dozen requests at most."""
    client = ScriptedClient(lambda _body: RateLimited("HTTP 429: try again tomorrow", hint_s=86_400))
    endpoint = _endpoint(client, give_up_after_s=21_600)

    async def main() -> float:
        with pytest.raises(StoppedEarly, match="has not answered for"):
            await _ask(endpoint, [])
        return anyio.current_time()

    assert 21_600 <= run_in_virtual_time(main) <= 21_600 + 1_800
    assert len(client.bodies) < 30


def test_why_it_waits_is_told() -> None:
    """The progress line names the outage, or the pause."""
    endpoint = _endpoint(ScriptedClient([_broken(), RateLimited("HTTP 429", hint_s=60), _GOOD]))

    async def main() -> list[str]:
        found = [endpoint.waiting_for()]
        async with anyio.create_task_group() as group:
            group.start_soon(_ask, endpoint, [])
            await anyio.sleep(0.1)
            found.append(endpoint.waiting_for())
            endpoint.breaker.note_answered()
            await anyio.sleep(20.5)
            found.append(endpoint.waiting_for())
        return found

    assert run_in_virtual_time(main) == [
        "",
        "main does not answer: HTTP 502",
        "main asked for a pause, 40 s left",
    ]


# --- stopping ------------------------------------------------------------------------------------


async def _stopped(endpoint: Endpoint, *, abandon_after_s: float | None) -> tuple[list[bytes], float]:
    """Two requests, of which one is in flight and one waits for its slot, when the run is stopped after a second."""
    kept: list[bytes] = []
    async with anyio.create_task_group() as group:
        group.start_soon(_ask, endpoint, kept, 0)
        group.start_soon(_ask, endpoint, kept, 1)
        await anyio.sleep(1)
        group.cancel_scope.cancel()
        if abandon_after_s is not None:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(abandon_after_s)
            endpoint.abandon()
    return kept, anyio.current_time()


def test_a_stop_lets_what_is_in_flight_finish() -> None:
    """It may be paid for: its answer is kept. What has not been sent is not."""
    client = ScriptedClient(lambda _body: Delayed(_GOOD, 30))
    endpoint = _opened(client, max_in_flight=1)
    kept, now = run_in_virtual_time(lambda: _stopped(endpoint, abandon_after_s=None))
    assert (kept, len(client.bodies), client.cancelled) == ([_GOOD], 1, 0)
    assert now == pytest.approx(30, abs=0.01)
    assert endpoint.limits.in_flight == 0


def test_abandoning_cuts_off_what_is_in_flight() -> None:
    """After a second request to stop nobody waits."""
    client = ScriptedClient(lambda _body: Delayed(_GOOD, 30))
    endpoint = _opened(client, max_in_flight=1)
    kept, now = run_in_virtual_time(lambda: _stopped(endpoint, abandon_after_s=5))
    assert (kept, len(client.bodies), client.cancelled) == ([], 1, 1)
    assert now == pytest.approx(6, abs=0.01)
    assert endpoint.limits.in_flight == 0


def test_a_failed_request_is_not_tried_again_after_a_stop() -> None:
    """The exchange in flight is let finish; another attempt is not begun."""
    client = ScriptedClient(lambda _body: Delayed(_broken(), 30))
    endpoint = _opened(client, max_in_flight=1)
    run_in_virtual_time(lambda: _stopped(endpoint, abandon_after_s=None))
    assert len(client.bodies) == 1


def test_a_stop_gets_through_to_who_is_never_made_to_wait() -> None:
    """Someone who asks again and again, and waits for nothing but answers, sends nothing after the stop."""
    client = ScriptedClient(lambda _body: Delayed(_GOOD, 1))
    endpoint = _opened(client, rpm=6_000)

    async def main() -> None:
        with anyio.move_on_after(10.5):
            for number in range(1_000):
                await _ask(endpoint, [], number)

    run_in_virtual_time(main)
    assert len(client.bodies) == 11


def test_a_refusal_that_no_spelling_helps_is_passed_on() -> None:
    """The task is dropped, and the slot is free."""
    endpoint = _opened(ScriptedClient(lambda _body: RequestRejected("HTTP 400: too long", status=400)))
    with pytest.raises(RequestRejected, match="too long"):
        _one(endpoint)
    assert endpoint.limits.in_flight == 0


# --- tokens --------------------------------------------------------------------------------------


def test_tokens_are_reserved_by_what_answers_are_like() -> None:
    """With accounting by use, the limit is used in full although max_tokens is far above what is answered."""
    client = ScriptedClient(lambda _body: chat_body("x", prompt_tokens=20, completion_tokens=40), delay_s=1)
    endpoint = _opened(client, tpm=6_000, token_accounting="actual")

    async def main() -> float:
        async with anyio.create_task_group() as group:
            for number in range(300):
                group.start_soon(_ask, endpoint, [], number)
        return anyio.current_time()

    took_s = run_in_virtual_time(main)
    spent = endpoint.counts.prompt_tokens + endpoint.counts.completion_tokens
    assert 0.9 < spent / (6_000 / 60 * took_s) < 1.05


def _told(charges: Literal["used", "max_tokens"], tpm: float = 60_000) -> Callable[[dict[str, Any]], Step]:
    """Answers of 20 + 40 tokens from a server that tells its limit and what is left of it."""
    left, as_of = tpm, 0.0

    def answer(body: dict[str, Any]) -> Step:
        nonlocal left, as_of
        now = anyio.current_time()
        left, as_of = min(tpm, left + (now - as_of) * tpm / 60), now
        left -= 20 + (40 if charges == "used" else body["max_tokens"])
        headers = {"x-ratelimit-limit-tokens": f"{tpm:.0f}", "x-ratelimit-remaining-tokens": f"{left:.0f}"}
        return HttpAnswer(chat_body("x", prompt_tokens=20, completion_tokens=40), httpx2.Headers(headers), 0.0)

    return answer


@pytest.mark.parametrize(("charges", "per_request"), [("used", 60), ("max_tokens", 120)])
def test_a_token_limit_is_found_in_headers_and_used_the_way_it_is_charged(
    charges: Literal["used", "max_tokens"], per_request: float
) -> None:
    """Nothing is declared: the limit comes from the headers, and how it is charged from what is left of it."""
    endpoint = _endpoint(ScriptedClient(_told(charges), delay_s=0.01))

    async def main() -> float:
        async with anyio.create_task_group() as group:
            for number in range(2_000):
                group.start_soon(_ask, endpoint, [], number)
        return anyio.current_time()

    took_s = run_in_virtual_time(main)
    assert endpoint.limits.accounting.found == ("actual" if charges == "used" else "reserved")
    assert 0.95 < 2_000 * per_request / (60_000 / 60 * took_s) < 1.01


def test_a_429_about_tokens_gives_its_reservation_back() -> None:
    """What was refused was not charged: the next request need not wait for it."""
    refused = RateLimited("HTTP 429: Rate limit reached for tokens", hint_s=1)
    endpoint = _opened(ScriptedClient([refused, _GOOD]), tpm=600, token_accounting="actual")

    async def main() -> float:
        await _ask(endpoint, [])
        return anyio.current_time()

    # 100 tokens are ten seconds of the limit; half of the second reservation is paid from the first.
    assert run_in_virtual_time(main) < 15
