"""The embedded endpoint over real HTTP on loopback, and in its own process."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import orjson
import pytest

from synth_async.config.models import FaultMix, Simulation
from synth_async.endpoint.simulator.process import simulator_process, start_simulator
from synth_async.endpoint.simulator.server import listening, serve
from synth_async.errors import EndpointRefused

T = TypeVar("T")
_QUICK = Simulation(latency_s=0)


def _body(number: int = 0, **fields: Any) -> bytes:
    prompt = f'Write one JSON object with "user_message" and "assistant_response".\nTopic: refund number {number}'
    messages = [{"role": "user", "content": prompt}]
    return orjson.dumps({"model": "simulator", "messages": messages, "max_tokens": 900, **fields})


class _Client:
    def __init__(self, session: aiohttp.ClientSession, base_url: str) -> None:
        self.session, self.base_url = session, base_url

    async def post(self, body: bytes, **headers: str) -> tuple[int, Any, bytes]:
        """Status, headers and body of one chat request."""
        async with self.session.post(f"{self.base_url}/chat/completions", data=body, headers=headers) as response:
            return response.status, response.headers, await response.read()

    async def stats(self) -> dict[str, Any]:
        async with self.session.get(f"{self.base_url.removesuffix('/v1')}/_simulator/stats") as response:
            found: dict[str, Any] = await response.json()
            return found


def _with_server(simulation: Simulation, talk: Callable[[_Client], Awaitable[T]], *, any_model: bool = False) -> T:
    async def main() -> T:
        runner, base_url = await listening(simulation, port=0, any_model=any_model)
        try:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=2000)) as session:
                return await talk(_Client(session, base_url))
        finally:
            await runner.cleanup()

    return asyncio.run(main())


def _faulty(**mix: float) -> Simulation:
    return Simulation(latency_s=0, faults=FaultMix.model_validate(mix))


def _code(body: bytes) -> str | None:
    found: str | None = orjson.loads(body)["error"]["code"]
    return found


def test_an_answer_has_the_shape_usage_and_headers_of_openai() -> None:
    """Usage adds up, the model says that it is simulated, limits are in the headers."""
    status, headers, body = _with_server(
        Simulation(latency_s=0, rpm=100, tpm=90_000), lambda client: client.post(_body())
    )
    told = orjson.loads(body)
    usage = told["usage"]
    assert status == 200
    assert told["model"] == "simulator"
    assert told["choices"][0]["finish_reason"] == "stop"
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert headers["x-ratelimit-limit-requests"] == "100"
    assert headers["x-ratelimit-remaining-requests"] == "99"
    assert headers["x-ratelimit-remaining-tokens"] == str(90_000 - 900 - usage["prompt_tokens"])
    assert headers["x-ratelimit-reset-requests"] == "600ms"
    assert headers["x-request-id"]


@pytest.mark.parametrize(
    "body",
    [
        b"{not json",
        b"[]",
        b"{}",
        _body(messages=[]),
        _body(messages=[{"role": "robot", "content": "x"}]),
        _body(messages=[{"role": "user", "content": 3}]),
        _body(temperature=9),
        _body(max_tokens=0),
        _body(max_completion_tokens=5),
        _body(stream=True),
        _body(response_format={"type": "yaml"}),
        _body(messages=[{"role": "user", "content": "hi"}], response_format={"type": "json_object"}),
    ],
)
def test_an_invalid_body_gets_a_400_in_openais_form(body: bytes) -> None:
    """Whatever is wrong with a body, the error says so and nothing is counted as accepted."""
    status, _, told = _with_server(_QUICK, lambda client: client.post(body))
    assert status == 400
    assert orjson.loads(told)["error"]["type"] == "invalid_request_error"


def test_keys_and_models_that_are_refused() -> None:
    """Each refusal has the status and the code that OpenAI gives it."""

    async def talk(client: _Client) -> None:
        status, _, body = await client.post(_body(), Authorization="Bearer invalid")
        assert (status, _code(body)) == (401, "invalid_api_key")
        status, _, body = await client.post(_body(), Authorization="Bearer no-quota")
        assert (status, _code(body)) == (429, "insufficient_quota")
        status, _, body = await client.post(_body(model="gpt-9"))
        assert (status, _code(body)) == (404, "model_not_found")

    _with_server(_QUICK, talk)
    assert _with_server(_QUICK, lambda client: client.post(_body(model="gpt-9")), any_model=True)[0] == 200


def test_over_the_limit_comes_a_429_with_a_hint_and_nothing_is_charged() -> None:
    """The third request of two a minute is refused with the wait in headers and text."""

    async def talk(client: _Client) -> None:
        statuses = [(await client.post(_body(number)))[0] for number in range(2)]
        status, headers, body = await client.post(_body(2))
        assert (statuses, status, _code(body)) == ([200, 200], 429, "rate_limit_exceeded")
        assert 0 < int(headers["retry-after-ms"]) <= 30_000
        assert 0 < int(headers["retry-after"]) <= 30
        assert "Please try again in 2" in orjson.loads(body)["error"]["message"]
        stats = await client.stats()
        assert (stats["accepted"], stats["answered"], stats["requests"]) == (2, 2, 3)
        assert sum(count for _, count, _ in stats["accepted_per_second"]) == 2

    _with_server(Simulation(latency_s=0, rpm=2), talk)


def test_a_request_above_the_token_limit_is_too_large() -> None:
    """No hint is given where waiting is of no use."""
    status, headers, body = _with_server(Simulation(latency_s=0, tpm=500), lambda client: client.post(_body()))
    assert status == 429
    assert "Request too large" in orjson.loads(body)["error"]["message"]
    assert "retry-after" not in headers


def test_injected_429s_carry_each_kind_of_hint_in_turn() -> None:
    """None, seconds, a date, milliseconds, the text: five requests show them all."""

    async def talk(client: _Client) -> list[tuple[int, Any, bytes]]:
        return [await client.post(_body(number)) for number in range(5)]

    answers = _with_server(_faulty(rate_limited=1), talk)
    hints = [headers.get("retry-after") or headers.get("retry-after-ms") for _, headers, _ in answers]
    assert [status for status, _, _ in answers] == [429] * 5
    assert hints[0] is None
    assert hints[1] == "1"
    assert parsedate_to_datetime(str(hints[2])).tzinfo is not None
    assert hints[3] == "350"
    assert b"try again in 1.2s" in answers[4][2]


def test_server_errors_come_as_html_and_json() -> None:
    """500, 502, 503 and 529 in turn, the first two with HTML."""

    async def talk(client: _Client) -> list[tuple[int, str]]:
        answers = [await client.post(_body(number)) for number in range(4)]
        return [(status, headers["Content-Type"].split(";")[0]) for status, headers, _ in answers]

    kinds = _with_server(_faulty(server_error=1), talk)
    assert kinds == [(500, "text/html"), (502, "text/html"), (503, "application/json"), (529, "application/json")]


def test_truncated_bodies_are_cut_json_or_html_under_a_200() -> None:
    """No body of three can be parsed."""

    async def talk(client: _Client) -> None:
        for number in range(3):
            status, _, body = await client.post(_body(number))
            assert status == 200
            with pytest.raises(orjson.JSONDecodeError):
                orjson.loads(body)

    _with_server(_faulty(truncated_body=1), talk)


def test_resets_come_before_the_first_byte_and_in_the_middle_of_a_body() -> None:
    """The odd ones send headers and half of the body first."""

    async def talk(client: _Client) -> tuple[dict[str, int], list[str]]:
        ends = []
        for number in range(4):
            try:
                async with client.session.post(f"{client.base_url}/chat/completions", data=_body(number)) as response:
                    try:
                        await response.read()
                    except aiohttp.ClientError:
                        ends.append("body")
            except aiohttp.ClientError:
                ends.append("head")
        return (await client.stats())["requests_by_status"], ends

    statuses, ends = _with_server(_faulty(reset=1), talk)
    assert ends == ["head", "body", "head", "body"]
    assert statuses == {"reset": 4}


def test_a_hanging_request_ends_when_the_client_leaves() -> None:
    """It never answers, and is counted as abandoned once the client has gone."""

    async def talk(client: _Client) -> None:
        with pytest.raises(asyncio.TimeoutError):
            async with asyncio.timeout(0.2):
                await client.post(_body())
        while (stats := await client.stats())["open"]:
            pass  # the server sees the closed connection between two questions
        assert stats["requests_by_status"] == {"abandoned": 1}
        assert stats["answered"] == 0

    _with_server(_faulty(hang=1), talk)


def test_a_retry_can_succeed_where_the_arrival_failed() -> None:
    """Failures of HTTP go by the arrival: the same body is refused at one time and answered at another."""

    async def talk(client: _Client) -> set[int]:
        return {(await client.post(_body()))[0] for _ in range(30)}

    assert {200, 500} <= _with_server(_faulty(server_error=0.5), talk)


def test_the_ledger_knows_bodies_that_were_asked_again_after_an_answer() -> None:
    """Two bodies, one of them asked three times: one asked again, one answered more than once."""

    async def talk(client: _Client) -> dict[str, Any]:
        bodies = [(await client.post(body))[2] for body in (_body(1), _body(2), _body(1), _body(1))]
        told = [orjson.loads(body)["choices"] for body in bodies]
        assert told[0] != told[1]
        return await client.stats()

    stats = _with_server(_QUICK, talk)
    assert stats["distinct_bodies_answered"] == 2
    assert stats["bodies_asked_again_after_answer"] == 1
    assert stats["bodies_answered_more_than_once"] == 1
    assert stats["cpu_s"] > 0
    assert stats["max_rss_bytes"] > 1_000_000


def test_the_same_body_asked_again_gets_another_sample_unless_the_temperature_is_zero() -> None:
    """A model that samples says something else the second time; at temperature 0 it repeats itself."""

    async def talk(client: _Client) -> list[list[Any]]:
        sampled, certain = orjson.loads(_body()), orjson.loads(_body())
        sampled["temperature"], certain["temperature"] = 0.8, 0
        bodies = [orjson.dumps(sampled), orjson.dumps(sampled), orjson.dumps(certain), orjson.dumps(certain)]
        return [orjson.loads((await client.post(body))[2])["choices"] for body in bodies]

    first, second, third, fourth = _with_server(_QUICK, talk)
    assert first != second
    assert third == fourth


def test_the_child_process_serves_and_is_gone_after_the_block() -> None:
    """A thousand connections at once are all answered; afterwards nobody listens."""

    async def main() -> str:
        async with simulator_process(Simulation(latency_s=0.3, latency_sigma=0)) as base_url:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
                client = _Client(session, base_url)
                answers = await asyncio.gather(*[client.post(_body(number)) for number in range(1000)])
                stats = await client.stats()
            assert {status for status, _, _ in answers} == {200}
            assert stats["answered"] == 1000
            return base_url

    base_url = asyncio.run(main())
    with pytest.raises(aiohttp.ClientConnectorError):
        asyncio.run(_models(base_url))


async def _models(base_url: str) -> list[str]:
    async with aiohttp.ClientSession() as session, session.get(f"{base_url}/models") as response:
        return [model["id"] for model in (await response.json())["data"]]


def test_the_child_ends_when_its_parent_is_killed() -> None:
    """SIGKILL gives the parent no chance to clean up, and the server goes all the same."""
    script = (
        "import sys\nfrom synth_async.config.models import Simulation\n"
        "from synth_async.endpoint.simulator.process import start_simulator\n"
        "print(start_simulator(Simulation()).pid, flush=True)\nsys.stdin.read()\n"
    )
    root = Path(__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root
    ) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        try:
            parent.send_signal(signal.SIGKILL)
            ended, _, _ = select.select([child], [], [], 20)
        finally:
            os.close(child)
    assert ended


def test_a_simulator_can_be_started_and_stopped_without_an_event_loop() -> None:
    """`start_simulator` waits until it listens; `stop` may be called twice."""
    running = start_simulator(_QUICK)
    assert asyncio.run(_models(running.base_url)) == ["simulator"]
    running.stop()
    running.stop()
    assert running.child.returncode == 0


def test_serve_announces_its_address_and_returns_at_sigterm() -> None:
    """The base URL is told once it listens, and a signal ends it in order."""
    told: list[str] = []

    def on_ready(base_url: str) -> None:
        told.append(base_url)
        os.kill(os.getpid(), signal.SIGTERM)

    serve(_QUICK, port=0, on_ready=on_ready)
    assert told[0].startswith("http://127.0.0.1:")


def test_a_port_that_is_taken_is_an_error_and_not_another_port() -> None:
    """Whoever names a port gets it, or is told."""
    with socket.create_server(("127.0.0.1", 0)) as busy, pytest.raises(OSError, match="address"):
        serve(_QUICK, port=busy.getsockname()[1], on_ready=lambda _: None)


def test_a_simulator_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child's last words are in the error."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(EndpointRefused, match="did not start"):
        start_simulator(_QUICK)
