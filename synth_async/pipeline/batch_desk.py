"""What is done with the batches of a run from outside it: ending them, and bringing answers that somebody else got."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio

from synth_async import __version__
from synth_async.config import ResolvedEndpoint
from synth_async.config.models import SIMULATOR, Endpoint
from synth_async.config.secrets import resolve_endpoint
from synth_async.endpoint.batch.client import OpenAIBatchClient
from synth_async.endpoint.batch.courier import Courier
from synth_async.endpoint.batch.lines import ResultLine, failure_of_line, read_result
from synth_async.endpoint.batch.record import BatchGone, OpenBatch
from synth_async.endpoint.batch.search import find_batch
from synth_async.errors import DiskFailure, RequestRejected, RunLocked, SynthAsyncError, TransientFailure, UsageError
from synth_async.pipeline.batch_book import JournalBook
from synth_async.pipeline.journal_state import scan
from synth_async.store.journal import Journal, open_journal
from synth_async.store.run_folder import RunFolder, RunLock

__all__ = ["EndedBatch", "Imported", "cancel_batches", "import_responses"]

WAIT_S = 60.0
"""How long a cancelled batch is waited for; OpenAI says that it may take ten minutes."""

_LOOK_S = 1.0
_GIVEN_UP = "given up"


@dataclass(frozen=True, slots=True)
class EndedBatch:
    """What became of one batch that was to be ended. `batch` is its id at the endpoint, or the name of its file.

    Of its `lines` that had no answer before, so many were `taken_in`.
    """

    endpoint: str
    batch: str
    lines: int
    taken_in: int
    outcome: str


@dataclass(slots=True)
class Imported:
    """What files of answers brought. `failed` lines and those that are `missing` are asked for again."""

    lines: int = 0
    answered: int = 0
    failed: int = 0
    known: int = 0
    """Lines that were imported before, or that belong to no exported request of this run."""
    missing: int = 0
    unreadable: int = 0
    batches: set[str] = field(default_factory=set)


async def cancel_batches(
    folder: RunFolder,
    env: Mapping[str, str],
    on_resolved: Callable[[ResolvedEndpoint], None] = lambda _: None,
    *,
    wait_s: float = WAIT_S,
) -> list[EndedBatch]:
    """Ask for the end of every batch that a run left open, and take in what they have done by then.

    Beside a running process the end is only asked for: that process takes in the rest, and stops. Otherwise each batch
    is waited for, `wait_s` long; one that takes longer is left to the next `run`. A batch that nobody knows, or that
    was exported, is given up. Raises `SynthAsyncError` where an endpoint does not answer.
    """
    with ExitStack() as stack:
        journal, is_ours = _open(stack, folder)
        batches = scan(journal, fingerprint="").batches
        book = JournalBook(journal, batches) if is_ours else None
        return [await _end(batch, book, env, on_resolved, wait_s) for batch in batches.values()]


async def _end(
    batch: OpenBatch,
    book: JournalBook | None,
    env: Mapping[str, str],
    on_resolved: Callable[[ResolvedEndpoint], None],
    wait_s: float,
) -> EndedBatch:
    open_lines = len(batch.pending)
    if batch.is_exported or batch.file_id is None or batch.address["base_url"] == SIMULATOR:
        outcome = _give_up(batch, book)
    else:
        settings = Endpoint.model_validate(batch.address)
        resolved = resolve_endpoint(batch.endpoint, settings, env)
        on_resolved(resolved)
        client = OpenAIBatchClient(
            batch.endpoint, settings, base_url=resolved.base_url, api_key=resolved.api_key.reveal()
        )
        try:
            outcome = await _cancel(batch, client, book, settings, wait_s)
        except BatchGone:
            outcome = _give_up(batch, book)
        finally:
            await client.aclose()
    name = batch.batch_id or batch.file_id or "not sent yet"
    return EndedBatch(batch.endpoint, name, open_lines, open_lines - len(batch.pending), outcome)


def _give_up(batch: OpenBatch, book: JournalBook | None) -> str:
    if book is None:
        return "still held by a running process"
    book.end(batch, _GIVEN_UP)
    return _GIVEN_UP


async def _cancel(
    batch: OpenBatch, client: OpenAIBatchClient, book: JournalBook | None, settings: Endpoint, wait_s: float
) -> str:
    if batch.batch_id is None:
        found = await find_batch(client, batch)
        if found is None:
            return "not found; try again in a minute"
        batch.batch_id = found.id
    with suppress(RequestRejected, TransientFailure):  # a batch that has come to its end cannot be cancelled
        await client.cancel(batch.batch_id)
    if book is None:
        return "its end is asked for"
    courier = Courier(client, book, settings.batch.model_copy(update={"poll_s": _LOOK_S}), wait_s, random.Random())
    with anyio.move_on_after(wait_s):
        view = await courier.await_end(batch)
        await courier.read(view, partial(_keep, batch, book))
        book.end(batch, view.said)
        return view.said
    return f"{batch.said}; the next run takes it in"


def _keep(batch: OpenBatch, book: JournalBook, line: ResultLine) -> None:
    if line.custom_id in batch.pending and failure_of_line(line, endpoint=batch.endpoint, now_s=0.0) is None:
        book.answered(batch, line.custom_id, line.body)
        del batch.pending[line.custom_id]


def _open(stack: ExitStack, folder: RunFolder) -> tuple[Journal, bool]:
    """The journal, and whether it may be written."""
    try:
        stack.enter_context(RunLock(folder.lock))
    except (RunLocked, DiskFailure):
        journal = open_journal(folder.path, read_only=True)
        stack.callback(journal.close)
        return journal, False
    journal = open_journal(folder.path, writer=f"synth-async {__version__}")
    stack.callback(journal.close)
    return journal, True


def import_responses(folder: RunFolder, sources: Iterable[Path]) -> Imported:
    """Journal the answers of files that `run-batch` wrote for exported requests; every batch they answer is ended.

    Raises `UsageError` where nothing was exported, `RunLocked` where a process holds the run.
    """
    with ExitStack() as stack:
        stack.enter_context(RunLock(folder.lock))
        journal = open_journal(folder.path, writer=f"synth-async {__version__}")
        stack.callback(journal.close)
        found = scan(journal, fingerprint="").batches
        batches = {own_id: batch for own_id, batch in found.items() if batch.is_exported}
        if not batches:
            raise UsageError(f"{folder.path}: no exported request waits for an answer; `export-requests` comes first")
        book, imported = JournalBook(journal, batches), Imported()
        home = {custom_id: batch for batch in batches.values() for custom_id in batch.pending}
        for source in sources:
            _take_in(source, book, home, imported)
        for own_id in imported.batches:
            imported.missing += len(batches[own_id].pending)
            book.end(batches[own_id], "imported")
        imported.missing -= imported.failed
        return imported


def _take_in(source: Path, book: JournalBook, home: Mapping[str, OpenBatch], imported: Imported) -> None:
    try:
        with source.open("rb") as file:
            for text in file:
                _take_line(text, book, home, imported)
    except OSError as error:
        raise UsageError(f"{source}: could not be read: {error.strerror}") from None


def _take_line(text: bytes, book: JournalBook, home: Mapping[str, OpenBatch], imported: Imported) -> None:
    if not text.strip():
        return
    imported.lines += 1
    line = read_result(text)
    if line is None:
        imported.unreadable += 1
        return
    batch = home.get(line.custom_id)
    if batch is None or line.custom_id not in batch.pending:
        imported.known += 1
        return
    imported.batches.add(batch.id)
    failure: SynthAsyncError | None = failure_of_line(line, endpoint=batch.endpoint, now_s=0.0)
    if failure is not None:
        imported.failed += 1
        return
    book.answered(batch, line.custom_id, line.body)
    del batch.pending[line.custom_id]
    imported.answered += 1
