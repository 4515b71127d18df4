"""Files and batches over real HTTP: errors are mapped, nothing is retried, the key is never shown."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
import pytest
from aiohttp import web

from synth_async.config.models import Endpoint
from synth_async.endpoint.batch.client import OpenAIBatchClient
from synth_async.endpoint.batch.record import BatchGone
from synth_async.errors import EndpointRefused, RateLimited, RequestRejected, SynthAsyncError, TransientFailure

T = TypeVar("T")
_KEY = "sk-secret0123456789abcdef"


def _with_client(
    reply: Callable[[web.Request], web.StreamResponse], call: Callable[[OpenAIBatchClient], Awaitable[T]]
) -> tuple[T, int]:
    """What a call returns where everything is answered in one way, and how often the server was asked."""
    asked = 0

    async def serve(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        await request.read()
        return reply(request)

    async def run() -> T:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", serve)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        client = OpenAIBatchClient("e", Endpoint(model="m", timeout_s=5), base_url=url, api_key=_KEY)
        try:
            return await call(client)
        finally:
            await client.aclose()
            await runner.cleanup()

    return anyio.run(run), asked


async def _lines(client: OpenAIBatchClient) -> list[bytes]:
    return [line async for line in client.lines("f")]


_CALLS: dict[str, Callable[[OpenAIBatchClient], Awaitable[Any]]] = {
    "upload": lambda client: client.upload("a.jsonl", io.BytesIO(b"{}\n")),
    "create": lambda client: client.create("f", {}),
    "retrieve": lambda client: client.retrieve("b"),
    "page": lambda client: client.page(None),
    "cancel": lambda client: client.cancel("b"),
    "lines": _lines,
}


def _failure(call: str, status: int, body: str, headers: dict[str, str] | None = None) -> tuple[SynthAsyncError, int]:
    async def attempt(client: OpenAIBatchClient) -> SynthAsyncError:
        with pytest.raises(SynthAsyncError) as raised:
            await _CALLS[call](client)
        assert raised.value.__cause__ is None
        assert raised.value.__context__ is None, "an error of the transport would drag the key along"
        return raised.value

    return _with_client(lambda _: web.Response(status=status, text=body, headers=headers), attempt)


@pytest.mark.parametrize("call", _CALLS)
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RequestRejected),
        (401, EndpointRefused),
        (429, RateLimited),
        (503, TransientFailure),
        (307, EndpointRefused),
    ],
)
def test_a_status_is_the_error_that_it_is_online_and_is_asked_once(call: str, status: int, kind: type) -> None:
    """No call is repeated or redirected by the package, and no message holds the key that a server echoes."""
    failure, asked = _failure(
        call, status, f'{{"error": {{"message": "Bearer {_KEY} is wrong"}}}}', {"Location": "/v1/x"}
    )
    assert type(failure) is kind
    assert asked == 1
    assert _KEY not in str(failure)


_MISSING = [("retrieve", BatchGone), ("lines", BatchGone), ("create", BatchGone), ("page", EndpointRefused)]


@pytest.mark.parametrize(("call", "kind"), _MISSING)
def test_what_is_not_there_is_told_from_a_wrong_address(call: str, kind: type) -> None:
    """A 404 for a batch or a file that was there is about them; for the list it is about the address."""
    failure, _ = _failure(call, 404, "{}")
    assert type(failure) is kind


@pytest.mark.parametrize("call", [call for call in _CALLS if call != "lines"])
@pytest.mark.parametrize("body", ["<html></html>", "{}", "[]", "", '{"id": 7}'])
def test_a_body_that_is_none_is_worth_another_attempt(call: str, body: str) -> None:
    """Whatever a proxy answers with 200: it is neither believed nor the end of the run."""
    if (call, body) == ("page", "[]"):
        return  # a list without batches
    failure, _ = _failure(call, 200, body)
    assert isinstance(failure, TransientFailure)
    assert failure.connected


def test_result_lines_come_one_by_one_without_the_key() -> None:
    """However they end, and whatever a model was made to repeat."""
    body = f'{{"a": "{_KEY}"}}\n{{"b": 1}}\r\n{{"c": 2}}'
    lines, _ = _with_client(lambda _: web.Response(text=body), _lines)
    assert [line.strip() for line in lines] == [b'{"a": "***"}', b'{"b": 1}', b'{"c": 2}']


def test_a_server_that_is_not_there_was_never_reached() -> None:
    """So a creation that fails in this way did not take effect."""

    async def run() -> TransientFailure:
        client = OpenAIBatchClient("e", Endpoint(model="m"), base_url="http://127.0.0.1:9/v1", api_key=None)
        try:
            with pytest.raises(TransientFailure) as raised:
                await client.create("f", {})
        finally:
            await client.aclose()
        return raised.value

    assert not anyio.run(run).connected
