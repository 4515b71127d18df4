"""An endpoint whose requests go through the Batch API: `ask` waits for its line of a batch, hours if need be.

Topics stay online, as every batch of them is told what the ones before brought. The rest gathers until a file is full
or nothing new has come for a while; each batch is then carried by a task of its own (`courier`). Answers are journaled
line by line as a result file is read, whether anybody waits for them or not: what a later part of the run asks for
under the same key is handed out from there. A line without an answer goes into a later batch, under the rules of an
online request: what the endpoint rejects for good is dropped, anything else is tried again.

A stop of the run leaves batches running; they are in the journal, and the next process attaches to them.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO, cast

import anyio

from synth_async.config.models import Endpoint as EndpointConfig
from synth_async.endpoint.batch.client import BatchClient
from synth_async.endpoint.batch.courier import Courier
from synth_async.endpoint.batch.gather import Gatherer, Line
from synth_async.endpoint.batch.lines import ResultLine, custom_id_of, failure_of_line
from synth_async.endpoint.batch.outcome import Again, limit_named, refusal_of, unanswered
from synth_async.endpoint.batch.record import BatchBook, BatchGone, OpenBatch
from synth_async.endpoint.batch.states import BatchStatus, BatchView
from synth_async.endpoint.limits import Limits
from synth_async.endpoint.purse import Purse
from synth_async.endpoint.retry import MAX_ATTEMPTS
from synth_async.endpoint.service import Endpoint, EndpointCounts, Exchange, KeepAnswer
from synth_async.endpoint.wire import Dialect, request_body
from synth_async.errors import EndpointRefused, RateLimited, RequestRejected, SynthAsyncError, TransientFailure
from synth_async.records import ChatRequest, Completion, Stage, Usage
from synth_async.stages.parsing import MalformedBody, read_completion

__all__ = ["BatchEndpoint"]

_IN_MEMORY_BYTES = 8 * 1024 * 1024
_FEWEST_BYTES = 2.0
"""Bytes per token that hardly any prompt falls below: a budget is not to be passed."""

_ROOM_KEPT = 0.95
"""Share of an enqueued-token limit that is used: the tokens are the server's to count."""

_FIRST_HOLD_S = 30.0
_LONGEST_HOLD_S = 600.0
_CANCEL_S = 10.0


class BatchEndpoint:
    """One model behind one address, by batches. `run` has to run beside whoever asks."""

    def __init__(
        self,
        online: Endpoint,
        client: BatchClient,
        book: BatchBook,
        *,
        give_up_after_s: float,
        address: Mapping[str, object],
        seed: int | None = None,
    ) -> None:
        self.name = online.name
        # The limits per minute are those of online requests; the use of them is not counted by batches.
        self.settings: EndpointConfig = online.settings.model_copy(update={"rpm": None, "tpm": None})
        self.counts: EndpointCounts = online.counts
        self._online = online
        self._client = client
        self._book = book
        self._address = address
        self._gatherer = Gatherer(self.settings.batch)
        self._courier = Courier(
            client, book, self.settings.batch, give_up_after_s, random.Random(seed), self._note_failure
        )
        self._waiting: dict[str, tuple[ChatRequest, asyncio.Future[Completion]]] = {}
        self._dialects: dict[str, Dialect] = {}
        self._unclaimed: dict[str, int] = {}
        self._under_way: dict[str, str] = {}
        self._open: dict[str, OpenBatch] = {}
        self._contents: set[BinaryIO] = set()
        self._changed = asyncio.Event()
        self._most_tokens = self.settings.batch.enqueued_tokens
        self._held_until = 0.0
        self._hold_s = _FIRST_HOLD_S
        self._over: SynthAsyncError | None = None
        self._last_failure = ""

    def __repr__(self) -> str:
        return f"<BatchEndpoint {self.name} waiting={len(self._waiting)} {self._gatherer!r} open={len(self._open)}>"

    # --- as an endpoint --------------------------------------------------------------------------

    @property
    def purse(self) -> Purse | None:
        """What batches and topics are paid from."""
        return self._online.purse

    @purse.setter
    def purse(self, purse: Purse | None) -> None:
        self._online.purse = purse

    @property
    def on_note(self) -> Callable[[str], None]:
        """Told in words what a person would want to know."""
        return self._online.on_note

    @on_note.setter
    def on_note(self, on_note: Callable[[str], None]) -> None:
        self._online.on_note = on_note

    @property
    def on_exchange(self) -> Callable[[Exchange], None] | None:
        """Told of online exchanges only: a line of a batch has no time of its own."""
        return self._online.on_exchange

    @on_exchange.setter
    def on_exchange(self, on_exchange: Callable[[Exchange], None] | None) -> None:
        self._online.on_exchange = on_exchange

    @property
    def limits(self) -> Limits:
        """Those of online requests."""
        return self._online.limits

    @property
    def in_flight(self) -> int:
        """Requests that wait for their answers, online and in batches."""
        return self._online.in_flight + len(self._waiting)

    @property
    def load(self) -> float:
        """How full it is: 1 where no more may wait."""
        return len(self._waiting) / self.settings.batch.max_waiting

    @property
    def wait_s(self) -> float:
        """Among endpoints of one mode the load decides."""
        return 0.0

    @property
    def takes_work(self) -> bool:
        """Whether it makes sense to ask here."""
        return self._over is None

    @property
    def mean_latency_s(self) -> float:
        """Of online requests: what a drain waits for."""
        return self._online.mean_latency_s

    def holds(self, request: ChatRequest) -> bool:
        """Whether a request is in a batch already, or its answer is here."""
        custom_id = custom_id_of(request)
        return custom_id in self._under_way or custom_id in self._unclaimed

    def waiting_for(self) -> str:
        """Which batches are where, and what went wrong last; empty while none is under way."""
        told = [
            f"{batch.batch_id or 'a batch'} {batch.said} {sum(batch.counts):,}/{batch.lines:,}"
            for batch in list(self._open.values())[:3]
        ]
        told += [f"{len(self._open) - 3} more batches"] if len(self._open) > 3 else []
        told += [f"{len(self._gatherer):,} requests gather"] if len(self._gatherer) else []
        told += [self._last_failure] if self._last_failure and self._open else []
        return "; ".join(
            filter(None, [self._online.waiting_for(), ", ".join(told) and f"{self.name}: {', '.join(told)}"])
        )

    def batches(self) -> list[dict[str, object]]:
        """Every batch under way, for `metrics.json`."""
        return [batch.as_json() for batch in self._open.values()]

    def abandon(self) -> None:
        """Let a stop of the run cut off online requests in flight; batches go on in any case."""
        self._online.abandon()

    def note_slept(self) -> None:
        """This process stood still for long: batches did not."""
        self._online.note_slept()

    async def ask(self, request: ChatRequest, keep: KeepAnswer, *, patient: bool = True) -> Completion:
        """The completion for a request; raises what `Endpoint.ask` raises. `keep` is for what is asked online.

        Answers of batches are written into the book as they are read.
        """
        if request.stage is Stage.TOPICS:
            return await self._online.ask(request, keep, patient=patient)
        failed = 0
        while True:
            try:
                return await self._from_a_batch(request)
            except Again:
                continue
            except RequestRejected as rejected:
                if rejected.status not in (400, 422) or not self._is_respelt(request, str(rejected)):
                    raise
            except (RateLimited, TransientFailure) as failure:
                failed += 1
                self.counts.failures[failure.kind if isinstance(failure, TransientFailure) else "http_429"] += 1
                if failed >= MAX_ATTEMPTS:
                    raise TransientFailure(str(failure), kind="batch") from None

    async def _from_a_batch(self, request: ChatRequest) -> Completion:
        custom_id = custom_id_of(request)
        if (place := self._unclaimed.pop(custom_id, None)) is not None:
            with suppress(MalformedBody):
                return self._read(self._book.answer_at(place))
        if self._over is not None:
            raise _anew(self._over)
        answer: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._waiting[custom_id] = (request, answer)
        if custom_id not in self._under_way:
            self._gatherer.add(custom_id, request, anyio.current_time())
            self._changed.set()
        try:
            return await answer
        finally:
            del self._waiting[custom_id]
            self._gatherer.discard(custom_id)

    def _is_respelt(self, request: ChatRequest, refusal: str) -> bool:
        """Whether a request that was refused as it was spelt can be asked in other words."""
        negotiation = self._online.negotiation
        sent = self._dialects.pop(custom_id_of(request), negotiation.dialect_for(request))
        return negotiation.takes(request, sent, refusal)

    def _read(self, body: bytes) -> Completion:
        return read_completion(body, fallback_model=self.settings.model)

    # --- the background --------------------------------------------------------------------------

    async def run(self) -> None:
        """Take up what earlier processes left open, then send what gathers, until cancelled."""
        try:
            async with anyio.create_task_group() as carriers:
                for batch in self._book.open_batches(self.name):
                    self._adopt(batch, carriers.start_soon)
                while True:
                    await self._wait_for_a_file()
                    batch, content = await self._new_batch()
                    carriers.start_soon(self._carry, batch, content)
        except* SynthAsyncError as group:
            self._fail(_first_of(group))
        finally:
            for content in self._contents:
                content.close()
            self._tell_what_stays()

    async def finish(self) -> None:
        """The run has what it wanted: ask for the end of what is under way, and take in what it soon brought.

        What has not ended by then is read when the run goes on, to a higher target.
        """
        with anyio.move_on_after(_CANCEL_S):
            for batch in list(self._open.values()):
                if batch.batch_id is not None:
                    with suppress(SynthAsyncError):
                        await self._client.cancel(batch.batch_id)
                        self.on_note(f"endpoint {self.name}: batch {batch.batch_id} is not needed any more: cancelled")
            while self._open and self._over is None:
                self._changed.clear()
                await self._changed.wait()

    def _adopt(self, batch: OpenBatch, start: Callable[..., object]) -> None:
        if batch.file_id is None:
            # Its creation comes after its file, so there is no such batch: its lines gather anew.
            self._book.end(batch, "never created")
            self._settle_purse(batch, Usage(), answered=0, failed=0)
            return
        self._open[batch.id] = batch
        for custom_id in batch.pending:
            self._under_way[custom_id] = batch.id
        start(self._carry, batch, None)

    async def _wait_for_a_file(self) -> None:
        """Until a file is full, or nothing new has come for a while, and the account has room for it."""
        while True:
            self._changed.clear()
            now, room = anyio.current_time(), self._room()
            due_s = self._gatherer.due_s(now, room) if room is None or room > 0 or not self._open else None
            wait_s = None if due_s is None else max(due_s, self._held_until - now)
            if wait_s is not None and wait_s <= 0:
                return
            with anyio.move_on_after(wait_s if wait_s is not None else float("inf")):
                await self._changed.wait()

    def _room(self) -> int | None:
        if self._most_tokens is None:
            return None
        return max(0, int(self._most_tokens * _ROOM_KEPT) - sum(batch.tokens for batch in self._open.values()))

    async def _new_batch(self) -> tuple[OpenBatch, BinaryIO]:
        content = cast("BinaryIO", tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES))  # noqa: SIM115 - until its batch ends
        self._contents.add(content)
        lines, sizes = list[Line](), list[int]()
        for line in self._gatherer.take(self._body, self._room()):
            content.write(line.text)
            sizes.append(len(line.text))
            lines.append(Line(line.custom_id, line.request, b""))
        own_id, lease = secrets.token_hex(16), None
        if self.purse is not None:
            most = [
                (int(size / _FEWEST_BYTES) + 1, line.request.max_tokens or 0)
                for size, line in zip(sizes, lines, strict=True)
            ]
            lease, fitting = await self.purse.lease_batch(own_id, most)
            self._gatherer.put_back(lines[fitting:])
            lines = lines[:fitting]
            content.truncate(sum(sizes[:fitting]))
        pending = {line.custom_id: line.request.stage for line in lines}
        tokens = sum(line.tokens for line in lines)
        batch = OpenBatch(own_id, self.name, pending, len(lines), tokens, lease, address=self._address)
        await self._book.intend(batch)
        self._open[own_id] = batch
        for line in lines:
            self._under_way[line.custom_id] = own_id
        return batch, content

    def _body(self, request: ChatRequest) -> bytes:
        dialect = self._online.negotiation.dialect_for(request)
        self._dialects[custom_id_of(request)] = dialect
        return request_body(request, model=self.settings.model, dialect=dialect, extra_body=self.settings.extra_body)

    async def _carry(self, batch: OpenBatch, content: BinaryIO | None) -> None:
        """One batch to its end; what stops the run is raised when all that the batch brought is in the journal."""
        was_known = batch.is_adopted
        reading = _Reading()
        try:
            view = await self._see_to_its_end(batch, content)
        except BatchGone as gone:
            # The embedded endpoint forgets with its process; anywhere else it may be there under another key.
            if not self.settings.is_simulator:
                raise
            view = BatchView(batch.batch_id or "", BatchStatus.CANCELLED, "gone")
            self.on_note(f"endpoint {self.name}: {gone}; its lines are sent again")
            was_known = True
        finally:
            if content is not None:
                content.close()
                self._contents.discard(content)
        await self._courier.read(view, partial(self._take, batch, reading))
        was_cancelled = was_known and batch.looks <= 1
        refusal = refusal_of(view, endpoint=self.name, was_cancelled=was_cancelled) or reading.refusal
        self._end(batch, view, reading)
        if refusal is not None:
            raise refusal

    async def _see_to_its_end(self, batch: OpenBatch, content: BinaryIO | None) -> BatchView:
        if batch.batch_id is None:
            view = await self._courier.deliver(batch, content)
            if view.status is BatchStatus.FAILED:
                return view
            self.counts.attempts += batch.lines
            self.on_note(f"endpoint {self.name}: batch {view.id} of {batch.lines:,} requests is under way")
        return await self._courier.await_end(batch)

    def _take(self, batch: OpenBatch, reading: _Reading, line: ResultLine) -> None:
        """One line of a result file: into the journal, then to whoever waits for it."""
        if line.custom_id not in batch.pending:
            return  # journaled by an earlier process, or none of ours
        failure = failure_of_line(line, endpoint=self.name, now_s=time.time())
        if isinstance(failure, EndpointRefused):
            reading.refusal = reading.refusal or failure
            return
        completion, place = None, -1
        if failure is None:
            place = self._book.answered(batch, line.custom_id, line.body)
            try:
                completion = self._read(line.body)
            except MalformedBody as malformed:
                failure = TransientFailure(str(malformed), kind="body")
        if completion is not None:
            self._note_answer(line.custom_id, completion)
            reading.note(completion.usage)
        del batch.pending[line.custom_id]
        self._resolve(line.custom_id, completion if completion is not None else failure, place)

    def _note_answer(self, custom_id: str, completion: Completion) -> None:
        waiting = self._waiting.get(custom_id)
        self.counts.note_answered(waiting[0].stage if waiting is not None else None, completion.usage)
        dialect = self._dialects.pop(custom_id, None)
        if dialect is not None and custom_id in self._waiting:
            self._online.negotiation.note_answered(self._waiting[custom_id][0], dialect)

    def _resolve(self, custom_id: str, found: Completion | SynthAsyncError | None, place: int = -1) -> None:
        """A line came to its end: whoever waits for it is told, an answer that nobody waits for is kept for later."""
        self._under_way.pop(custom_id, None)
        _, answer = self._waiting.get(custom_id, (None, None))
        if answer is not None and not answer.done():
            if isinstance(found, Completion):
                answer.set_result(found)
            else:
                answer.set_exception(found or Again("not answered"))
        elif isinstance(found, Completion):
            self._unclaimed[custom_id] = place

    def _end(self, batch: OpenBatch, view: BatchView, reading: _Reading) -> None:
        if any(problem.is_token_limit for problem in view.problems):
            self._hold(batch, view)
        elif view.status is not BatchStatus.FAILED:
            self._hold_s = _FIRST_HOLD_S
        failed = len(batch.pending)
        self._book.end(batch, view.said or view.status)
        del self._open[batch.id]
        self._settle_purse(batch, reading.usage, answered=reading.answered, failed=failed)
        if view.id:
            kept = f"{batch.lines - failed:,} of {batch.lines:,} lines answered"
            self.on_note(f"endpoint {self.name}: batch {view.id} {view.said or view.status}, {kept}")
        for number, custom_id in enumerate(list(batch.pending), start=1):
            self._resolve(custom_id, unanswered(view, number))
        batch.pending.clear()
        self._changed.set()

    def _hold(self, batch: OpenBatch, view: BatchView) -> None:
        """The account has no room: nothing is sent for a while, and less in one file where that was all there was."""
        named, is_alone = limit_named(view), len(self._open) == 1
        if named is not None:
            self._most_tokens = named
        elif is_alone:
            self._most_tokens = max(1, batch.tokens // 2)
        if is_alone:
            self._held_until = anyio.current_time() + min(self._hold_s, 4 * self.settings.batch.poll_s)
            self._hold_s = min(_LONGEST_HOLD_S, 2 * self._hold_s)
        self._last_failure = "the account's limit of enqueued tokens is reached"

    def _settle_purse(self, batch: OpenBatch, usage: Usage, *, answered: int, failed: int) -> None:
        if self.purse is not None and batch.lease is not None:
            self.purse.settle_batch(batch.id, usage, answered=answered, failed=failed)

    # --- ending ----------------------------------------------------------------------------------

    def _fail(self, error: SynthAsyncError) -> None:
        self._over = error
        for _, answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(_anew(error))

    def _tell_what_stays(self) -> None:
        known = [batch for batch in self._open.values() if batch.batch_id is not None and not batch.is_exported]
        if known:
            lines = sum(len(batch.pending) for batch in known)
            self.on_note(
                f"endpoint {self.name}: batches go on without this process ({len(known)}, with {lines:,} requests);"
                " the same command comes back for their answers, `synth-async cancel DIR` ends them"
            )

    def _note_failure(self, failure: str) -> None:
        self._last_failure = failure
        self.counts.failures["batch_api"] += 1


@dataclass(slots=True)
class _Reading:
    """What the result files of one batch brought to this process."""

    answered: int = 0
    usage: Usage = field(default_factory=Usage)
    refusal: EndpointRefused | None = None

    def note(self, usage: Usage) -> None:
        self.answered += 1
        self.usage = Usage(self.usage.prompt + usage.prompt, self.usage.completion + usage.completion)


def _anew(error: SynthAsyncError) -> SynthAsyncError:
    """The same error for another listener: one that is raised twice would drag the first one's traceback along."""
    return type(error)(str(error))


def _first_of(group: BaseExceptionGroup[SynthAsyncError]) -> SynthAsyncError:
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    assert isinstance(first, SynthAsyncError)  # noqa: S101 - `except*` lets no other kind through
    return first
