"""One exchange with a model: a small protocol, and its adapter over the openai package.

The package brings the address, the credentials, the headers and its aiohttp transport. Its per-call machinery is left
out: `chat.completions.create` validates and copies what we encode and decode ourselves, and even the low-level `post`
works out anew what is the same for every request, which is most of its cost (`benchmarks/client.py`). The pool is
explicit (at 1,000 in flight the default one is quadratic), and nothing is retried here: a 429 must reach the limiter.

What comes back is not trusted: bodies are bounded while they are read, redirects are not followed, and the key is taken
out of whatever a server echoes.
"""

from __future__ import annotations

import errno
import re
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from http.cookiejar import CookieJar
from typing import Protocol, cast

import aiohttp
import httpx2
import openai

from synth_async.config.models import Endpoint
from synth_async.endpoint.failures import failure_of
from synth_async.errors import SynthAsyncError, TransientFailure

__all__ = ["MAX_BODY_BYTES", "ChatClient", "HttpAnswer", "KeyMask", "OpenAIClient", "transient_failure"]

MAX_BODY_BYTES = 8 * 1024 * 1024
"""Of a body, unpacked; a long answer has less than 1 % of it."""

_CONNECT_TIMEOUT_S = 20.0
_NO_KEY = "none"
_SHORTEST_SECRET = 8
"""Shorter keys (`none`, `ollama`, `EMPTY`) are words that local servers ignore, and that an answer may well hold."""

_ENCODINGS = frozenset({"identity", "gzip", "x-gzip", "deflate"})
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_TRANSPORT_ERRORS = (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, aiohttp.ClientError, OSError)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A 2xx response: the raw body, and its headers with lower-case names.

    `is_kept` where whoever received it has journaled it already, in a process of its own.
    """

    body: bytes
    headers: httpx2.Headers
    latency_s: float
    is_kept: bool = False


class ChatClient(Protocol):
    """Sends one chat completion request."""

    async def post(self, body: bytes) -> HttpAnswer:
        """The answer to a request body; raises the errors of `synth_async.errors` for anything but a 2xx."""
        ...

    def renew(self) -> None:
        """Send what comes next over new connections: those that there are may be dead."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


class _UnusableBody(httpx2.HTTPError):
    """A body that is not read to its end. The message is ours, with nothing of the body in it."""


class _NoCookies(CookieJar):
    """Keeps no cookies, and does not look for any: that costs as much as encoding the request."""

    def extract_cookies(self, response: object, request: object) -> None:
        """Nothing."""


async def _read_capped(response: httpx2.Response) -> bytes:
    """The body, unpacked, up to `MAX_BODY_BYTES`. We ask for no compression; some proxies compress all the same."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower() or "identity"
    if encoding not in _ENCODINGS:
        raise _UnusableBody(f"body in the encoding {encoding[:20]}, which was not asked for")
    unpacker = None if encoding == "identity" else zlib.decompressobj(_GZIP_OR_ZLIB)
    chunks, left = list[bytes](), MAX_BODY_BYTES
    # Not `aiter_raw`, which does no more than this, and takes as long as the rest of the reading.
    async for packed in cast("httpx2.AsyncByteStream", response.stream):
        chunk = packed if unpacker is None else _unpacked(unpacker, packed, left + 1)
        left -= len(chunk)
        if left < 0:
            raise _UnusableBody(f"body larger than {MAX_BODY_BYTES} bytes")
        chunks.append(chunk)
    if unpacker is not None and not unpacker.eof and left < MAX_BODY_BYTES:
        raise _UnusableBody("compressed body cut short")
    return b"".join(chunks)


def _unpacked(unpacker: zlib._Decompress, packed: bytes, most_bytes: int) -> bytes:
    try:
        return unpacker.decompress(packed, most_bytes)
    except zlib.error:
        raise _UnusableBody("compressed body damaged") from None


class OpenAIClient:
    """The openai package against one endpoint. Make it inside the running event loop; close it."""

    def __init__(self, name: str, settings: Endpoint, *, base_url: str, api_key: str | None) -> None:
        self._name = name
        self._deadline_s = settings.timeout_s
        self._mask = KeyMask(api_key)
        self._most_open = settings.max_in_flight
        self._timeout = httpx2.Timeout(
            settings.timeout_s, connect=min(_CONNECT_TIMEOUT_S, settings.timeout_s), pool=None
        )
        self._http = self._new_connections()
        self._worn: list[openai.DefaultAioHttpClient] = []
        self._openai = openai.AsyncOpenAI(
            api_key=api_key or _NO_KEY,
            base_url=base_url,
            max_retries=0,
            default_headers={"Accept-Encoding": "identity", **settings.headers},
            http_client=self._http,
        )
        # What the package would work out for each request is the same for all of them: worked out once.
        self._url = httpx2.URL(
            f"{str(self._openai.base_url).rstrip('/')}/chat/completions", params=settings.query or None
        )
        headers = {**self._openai.auth_headers, **self._openai.default_headers}
        self._headers = httpx2.Headers({name: value for name, value in headers.items() if isinstance(value, str)})
        self._extensions = {"timeout": self._timeout.as_dict()}

    def __repr__(self) -> str:
        return f"<OpenAIClient {self._name}>"

    async def post(self, body: bytes) -> HttpAnswer:
        """The answer to a request body; the caller sets the deadline, idle sockets end after the same time."""
        found = await self._exchange(body)
        # Raised here and not where it is caught: an error in flight would stay attached, and its request holds the key.
        if isinstance(found, SynthAsyncError):
            raise found
        return found

    def renew(self) -> None:
        """Send what comes next over new connections. What is in flight may still end over the old ones."""
        self._worn.append(self._http)
        self._http = self._new_connections()

    async def aclose(self) -> None:
        """Close the connections."""
        for connections in (*self._worn, self._http):
            await connections.aclose()

    def _new_connections(self) -> openai.DefaultAioHttpClient:
        return openai.DefaultAioHttpClient(
            limits=httpx2.Limits(max_connections=self._most_open, max_keepalive_connections=self._most_open),
            timeout=self._timeout,
            follow_redirects=False,
            cookies=_NoCookies(),
        )

    async def _exchange(self, body: bytes) -> HttpAnswer | SynthAsyncError:
        started = time.perf_counter()
        try:
            response = await self._http.send(self._request(body), stream=True)
            try:
                response.headers.encoding = "latin-1"
                content = self._mask.hide(await _read_capped(response))
            finally:
                await response.aclose()
        except _TRANSPORT_ERRORS as error:
            return transient_failure(error, time.perf_counter() - started, deadline_s=self._deadline_s)
        if not response.is_success:
            return failure_of(response.status_code, response.headers, content, endpoint=self._name, now_s=time.time())
        return HttpAnswer(content, response.headers, time.perf_counter() - started)

    def _request(self, body: bytes) -> httpx2.Request:
        # Given as a stream, the body is taken as it is; aiohttp adds Host and Content-Length.
        stream = httpx2.ByteStream(body)
        request = httpx2.Request("POST", self._url, headers=self._headers, stream=stream, extensions=self._extensions)
        request.read()
        request.headers.encoding = "ascii"
        return request


def transient_failure(error: BaseException, elapsed_s: float, *, deadline_s: float) -> TransientFailure:
    """What a transport's error stands for, told in our own words: its `repr` could hold the key."""
    chain = list(_causes(error))
    for link in chain:
        if isinstance(link, _UnusableBody):
            return TransientFailure(str(link), kind="body")
        if isinstance(link, aiohttp.ClientConnectorError | httpx2.ConnectError):
            return TransientFailure(_why_unreachable(link), kind="connect", connected=False)
    if elapsed_s >= deadline_s * 0.95 or any(isinstance(link, aiohttp.ServerTimeoutError) for link in chain):
        connected = not any(isinstance(link, aiohttp.ConnectionTimeoutError) for link in chain)
        return TransientFailure(f"no answer within {elapsed_s:.0f} s", kind="timeout", connected=connected)
    return TransientFailure(f"connection broken ({type(chain[-1]).__name__})", kind="reset")


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _why_unreachable(error: BaseException) -> str:
    cause = error.__cause__ if isinstance(error, httpx2.ConnectError) and error.__cause__ is not None else error
    if isinstance(cause, aiohttp.ClientSSLError):
        return "no TLS connection (wrong certificate, or the server speaks plain HTTP)"
    if isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE):
        return "too many open files: lower max_in_flight, or raise `ulimit -n`"
    return "connection refused, or no such host"


class KeyMask:
    """Takes a key out of whatever a server echoes; a key that is a mere word is left where it stands."""

    def __init__(self, api_key: str | None) -> None:
        self._key = _pattern(api_key)

    def __repr__(self) -> str:
        return "<KeyMask ***>"

    def hide(self, body: bytes) -> bytes:
        """The same bytes without the key."""
        # No encoder touches letters and digits: without the longest run of them, the key is nowhere in the body.
        if self._key is None or self._key[0] not in body:
            return body
        return self._key[1].sub(b"***", body)


def _pattern(api_key: str | None) -> tuple[bytes, re.Pattern[bytes]] | None:
    """What finds a key in a body: its longest run of letters and digits, and the whole of it in any escape.

    JSON encoders and URLs escape signs. None for a key that is a mere word.
    """
    if api_key is None or len(api_key) < _SHORTEST_SECRET:
        return None
    # Any number of backslashes: JSON within JSON escapes the escapes.
    written = (
        sign if sign.isalnum() else rf"(?:\\*{re.escape(sign)}|(?:\\+u00|%)(?i:{ord(sign):02x}))" for sign in api_key
    )
    longest = max(re.findall(r"[A-Za-z0-9]*", api_key), key=len)
    return longest.encode(), re.compile("".join(written).encode())
