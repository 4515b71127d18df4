"""One batch from its file to its last answer, whatever is in the way.

    upload ──> create ──> poll ... ──> read output and error file
                 │  ^
      no reply   v  │ it is in no list, `settle_s` after the creation was tried
               search ──> found: poll

A creation that brought no reply may have taken effect, and a second one would be paid twice. So it is looked for first,
and tried again only when the account's list does not show it. What fails on the way is tried again, with growing
pauses, until the endpoint has been silent for `give_up_after_s`.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import BinaryIO, TypeVar

import anyio
from anyio.lowlevel import checkpoint

from synth_async.config.models import Batch
from synth_async.endpoint.batch.client import BatchClient
from synth_async.endpoint.batch.lines import ResultLine, read_result
from synth_async.endpoint.batch.record import BatchBook, OpenBatch
from synth_async.endpoint.batch.search import find_batch
from synth_async.endpoint.batch.states import BatchProblem, BatchStatus, BatchView
from synth_async.errors import EndpointRefused, RateLimited, RequestRejected, StoppedEarly, TransientFailure

__all__ = ["Courier"]

T = TypeVar("T")

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_LINES_AT_ONCE = 50
"""Result lines that are read before whoever waits for them gets a turn."""


@dataclass(slots=True)
class Courier:
    """Carries batches of one endpoint; `on_failure` is told of every call that is tried again."""

    client: BatchClient
    book: BatchBook
    settings: Batch
    give_up_after_s: float
    chance: random.Random
    on_failure: Callable[[str], None] = field(default=lambda _: None)

    async def deliver(self, batch: OpenBatch, content: BinaryIO | None) -> BatchView:
        """See that the batch exists; `content` is its file, needed where it was not uploaded before.

        The view is of a failed batch where the account has no room for it. Raises `EndpointRefused` and `StoppedEarly`.
        """
        if batch.file_id is None:
            if content is None:
                raise AssertionError("a batch without a file was never created, and is not delivered")
            batch.file_id = await self._persist(self.client.upload, f"synth-async-{batch.id}.jsonl", content)
            await self.book.note(batch)
        view = await self._create(batch)
        batch.batch_id = view.id
        await self.book.note(batch)
        return view

    async def await_end(self, batch: OpenBatch) -> BatchView:
        """The batch when nothing more will come of it."""
        while True:
            view = await self._persist(self.client.retrieve, batch.batch_id or "")
            batch.looks += 1
            batch.said, batch.counts = view.said, (view.completed, view.failed)
            if view.status.is_final:
                return view
            await anyio.sleep(self.settings.poll_s * (0.75 + 0.5 * self.chance.random()))

    async def read(self, view: BatchView, take: Callable[[ResultLine], None]) -> None:
        """Hand over every line of the output and the error file; after a failure from the file's beginning again."""
        for file_id in (view.output_file, view.error_file):
            if file_id is not None:
                await self._persist(self._read_file, file_id, take)

    # --- steps -----------------------------------------------------------------------------------

    async def _create(self, batch: OpenBatch) -> BatchView:
        is_in_doubt, tried_at, failed, since = batch.is_adopted, anyio.current_time(), 0, anyio.current_time()
        while True:
            if is_in_doubt and (found := await self._search(batch, tried_at)) is not None:
                return found
            tried_at = anyio.current_time()
            try:
                # Not cut off by a stop of the run: the reply says which batch it is.
                with anyio.CancelScope(shield=True):
                    return await self.client.create(batch.file_id or "", batch.metadata)
            except RequestRejected as rejected:
                return _not_created(rejected)
            except RateLimited as limited:
                is_in_doubt, hint_s, failure = False, limited.hint_s, str(limited)
            except TransientFailure as broken:
                is_in_doubt, hint_s, failure = broken.connected, broken.hint_s, str(broken)
            failed += 1
            await self._pause(failed, since, hint_s, failure)

    async def _search(self, batch: OpenBatch, tried_at: float) -> BatchView | None:
        """The batch, once a list shows it; None when none does although there was time for it."""
        while True:
            looked_at = anyio.current_time()
            found = await self._persist(find_batch, self.client, batch)
            left_s = tried_at + self.settings.settle_s - looked_at
            if found is not None or left_s <= 0:
                return found
            await anyio.sleep(min(self.settings.poll_s, left_s))

    async def _read_file(self, file_id: str, take: Callable[[ResultLine], None]) -> None:
        number = 0
        async with aclosing(self.client.lines(file_id)) as lines:
            async for line in lines:
                number += 1
                if (found := read_result(line)) is not None:
                    take(found)
                if number % _LINES_AT_ONCE == 0:
                    await checkpoint()

    # --- patience --------------------------------------------------------------------------------

    async def _persist(self, call: Callable[..., Awaitable[T]], *arguments: object) -> T:
        """What a call returns that may be made twice; raises `EndpointRefused` and `StoppedEarly`."""
        failed, since = 0, anyio.current_time()
        while True:
            try:
                return await call(*arguments)
            except RequestRejected as rejected:
                refused = EndpointRefused(
                    f"the Batch API refuses: {rejected}; check that the endpoint has one, or set mode: online"
                )
                raise refused from None
            except (RateLimited, TransientFailure) as failure:
                hint_s, said = failure.hint_s, str(failure)
            failed += 1
            await self._pause(failed, since, hint_s, said)

    async def _pause(self, failed: int, since: float, hint_s: float | None, failure: str) -> None:
        if anyio.current_time() - since >= self.give_up_after_s:
            raise StoppedEarly(f"the Batch API has not answered for {self.give_up_after_s:.0f} s: {failure}")
        self.on_failure(failure)
        backoff_s = self.chance.random() * min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(failed, 10))
        await anyio.sleep(max(backoff_s, min(hint_s or 0.0, 600.0)))


def _not_created(rejected: RequestRejected) -> BatchView:
    """A creation that was refused as a batch that failed at once, as most servers tell it."""
    return BatchView("", BatchStatus.FAILED, "refused", problems=(BatchProblem("", str(rejected)),))
