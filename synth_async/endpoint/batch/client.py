"""Files and batches over the openai package, with the errors of this one.

Responses are taken raw and read by `states`: the package's models know OpenAI's spelling alone. Nothing is retried
here, redirects are not followed, and the key is taken out of whatever a server echoes. Result files are read as a
stream, line by line; a line is bounded, a file is not.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import BinaryIO, Protocol, TypeVar

import aiohttp
import httpx2
import openai

from synth_async.config.models import Endpoint
from synth_async.endpoint.batch.lines import CHAT_URL
from synth_async.endpoint.batch.record import BatchGone
from synth_async.endpoint.batch.states import BatchView, read_batch, read_file_id, read_page
from synth_async.endpoint.client import KeyMask, transient_failure
from synth_async.endpoint.failures import failure_of
from synth_async.errors import SynthAsyncError, TransientFailure

__all__ = ["MAX_LINE_BYTES", "BatchClient", "OpenAIBatchClient"]

T = TypeVar("T")

MAX_LINE_BYTES = 16 * 1024 * 1024
"""Of one line of a result file; a long answer has less than 1 % of it."""

_MAX_ERROR_BYTES = 64 * 1024
_PAGE = 100
_TRANSPORT_ERRORS = (
    openai.OpenAIError,
    httpx2.HTTPError,
    httpx2.InvalidURL,
    httpx2.StreamError,
    aiohttp.ClientError,
    OSError,
)


class BatchClient(Protocol):
    """Speaks to the files and batches of one account. Every call raises the errors of `synth_async.errors`."""

    async def upload(self, name: str, content: BinaryIO) -> str:
        """The id of a file that was uploaded."""
        ...

    async def create(self, file_id: str, metadata: Mapping[str, str]) -> BatchView:
        """A new batch of a file."""
        ...

    async def retrieve(self, batch_id: str) -> BatchView:
        """Where a batch stands; raises `BatchGone` where nobody knows it."""
        ...

    async def page(self, after: str | None) -> tuple[list[BatchView], str | None]:
        """One page of all batches, the newest first, and what comes `after` it."""
        ...

    async def cancel(self, batch_id: str) -> BatchView:
        """Ask for the end of a batch; what it has done by then is kept, and paid."""
        ...

    def lines(self, file_id: str) -> AsyncGenerator[bytes, None]:
        """The lines of a result file; raises `BatchGone` where nobody knows it."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


class OpenAIBatchClient:
    """The openai package's files and batches. Make it inside the running event loop; close it."""

    def __init__(self, name: str, settings: Endpoint, *, base_url: str, api_key: str | None) -> None:
        self._name = name
        self._deadline_s = settings.timeout_s
        self._mask = KeyMask(api_key)
        self._openai = openai.AsyncOpenAI(
            api_key=api_key or "none",
            base_url=base_url,
            max_retries=0,
            timeout=settings.timeout_s,
            default_headers={"Accept-Encoding": "identity", **settings.headers},
            default_query=settings.query or None,
            http_client=openai.DefaultAioHttpClient(follow_redirects=False),
        )

    def __repr__(self) -> str:
        return f"<OpenAIBatchClient {self._name}>"

    async def upload(self, name: str, content: BinaryIO) -> str:
        """See `BatchClient`."""
        files = self._openai.files.with_raw_response

        async def call() -> bytes:
            content.seek(0)
            response = await files.create(file=(name, content, "application/jsonl"), purpose="batch")
            return response.content

        return _read(read_file_id, await self._answer(call))

    async def create(self, file_id: str, metadata: Mapping[str, str]) -> BatchView:
        """See `BatchClient`."""
        batches = self._openai.batches.with_raw_response

        async def call() -> bytes:
            response = await batches.create(
                input_file_id=file_id, endpoint=CHAT_URL, completion_window="24h", metadata=dict(metadata)
            )
            return response.content

        return _read(read_batch, await self._answer(call, known=f"file {file_id}"))

    async def retrieve(self, batch_id: str) -> BatchView:
        """See `BatchClient`."""

        async def call() -> bytes:
            return (await self._openai.batches.with_raw_response.retrieve(batch_id)).content

        return _read(read_batch, await self._answer(call, known=f"batch {batch_id}"))

    async def page(self, after: str | None) -> tuple[list[BatchView], str | None]:
        """See `BatchClient`."""

        async def call() -> bytes:
            batches = self._openai.batches.with_raw_response
            response = await (batches.list(limit=_PAGE) if after is None else batches.list(limit=_PAGE, after=after))
            return response.content

        return _read(read_page, await self._answer(call))

    async def cancel(self, batch_id: str) -> BatchView:
        """See `BatchClient`."""

        async def call() -> bytes:
            return (await self._openai.batches.with_raw_response.cancel(batch_id)).content

        return _read(read_batch, await self._answer(call, known=f"batch {batch_id}"))

    async def lines(self, file_id: str) -> AsyncGenerator[bytes, None]:
        """See `BatchClient`."""
        failure: SynthAsyncError | None = None
        started, rest = time.perf_counter(), b""
        try:
            async with self._openai.files.with_streaming_response.content(file_id) as response:
                async for chunk in response.iter_bytes():
                    *whole, rest = (rest + chunk).split(b"\n")
                    for line in whole:
                        yield self._mask.hide(line)
                    if len(rest) > MAX_LINE_BYTES:
                        failure = TransientFailure(f"a line of {file_id} is too long", kind="body")
                        break
        except _TRANSPORT_ERRORS as error:
            failure = await self._mapped(error, time.perf_counter() - started, known=f"file {file_id}")
        if failure is not None:
            raise failure
        if rest.strip():
            yield self._mask.hide(rest)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._openai.close()

    async def _answer(self, call: Callable[[], Awaitable[bytes]], *, known: str = "") -> bytes:
        started = time.perf_counter()
        try:
            return self._mask.hide(await call())
        except _TRANSPORT_ERRORS as error:
            failure = await self._mapped(error, time.perf_counter() - started, known=known)
        # Raised here and not where it is caught: an error in flight would stay attached, and its request holds the key.
        raise failure

    async def _mapped(self, error: Exception, elapsed_s: float, *, known: str) -> SynthAsyncError:
        """`known` names what a 404 says is not there; without it a 404 is about the address."""
        if not isinstance(error, openai.APIStatusError):
            return transient_failure(error, elapsed_s, deadline_s=self._deadline_s)
        response = error.response
        try:
            body = self._mask.hide((await response.aread())[:_MAX_ERROR_BYTES])
        except _TRANSPORT_ERRORS:
            body = b""
        failure = failure_of(response.status_code, response.headers, body, endpoint=self._name, now_s=time.time())
        if response.status_code == 404 and known:
            return BatchGone(
                f"endpoint {self._name}: {known} is not there: is the key of another project? Put the key back, or give"
                f" it up with `synth-async cancel` ({failure})"
            )
        return failure


def _read(read: Callable[[bytes], T], body: bytes) -> T:
    """What a body says; one that is not what was promised is a failure that passes."""
    try:
        return read(body)
    except ValueError as error:
        problem = str(error)
    raise TransientFailure(f"not understood: {problem}", kind="body")
