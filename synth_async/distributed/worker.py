"""A worker: asks what it is handed, journals each answer before it hands it on, decides nothing.

What survives: an answer whose frame was written (SIGKILL, a crash), or synced (power loss), as in a run on one process.
Where the disk is full the answer goes into the space of the reserve, and the driver is told to stop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import anyio
import anyio.to_thread

from synth_async.distributed.wire import Failure, Question, Reply, failure_of
from synth_async.endpoint.client import ChatClient, HttpAnswer
from synth_async.errors import DiskFailure, SynthAsyncError, TransientFailure
from synth_async.store.frames import Frame
from synth_async.store.journal import Journal

__all__ = ["AskingWorker"]

_GATHER_S = 0.01
"""Replies wait so long for others: a call of Ray costs about 1 CPU-ms, however many it carries."""

_SYNC_S = 0.1


class AskingWorker:
    """Asks over one client per endpoint, each within its deadline in seconds; `journal` where the folder is at hand.

    `syncs` where what was appended has to be forced to the disk every 100 ms.
    """

    def __init__(
        self, clients: Mapping[str, tuple[ChatClient, float]], journal: Journal | None, *, syncs: bool
    ) -> None:
        self._clients = clients
        self._journal = journal
        self._syncs = syncs
        self._questions: asyncio.Queue[Question] = asyncio.Queue()
        self._replies: list[Reply] = []
        self._replied = asyncio.Event()
        self._sync_failure: DiskFailure | None = None

    def __repr__(self) -> str:
        return f"<AskingWorker waiting={self._questions.qsize()} replies={len(self._replies)}>"

    async def run(self) -> None:
        """Ask, until it is cancelled."""
        async with anyio.create_task_group() as exchanges:
            if self._journal is not None and self._syncs:
                exchanges.start_soon(self._keep_durable, self._journal)
            while True:
                exchanges.start_soon(self._answer, await self._questions.get())

    def ask(self, questions: Sequence[Question]) -> None:
        """Take in a block of questions."""
        for question in questions:
            self._questions.put_nowait(question)

    async def replies(self) -> list[Reply]:
        """All replies that have not been handed on; waits for the first, and a moment for more."""
        await self._replied.wait()
        await anyio.sleep(_GATHER_S)
        replies, self._replies = self._replies, []
        self._replied.clear()
        return replies

    def renew(self) -> None:
        """Ask over new connections from here on."""
        for client, _ in self._clients.values():
            client.renew()

    async def aclose(self) -> None:
        """Close the connections; what was journaled is on the disk then."""
        for client, _ in self._clients.values():
            await client.aclose()
        if self._journal is not None and self._syncs:
            await anyio.to_thread.run_sync(self._journal.sync)

    async def _answer(self, question: Question) -> None:
        client, timeout_s = self._clients[question.endpoint]
        failure: SynthAsyncError = TransientFailure(f"no answer within {timeout_s:g} s", kind="timeout")
        with anyio.move_on_after(timeout_s):
            try:
                self._reply(self._kept(question, await client.post(question.body)))
                return
            except SynthAsyncError as error:
                failure = error
        self._reply(Reply(question.number, b"", (), 0.0, is_kept=False, failure=failure_of(failure)))

    def _kept(self, question: Question, answer: HttpAnswer) -> Reply:
        failure: Failure | None = None
        if self._journal is not None:
            head = question.head
            self._journal.append(Frame(head.key, head.kind, head.fields, answer.body))
            failure = failure_of(self._sync_failure) if self._sync_failure is not None else None
        told = tuple((name, value) for name, value in answer.headers.raw if b"ratelimit" in name.lower())
        return Reply(question.number, answer.body, told, answer.latency_s, self._journal is not None, failure)

    def _reply(self, reply: Reply) -> None:
        self._replies.append(reply)
        self._replied.set()

    async def _keep_durable(self, journal: Journal) -> None:
        """Force what was appended to the disk every 100 ms; a failure is told with the next answer."""
        while self._sync_failure is None:
            await anyio.sleep(_SYNC_S)
            try:
                await anyio.to_thread.run_sync(journal.sync)
            except DiskFailure as error:
                self._sync_failure = error
