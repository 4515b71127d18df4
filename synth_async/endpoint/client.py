"""One exchange with a model: a small protocol, and its adapter over the openai package.

The adapter uses the package's documented low-level `post` with a body that we encode and a response that we decode (a
third of the cost of `chat.completions.create`), its aiohttp transport with an explicit pool (at 1,000 in flight the
default one is quadratic), and none of its retries: a 429 must reach the limiter.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

import aiohttp
import httpx2
import openai

from synth_async.config.models import Endpoint
from synth_async.endpoint.failures import failure_of
from synth_async.errors import TransientFailure

__all__ = ["MAX_BODY_BYTES", "ChatClient", "HttpAnswer", "OpenAIClient"]

MAX_BODY_BYTES = 8 * 1024 * 1024
_MAX_ENCODED_BYTES = 256 * 1024
"""A body that arrives compressed may be this large: it can grow a thousandfold when it is unpacked."""

_CONNECT_TIMEOUT_S = 20.0
_NO_KEY = "none"
_TRANSPORT_ERRORS = (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, aiohttp.ClientError, OSError)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A 2xx response: the raw body, and its headers with lower-case names."""

    body: bytes
    headers: httpx2.Headers
    latency_s: float


class ChatClient(Protocol):
    """Sends one chat completion request."""

    async def post(self, body: bytes) -> HttpAnswer:
        """The answer to a request body; raises the errors of `synth_async.errors` for anything but a 2xx."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


class _BodyTooLarge(httpx2.HTTPError):
    pass


class _CappedStream(httpx2.AsyncByteStream):
    """A response stream that ends with an error when it grows beyond `limit` bytes: memory stays bounded while reading."""

    def __init__(self, stream: httpx2.AsyncByteStream, limit: int) -> None:
        self._stream = stream
        self._limit = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > self._limit:
                raise _BodyTooLarge(f"body larger than {self._limit} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _cap_body(response: httpx2.Response) -> None:
    is_plain = response.headers.get("content-encoding", "identity") == "identity"
    stream = response.stream
    if isinstance(stream, httpx2.AsyncByteStream):
        response.stream = _CappedStream(stream, MAX_BODY_BYTES if is_plain else _MAX_ENCODED_BYTES)


class OpenAIClient:
    """The openai package against one endpoint. Make it inside the running event loop; close it."""

    def __init__(self, name: str, settings: Endpoint, *, base_url: str, api_key: str | None) -> None:
        pool = settings.max_in_flight
        self._name = name
        self._deadline_s = settings.timeout_s
        timeout = httpx2.Timeout(settings.timeout_s, connect=min(_CONNECT_TIMEOUT_S, settings.timeout_s), pool=None)
        self._client = openai.AsyncOpenAI(
            api_key=api_key or _NO_KEY,
            base_url=base_url,
            max_retries=0,
            timeout=timeout,
            default_headers={"Accept-Encoding": "identity", **settings.headers},
            default_query=settings.query,
            http_client=openai.DefaultAioHttpClient(
                limits=httpx2.Limits(max_connections=pool, max_keepalive_connections=pool),
                timeout=timeout,
                follow_redirects=False,
                event_hooks={"response": [_cap_body]},
            ),
        )

    def __repr__(self) -> str:
        return f"<OpenAIClient {self._name}>"

    async def post(self, body: bytes) -> HttpAnswer:
        """The answer to a request body; the caller sets the deadline, idle sockets end after the same time."""
        started = time.perf_counter()
        try:
            response = await self._client.post("/chat/completions", content=body, cast_to=httpx2.Response)
        except openai.APIStatusError as error:
            raise failure_of(
                error.status_code, error.response.headers, error.response.content, endpoint=self._name, now_s=time.time()
            ) from None
        except (TimeoutError, openai.APITimeoutError, openai.APIConnectionError, *_TRANSPORT_ERRORS) as error:
            # No `from error`: the repr of a transport error can hold the Authorization header.
            raise self._transient(error, time.perf_counter() - started) from None
        return HttpAnswer(response.content, response.headers, time.perf_counter() - started)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _transient(self, error: BaseException, elapsed_s: float) -> TransientFailure:
        chain: list[BaseException] = [error]
        while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
            chain.append(cause)
        if any(isinstance(link, _BodyTooLarge) for link in chain):
            return TransientFailure(f"body larger than {MAX_BODY_BYTES} bytes", kind="body")
        if any(isinstance(link, aiohttp.ClientConnectorError | httpx2.ConnectError) for link in chain):
            return TransientFailure("connection refused, or no such host", kind="connect", connected=False)
        if elapsed_s >= self._deadline_s * 0.95 or any(isinstance(link, aiohttp.ServerTimeoutError) for link in chain):
            connected = not any(isinstance(link, aiohttp.ConnectionTimeoutError) for link in chain)
            return TransientFailure(f"no answer within {elapsed_s:.0f} s", kind="timeout", connected=connected)
        return TransientFailure(f"connection broken ({type(chain[-1]).__name__})", kind="reset")
