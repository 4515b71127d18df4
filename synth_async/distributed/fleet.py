"""The driver's side of the workers: questions go out in blocks, replies come in, and what a lost worker leaves behind.

    exchange --> outbox of the key's worker --block--> worker --> journal of the worker
        ^                                                |
        +-------------------- replies <------------------+

A worker that is lost takes no answer with it that it had journaled: its segments are read, and what they hold counts as
replied. What had not left the outbox goes to another worker. The rest may have been sent, and nobody knows what came of
it: that is nobody's failed attempt, and whoever has the key now asks again. A new worker is hired in its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import anyio
import anyio.to_thread
import httpx2

from synth_async.distributed.partition import worker_for
from synth_async.distributed.wire import Head, Question, Reply, raised
from synth_async.endpoint.client import HttpAnswer
from synth_async.endpoint.service import WORKER_LOST
from synth_async.errors import StoppedEarly, SynthAsyncError, TransientFailure

__all__ = ["FindKept", "Fleet", "Hire", "RemoteWorker", "WorkerLost"]

_GATHER_S = 0.005
"""Questions wait so long for others of the same worker."""

_HIRE_AGAIN_S = 10.0
_HIRE_ATTEMPTS = 3
"""Without a single worker, the run ends when so many attempts in a row brought none."""

_MOST_LOSSES = 20
"""Workers lost without an answer in between: what they ask may be what ends them, and each time it may be paid for."""


class WorkerLost(Exception):
    """A worker's process or node is gone, or could not be had. The message says what is known of it."""


class RemoteWorker(Protocol):
    """A worker somewhere else. Every call may raise `WorkerLost`."""

    name: str

    async def ask(self, questions: Sequence[Question]) -> None:
        """Hand over a block of questions."""
        ...

    async def replies(self) -> list[Reply]:
        """The replies that there are; waits for the first."""
        ...

    async def renew(self) -> None:
        """Ask over new connections from here on."""
        ...

    async def aclose(self) -> None:
        """End it, its journal synced."""
        ...


Hire = Callable[[int], Awaitable[RemoteWorker]]
"""A new worker, given its number; raises `WorkerLost`, or `UsageError` for what the user has to put right."""

FindKept = Callable[[str, Collection[tuple[str, int]]], Mapping[tuple[str, int], bytes]]
"""Bodies that a worker of that name has journaled, of the (key, attempt) pairs that are asked about. Blocks."""


@dataclass(slots=True)
class _Open:
    """A question without a reply. `sent_to` has the worker's number once it has left for one."""

    question: Question
    reply: asyncio.Future[HttpAnswer]
    sent_to: int | None = None


@dataclass(slots=True)
class _Member:
    """A worker that lives, what waits to be sent to it, and what it has not replied to."""

    worker: RemoteWorker
    outbox: list[int] = field(default_factory=list)
    renews: bool = False
    has_mail: asyncio.Event = field(default_factory=asyncio.Event)


class Fleet:
    """The workers of one run. `run` drives them; `exchange` has one of them ask."""

    def __init__(self, hire: Hire, size: int, *, find_kept: FindKept, on_note: Callable[[str], None]) -> None:
        self._hire = hire
        self._size = size
        self._find_kept = find_kept
        self._note = on_note
        self._members: dict[int, _Member] = {}
        self._open: dict[int, _Open] = {}
        self._unassigned: list[int] = []
        self._next_question = 0
        self._next_worker = 0
        self._losses = 0
        self._over: SynthAsyncError | None = None

    def __repr__(self) -> str:
        return f"<Fleet workers={sorted(self._members)} open={len(self._open)}>"

    @property
    def workers(self) -> list[RemoteWorker]:
        """The workers that live."""
        return [member.worker for member in self._members.values()]

    async def start(self) -> None:
        """Hire all; raises what keeps the first of them from coming where none did."""
        lost: list[WorkerLost] = []

        async def hire() -> None:
            try:
                await self._hire_one()
            except WorkerLost as error:
                lost.append(error)

        async with anyio.create_task_group() as group:
            for _ in range(self._size):
                group.start_soon(hire)
        if not self._members:
            raise StoppedEarly(f"no worker could be had: {lost[0]}")
        for error in lost:
            self._note(f"a worker could not be had: {error}")

    async def run(self) -> None:
        """Carry questions and replies until it is cancelled, or there is nobody left to carry them to."""
        async with anyio.create_task_group() as group:
            for number in list(self._members):
                group.start_soon(self._serve, number)
            for _ in range(self._size - len(self._members)):
                group.start_soon(self._replace)

    async def exchange(self, endpoint: str, body: bytes, head: Head) -> HttpAnswer:
        """Have the worker of the key ask; raises what its client raised, or that it was lost (`WORKER_LOST`)."""
        if self._over is not None:
            raise type(self._over)(str(self._over))
        number = self._next_question
        self._next_question += 1
        question = Question(number, endpoint, body, head)
        waiting = _Open(question, asyncio.get_running_loop().create_future())
        self._open[number] = waiting
        self._assign(number)
        try:
            return await waiting.reply
        finally:
            del self._open[number]

    def renew(self) -> None:
        """All workers ask over new connections from here on."""
        for member in self._members.values():
            member.renews = True
            member.has_mail.set()

    async def aclose(self) -> None:
        """End all workers."""
        async with anyio.create_task_group() as group:
            for member in self._members.values():
                group.start_soon(_end, member.worker)
        self._members.clear()

    # --- questions and replies -------------------------------------------------------------------

    def _assign(self, number: int) -> None:
        if not self._members:
            self._unassigned.append(number)
            return
        member = self._members[worker_for(self._open[number].question.head.key, self._members)]
        member.outbox.append(number)
        member.has_mail.set()

    async def _serve(self, number: int) -> None:
        """Carry what one worker is asked and what it replies, until it is lost; then hire another."""
        member = self._members[number]
        loss: WorkerLost | None = None
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._send, number, member)
                while True:
                    for reply in await member.worker.replies():
                        self._settle(reply)
        except* WorkerLost as lost:
            loss = _first(lost)
        if loss is not None:
            await self._take_over(number, loss)
            self._losses += 1
            if self._losses < _MOST_LOSSES:
                await self._replace()
            else:
                self._give_up(StoppedEarly(f"{self._losses} workers were lost without an answer in between: {loss}"))

    async def _send(self, number: int, member: _Member) -> None:
        while True:
            await member.has_mail.wait()
            await anyio.sleep(_GATHER_S)
            member.has_mail.clear()
            if member.renews:
                member.renews = False
                await member.worker.renew()
            waiting, member.outbox = member.outbox, []
            # One whose asker has left meanwhile is not sent at all.
            block = [self._open[question] for question in waiting if question in self._open]
            for each in block:
                each.sent_to = number
            if block:
                await member.worker.ask([each.question for each in block])

    def _settle(self, reply: Reply) -> None:
        waiting = self._open.get(reply.number)
        if waiting is None or waiting.reply.done():
            return
        if reply.failure is not None:
            waiting.reply.set_exception(raised(reply.failure))
        else:
            self._losses = 0
            headers = httpx2.Headers(list(reply.headers))
            waiting.reply.set_result(HttpAnswer(reply.body, headers, reply.latency_s, is_kept=reply.is_kept))

    # --- workers that come and go ----------------------------------------------------------------

    async def _hire_one(self) -> int:
        number = self._next_worker
        self._next_worker += 1
        worker = await self._hire(number)
        self._members[number] = _Member(worker)
        waiting, self._unassigned = self._unassigned, []
        for question in waiting:
            if question in self._open:
                self._assign(question)
        return number

    async def _take_over(self, number: int, loss: WorkerLost) -> None:
        """What the worker had journaled counts as replied, what it was not sent goes elsewhere, the rest is told."""
        member = self._members.pop(number)
        theirs = [each for each in self._open.values() if each.sent_to == number and not each.reply.done()]
        kept = await anyio.to_thread.run_sync(self._find_kept, member.worker.name, {_named(each) for each in theirs})
        found = 0
        for each in theirs:
            body = kept.get(_named(each))
            found += body is not None
            if each.reply.done():
                continue
            if body is not None:
                each.reply.set_result(HttpAnswer(body, httpx2.Headers(), 0.0, is_kept=True))
            else:
                failure = TransientFailure(f"the worker that asked was lost: {loss}", kind=WORKER_LOST)
                each.reply.set_exception(failure)
        for waiting in member.outbox:
            if waiting in self._open:
                self._assign(waiting)
        self._note(
            f"worker {member.worker.name} was lost ({loss}): {found} answers found in its journal,"
            f" {len(theirs) - found} requests are sent again by the others"
        )

    async def _replace(self) -> None:
        """Hire another worker, however long that takes, and serve it."""
        failed, number = 0, None
        while number is None:
            try:
                number = await self._hire_one()
            except (WorkerLost, SynthAsyncError) as error:
                failed += 1
                if failed == 1:
                    self._note(f"no new worker yet: {error}")
                if not self._members and failed >= _HIRE_ATTEMPTS:
                    self._give_up(StoppedEarly(f"all workers are lost, and no new one could be had: {error}"))
                    return
                await anyio.sleep(_HIRE_AGAIN_S)
        self._note(f"worker {self._members[number].worker.name} has joined")
        await self._serve(number)

    def _give_up(self, error: StoppedEarly) -> None:
        self._over = error
        for each in self._open.values():
            if not each.reply.done():
                each.reply.set_exception(StoppedEarly(str(error)))


def _named(each: _Open) -> tuple[str, int]:
    head = each.question.head
    return head.key, head.fields["attempt"]


async def _end(worker: RemoteWorker) -> None:
    try:
        await worker.aclose()
    except WorkerLost:
        return  # it has ended


def _first(group: BaseExceptionGroup[WorkerLost]) -> WorkerLost:
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    assert isinstance(first, WorkerLost)  # noqa: S101 - `except*` lets no other kind through
    return first
