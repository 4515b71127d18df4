"""What a 200 may hold that is no answer, and what comes of it: read by the endpoint, in virtual time."""

from __future__ import annotations

from typing import Any

import anyio
import orjson
import pytest

from synth_async.config.models import Endpoint as Settings
from synth_async.endpoint.service import Endpoint
from synth_async.errors import EndpointRefused, RequestRejected, SynthAsyncError
from synth_async.records import ChatRequest, Completion, Stage
from synth_async.testing import ScriptedClient, Step, chat_body, run_in_virtual_time

_GOOD = chat_body("hello")
_REQUEST = ChatRequest("0" * 32, Stage.GENERATE, ({"role": "user", "content": "hi"},), 0.8, 64, "text")


def _error(code: object, message: str = "no luck") -> bytes:
    return orjson.dumps({"error": {"code": code, "message": message}})


def _in_choice(code: int) -> bytes:
    return orjson.dumps({"choices": [{"error": {"code": code, "message": "upstream"}, "finish_reason": "error"}]})


def _endpoint(*script: Step) -> Endpoint:
    endpoint = Endpoint("main", Settings(model="m"), ScriptedClient(script), give_up_after_s=3600, seed=3)
    endpoint.breaker.note_answered()
    return endpoint


def _ask(endpoint: Endpoint) -> tuple[Completion, float]:
    async def main() -> tuple[Completion, float]:
        return await endpoint.ask(_REQUEST, lambda _: None), anyio.current_time()

    return run_in_virtual_time(main)


@pytest.mark.parametrize(
    "body",
    [
        b"\n\n \n" + _GOOD,
        b"\xef\xbb\xbf" + _GOOD,
        orjson.dumps({**orjson.loads(_GOOD), "error": None}),
    ],
)
def test_what_stands_around_an_answer_does_not_matter(body: bytes) -> None:
    """Blank lines that keep a connection alive, a byte order mark, an error that is null."""
    assert _ask(_endpoint(body))[0].content == "hello"


@pytest.mark.parametrize(
    "body", [_error(429), _error("429"), orjson.dumps([{"error": {"code": 429}}]), _in_choice(429)]
)
def test_a_rate_limit_behind_a_200_is_one(body: bytes) -> None:
    """It is waited out and never an attempt, however often it comes."""
    endpoint = _endpoint(*[body] * 20, _GOOD)
    assert _ask(endpoint)[0].content == "hello"
    assert (endpoint.counts.http_429, endpoint.counts.failures) == (20, {})


def test_the_words_of_a_rate_limit_behind_a_200_are_its_hint() -> None:
    """The pause is as long as the error says."""
    assert _ask(_endpoint(_error(429, "Please try again in 7s."), _GOOD))[1] == pytest.approx(7, abs=0.01)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (_error(402, "Insufficient credits"), EndpointRefused),
        (_error(429, "insufficient_quota"), EndpointRefused),
        (_error(400, "the prompt is too long"), RequestRejected),
        (orjson.dumps([{"error": {"code": 400, "message": "bad", "status": "INVALID_ARGUMENT"}}]), RequestRejected),
    ],
)
def test_a_refusal_behind_a_200_is_one(body: bytes, expected: type[SynthAsyncError]) -> None:
    """An empty account ends the run and a bad request its task, without another attempt."""
    endpoint = _endpoint(body)
    with pytest.raises(expected):
        _ask(endpoint)
    assert endpoint.counts.attempts == 1


@pytest.mark.parametrize(
    "body",
    [
        _error(502),
        _error("server_error"),
        _error(200),
        _error(True),
        _error(None),
        _error(401, "the upstream provider's key"),
        orjson.dumps({"error": "overloaded"}),
        orjson.dumps([{"error": {"message": "overloaded"}}]),
        _in_choice(502),
        b"[]",
        b"<html>Bad Gateway</html>",
        _GOOD[:-9],
        b"",
    ],
)
def test_any_other_trouble_behind_a_200_is_worth_another_attempt(body: bytes) -> None:
    """Errors of the server's own, HTML, a cut or an empty body: the next attempt may bring the answer."""
    endpoint = _endpoint(body, _GOOD)
    assert _ask(endpoint)[0].content == "hello"
    assert endpoint.counts.failures == {"body": 1}


def test_a_format_that_is_refused_behind_a_200_is_left() -> None:
    """A router that wraps its provider's 400 is understood like one that passes it on."""
    seen: list[dict[str, Any]] = []

    def answer(body: dict[str, Any]) -> Step:
        seen.append(body)
        return _error(400, "response_format is not supported") if "response_format" in body else _GOOD

    endpoint = Endpoint("main", Settings(model="m"), ScriptedClient(answer), give_up_after_s=3600)
    request = ChatRequest("0" * 32, Stage.GENERATE, _REQUEST.messages, 0.8, 64, "json_object")

    async def main() -> str | None:
        return (await endpoint.ask(request, lambda _: None)).content

    assert run_in_virtual_time(main) == "hello"
    assert "response_format" not in seen[-1]
