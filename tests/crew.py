"""Workers of a fleet in this process: what Ray does between them and the driver is left out, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio

from synth_async.distributed.endpoint import kept_answers
from synth_async.distributed.fleet import FindKept, Fleet, WorkerLost
from synth_async.distributed.wire import Question, Reply
from synth_async.distributed.worker import AskingWorker
from synth_async.endpoint.client import ChatClient
from synth_async.store.journal import Journal


async def tick() -> None:
    """Let a virtual clock go in small steps: while a thread reads a journal, it would leap to the next deadline."""
    while True:  # noqa: ASYNC110 - time is virtual
        await anyio.sleep(0.02)


@dataclass
class NearWorker:
    """A worker that can be killed: then every call to it is `WorkerLost`, and what it was about to reply is gone."""

    name: str
    asking: AskingWorker
    journal: Journal | None
    blocks: list[int] = field(default_factory=list)
    is_closed: bool = False
    killed: anyio.Event = field(default_factory=anyio.Event)
    _scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    async def run(self) -> None:
        """Ask, until it is killed or closed; either way its locks are free then, as those of a process are."""
        try:
            with self._scope:
                await self.asking.run()
        finally:
            if self.journal is not None:
                self.journal.close()

    def kill(self) -> None:
        if self.journal is not None:
            self.journal.close()
        self._scope.cancel()
        self.killed.set()

    async def ask(self, questions: Sequence[Question]) -> None:
        self._must_live()
        self.blocks.append(len(questions))
        self.asking.ask(questions)

    async def replies(self) -> list[Reply]:
        found: list[Reply] = []
        async with anyio.create_task_group() as group:

            async def wait_for_death() -> None:
                await self.killed.wait()
                group.cancel_scope.cancel()

            group.start_soon(wait_for_death)
            found = await self.asking.replies()
            group.cancel_scope.cancel()
        self._must_live()
        return found

    async def renew(self) -> None:
        self._must_live()
        self.asking.renew()

    async def aclose(self) -> None:
        self._must_live()
        self.is_closed = True
        self._scope.cancel()
        await self.asking.aclose()

    def _must_live(self) -> None:
        if self.killed.is_set():
            raise WorkerLost("killed")


@dataclass
class Crew:
    """Hires workers into `group`; each asks over `client(number)`, and journals in `folder` where there is one."""

    group: anyio.abc.TaskGroup
    client: Callable[[int], ChatClient]
    folder: Path | None
    timeout_s: float = 60.0
    refusals: set[int] = field(default_factory=set)
    workers: list[NearWorker] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def fleet(self, size: int) -> Fleet:
        """A fleet of such workers."""
        find: FindKept = partial(kept_answers, self.folder) if self.folder is not None else lambda *_: {}
        return Fleet(self.hire, size, find_kept=find, on_note=self.notes.append)

    async def until_asked(self, number: int) -> None:
        """Return when the worker of that number has been hired, and a second after it has been asked anything."""
        while len(self.workers) <= number or not self.workers[number].blocks:  # noqa: ASYNC110 - time is virtual
            await anyio.sleep(1)
        await anyio.sleep(1)

    async def hire(self, number: int) -> NearWorker:
        """A new worker, unless its number is among the `refusals`."""
        if number in self.refusals:
            raise WorkerLost("no room")
        name = f"crew-{number}"
        journal = None
        if self.folder is not None:
            journal = Journal(self.folder, fsync="never", writer="test", worker=name)
        asking = AskingWorker({"e": (self.client(number), self.timeout_s)}, journal, syncs=False)
        worker = NearWorker(name, asking, journal)
        self.workers.append(worker)
        self.group.start_soon(worker.run)
        return worker
