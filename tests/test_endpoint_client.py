"""The client against real servers on loopback, well-behaved and not."""

from __future__ import annotations

import asyncio
import gzip
import socket
import traceback
import zlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import anyio.lowlevel
import pytest
from aiohttp import web

from synth_async.config.models import Endpoint
from synth_async.endpoint.client import MAX_BODY_BYTES, HttpAnswer, OpenAIClient
from synth_async.errors import EndpointRefused, RateLimited, RequestRejected, SynthAsyncError, TransientFailure
from synth_async.testing import chat_body

T = TypeVar("T")
_KEY = "sk-test/" + "0123456789abcdef" * 2
_BODY = b'{"model": "m", "messages": []}'
_Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _settings(**settings: object) -> Endpoint:
    return Endpoint.model_validate({"model": "m", "base_url": "http://127.0.0.1:1/v1", "timeout_s": 20, **settings})


async def _served(
    answer: _Answer, talk: Callable[[OpenAIClient], Awaitable[T]], settings: Endpoint, key: str | None
) -> T:
    application = web.Application(client_max_size=1 << 26)
    application.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.0, handler_cancellation=True)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0), backlog=2_000)
    await web.SockSite(runner, listener, backlog=2_000).start()
    client = OpenAIClient("main", settings, base_url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1", api_key=key)
    try:
        return await talk(client)
    finally:
        await client.aclose()
        await runner.cleanup()


def _talk(
    answer: _Answer,
    talk: Callable[[OpenAIClient], Awaitable[T]],
    settings: Endpoint | None = None,
    key: str | None = _KEY,
) -> T:
    return asyncio.run(_served(answer, talk, settings or _settings(), key))


def _post(answer: _Answer, settings: Endpoint | None = None, key: str | None = _KEY) -> HttpAnswer:
    return _talk(answer, lambda client: client.post(_BODY), settings, key)


def _replies(status: int = 200, body: bytes = b"", **headers: str) -> _Answer:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return answer


# --- what is sent --------------------------------------------------------------------------------


def test_what_is_sent_is_what_the_config_says() -> None:
    """Our body byte for byte, the key, further headers and query parameters, and no wish for compression."""
    seen: list[tuple[web.Request, bytes]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request, await request.read()))
        return web.Response(body=chat_body("hello"), headers={"X-RateLimit-Remaining-Tokens": "77"})

    settings = _settings(headers={"X-Team": "data"}, query={"api-version": "2024-10-21"})
    found = _post(answer, settings)
    [(request, body)] = seen
    assert body == _BODY
    assert request.headers["Authorization"] == f"Bearer {_KEY}"
    assert request.headers["X-Team"] == "data"
    assert request.headers["Accept-Encoding"] == "identity"
    assert request.headers["Content-Type"] == "application/json"
    assert dict(request.query) == {"api-version": "2024-10-21"}
    assert found.headers["x-ratelimit-remaining-tokens"] == "77"
    assert found.latency_s > 0


@pytest.mark.parametrize(
    "body",
    [b"", b"\n\n" + chat_body("x") + b"\r\n ", b"<html>\xff\x00", b"x" * 3_000_000],
    ids=["empty", "json", "html", "big"],
)
def test_a_200_body_comes_back_byte_for_byte(body: bytes) -> None:
    """Nothing is decoded, parsed or trimmed."""
    assert _post(_replies(body=body)).body == body


def test_a_thousand_requests_at_once_have_a_thousand_connections() -> None:
    """The pool is as large as max_in_flight: every request is at the server before the first is answered."""
    count = 1_000
    arrived, everybody_is_here = 0, asyncio.Event()

    async def answer(_request: web.Request) -> web.Response:
        nonlocal arrived
        arrived += 1
        if arrived == count:
            everybody_is_here.set()
        await everybody_is_here.wait()
        return web.Response(body=b"{}")

    async def talk(client: OpenAIClient) -> int:
        found = await asyncio.gather(*(client.post(_BODY) for _ in range(count)))
        return sum(answer.body == b"{}" for answer in found)

    assert _talk(answer, talk, _settings(max_in_flight=count, timeout_s=60)) == count


# --- bodies that are too large -------------------------------------------------------------------


def test_a_plain_body_is_read_up_to_the_bound() -> None:
    """The bound itself is allowed, one byte more is not."""
    assert len(_post(_replies(body=b"x" * MAX_BODY_BYTES)).body) == MAX_BODY_BYTES
    with pytest.raises(TransientFailure, match="larger than 8388608 bytes") as caught:
        _post(_replies(body=b"x" * (MAX_BODY_BYTES + 1)))
    assert caught.value.kind == "body"


def test_a_body_without_an_end_is_cut_off() -> None:
    """No Content-Length, chunks for ever: the client stops reading, and the server is told."""
    sent_bytes = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal sent_bytes
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)
            sent_bytes += 65_536

    with pytest.raises(TransientFailure, match="larger than"):
        _post(answer)
    assert sent_bytes < 4 * MAX_BODY_BYTES


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compression_that_nobody_asked_for_is_unpacked(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    """Some proxies compress whatever was asked for; the bytes that come out are the plain ones."""
    body = chat_body("hello " * 1_000)
    assert _post(_replies(body=pack(body), Content_Encoding=encoding)).body == body


def test_a_bomb_does_not_go_off() -> None:
    """64 MiB in 64 KiB are refused after 8 MiB, in an answer and in an error."""
    packer = zlib.compressobj(wbits=31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()
    for status in (200, 400):
        with pytest.raises(TransientFailure, match="larger than"):
            _post(_replies(status, bomb, Content_Encoding="gzip"))


@pytest.mark.parametrize(
    ("body", "encoding"), [(gzip.compress(b"{}" * 500, mtime=0)[:-12], "gzip"), (b"not gzip", "gzip"), (b"\x00", "br")]
)
def test_a_body_that_cannot_be_unpacked_is_worth_another_attempt(body: bytes, encoding: str) -> None:
    """Cut, damaged, or in an encoding that nobody asked for."""
    with pytest.raises(TransientFailure) as caught:
        _post(_replies(body=body, Content_Encoding=encoding))
    assert caught.value.kind == "body"


# --- every way to fail, and the key in none of them ----------------------------------------------


async def _hang(_request: web.Request) -> web.Response:
    await asyncio.sleep(30)
    return web.Response()


async def _hang_in_the_middle(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "100"})
    await response.prepare(request)
    await response.write(b"{")
    await asyncio.sleep(30)
    return response


async def _reset(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def _reset_in_the_middle(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "100"})
    await response.prepare(request)
    await response.write(b'{"choices": [')
    await asyncio.sleep(0)
    assert request.transport is not None
    request.transport.abort()
    return response


async def _cut_chunks(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    await response.write(b'{"choices": [')
    assert request.transport is not None
    request.transport.close()
    return response


def _echo(status: int) -> _Answer:
    async def answer(request: web.Request) -> web.Response:
        header = request.headers["Authorization"]
        return web.json_response({"error": {"message": f"bad header {header}", "headers": [header] * 3}}, status=status)

    return answer


async def _redirect(request: web.Request) -> web.Response:
    raise web.HTTPTemporaryRedirect(f"http://{request.host}/v2?key={request.headers['Authorization']}")


_FAILURES: dict[str, tuple[_Answer, type[SynthAsyncError], str | None]] = {
    "hanging": (_hang, TransientFailure, "timeout"),
    "hanging in the middle": (_hang_in_the_middle, TransientFailure, "timeout"),
    "reset": (_reset, TransientFailure, "reset"),
    "reset in the middle": (_reset_in_the_middle, TransientFailure, "reset"),
    "cut chunks": (_cut_chunks, TransientFailure, "reset"),
    "too large": (_replies(body=b"x" * (MAX_BODY_BYTES + 1)), TransientFailure, "body"),
    "redirect": (_redirect, EndpointRefused, None),
    "echo 400": (_echo(400), RequestRejected, None),
    "echo 401": (_echo(401), EndpointRefused, None),
    "echo 404": (_echo(404), EndpointRefused, None),
    "echo 429": (_echo(429), RateLimited, None),
    "echo 500": (_echo(500), TransientFailure, "http_500"),
    "HTML 502": (_replies(502, b"<html>Bad Gateway</html>"), TransientFailure, "http_502"),
    "plain words": (_replies(400, f"invalid key {_KEY}".encode()), RequestRejected, None),
    "escaped": (_replies(400, _KEY.replace("/", "\\/").encode()), RequestRejected, None),
}


def _shows_no_key(error: BaseException) -> None:
    """Neither text, repr, traceback nor anything that hangs on the error holds the key."""
    assert error.__cause__ is None
    assert error.__context__ is None
    shown = [str(error), repr(error), repr(vars(error)), repr(error.args), "".join(traceback.format_exception(error))]
    assert not any(part in text for text in shown for part in (_KEY, _KEY.replace("/", "\\/"), _KEY.partition("/")[2]))


@pytest.mark.parametrize("name", _FAILURES)
def test_every_failure_is_one_of_ours_without_the_key(name: str) -> None:
    """The kind says who must act; no text, repr, traceback or chained error holds the key, even an echoed one."""
    answer, expected, kind = _FAILURES[name]
    with pytest.raises(SynthAsyncError) as caught:
        _post(answer, _settings(timeout_s=0.3 if "hanging" in name else 20))
    assert type(caught.value) is expected
    assert getattr(caught.value, "kind", None) == kind
    assert getattr(caught.value, "connected", True)
    _shows_no_key(caught.value)
    if name == "redirect":
        assert "HTTP 307" in str(caught.value)
    if name.startswith("echo"):
        assert "bad header Bearer ***" in str(caught.value)


def test_an_endpoint_that_is_not_there_was_never_connected_to() -> None:
    """A refused connection and an unknown host, both without the key."""

    async def main(base_url: str) -> None:
        client = OpenAIClient("main", _settings(), base_url=base_url, api_key=_KEY)
        try:
            await client.post(_BODY)
        finally:
            await client.aclose()

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for base_url in (f"http://127.0.0.1:{port}/v1", "http://no-such-host.invalid/v1"):
        with pytest.raises(TransientFailure, match="refused, or no such host") as caught:
            asyncio.run(main(base_url))
        assert (caught.value.kind, caught.value.connected) == ("connect", False)
        _shows_no_key(caught.value)


def test_a_server_that_speaks_no_tls_is_named() -> None:
    """https:// in front of a plain server says what is wrong."""

    async def main() -> None:
        async def hello(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(hello, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = OpenAIClient("main", _settings(), base_url=f"https://127.0.0.1:{port}/v1", api_key=_KEY)
        try:
            await client.post(_BODY)
        finally:
            await client.aclose()
            server.close()

    with pytest.raises(TransientFailure, match="no TLS connection") as caught:
        asyncio.run(main())
    assert not caught.value.connected
    _shows_no_key(caught.value)


def test_an_answer_that_echoes_the_key_loses_it() -> None:
    """A 200 body is cleaned before anybody sees it; other bytes stay as they are."""
    body = b'{"a": "' + _KEY.encode() + b'", "b": "' + _KEY.replace("/", "\\/").encode() + b'", "c": 1}'
    assert _post(_replies(body=body)).body == b'{"a": "***", "b": "***", "c": 1}'


@pytest.mark.parametrize("key", [None, "none", "ollama", "EMPTY"])
def test_a_key_that_is_a_mere_word_is_left_in_answers(key: str | None) -> None:
    """Local servers want any word for a key, and an answer may hold that word."""
    body = b'{"content": "none of it runs on ollama, it is EMPTY"}'
    assert _post(_replies(body=body), key=key).body == body


def test_new_connections_on_demand() -> None:
    """After `renew` nothing goes over a connection from before, and what is in flight there still ends."""
    peers: list[object] = []
    release = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        peers.append(request.transport.get_extra_info("peername") if request.transport else None)
        if len(peers) == 3:
            await release.wait()
        return web.Response(body=b"{}")

    async def talk(client: OpenAIClient) -> bytes:
        await client.post(_BODY)
        await client.post(_BODY)
        async with asyncio.TaskGroup() as group:
            slow = group.create_task(client.post(_BODY))
            while len(peers) < 3:
                await anyio.lowlevel.checkpoint()
            client.renew()
            await client.post(_BODY)
            release.set()
        return slow.result().body

    assert _talk(answer, talk) == b"{}"
    assert peers[0] == peers[1] == peers[2] != peers[3]


@pytest.mark.parametrize("escape", ["\\u{:04x}", "\\u{:04X}", "\\\\u{:04x}", "\\{}", "%{:02x}", "%{:02X}"])
def test_an_echoed_key_is_found_however_it_is_escaped(escape: str) -> None:
    """Some encoders write signs such as + and / in escapes, and a URL has its own: the key is found in each of them."""
    key = "sk-a+b/c==" + "0123456789"
    signs = {sign: escape.format(ord(sign) if "u" in escape or "%" in escape else sign) for sign in "+/="}
    written = "".join(signs.get(sign, sign) for sign in key)
    assert _post(_replies(body=f'{{"a": "{written}!"}}'.encode()), key=key).body == b'{"a": "***!"}'


def test_a_request_can_be_cancelled() -> None:
    """Cut off in the middle, the client can be used again and closed."""
    calls = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal calls
        calls += 1
        return await (_hang(request) if calls == 1 else _replies(body=b"{}")(request))

    async def talk(client: OpenAIClient) -> bytes:
        with anyio.move_on_after(0.1) as scope:
            await client.post(_BODY)
        assert scope.cancelled_caught
        return (await client.post(_BODY)).body

    assert _talk(answer, talk) == b"{}"


def test_the_repr_says_the_name_alone() -> None:
    """A client in a traceback's locals shows no key."""

    async def main() -> str:
        client = OpenAIClient("main", _settings(), base_url="http://127.0.0.1:1/v1", api_key=_KEY)
        await client.aclose()
        return repr(client)

    assert asyncio.run(main()) == "<OpenAIClient main>"
