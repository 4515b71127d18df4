"""Sketches of lines, made by several processes and handed over in the order of the lines.

The sketch is the larger part of the cost of a line and needs nothing but the line; what is decided about it depends on
all lines before it. So workers make the sketches and the one process that decides gets them in order: its decisions
are those of a single process. A worker ends with its parent, by SIGKILL too, and hears nothing of an interrupt at the
terminal: the parent ends it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from itertools import islice
from multiprocessing import get_context, parent_process

from synth_async.dataset.compared_texts import id_of_row, parsed_row, parts_of_row
from synth_async.dataset.line_files import Line
from synth_async.errors import SynthAsyncError
from synth_async.stages.conversations import UnreadableRow
from synth_async.stages.dedup import Deduplicator, Fields, Sketch, Verify

__all__ = ["Document", "Reading", "Sketched", "cores_available", "sketched_lines"]

ALONE_LINES = 2000
"""Lines that are sketched before workers are started: they take a second to load what they need."""

_CHUNK_LINES = 128
_CHUNK_BYTES = 1 << 20
_CHUNKS_AHEAD = 2  # a worker: one that it works on, one that waits for it


@dataclass(frozen=True, slots=True)
class Reading:
    """What of a line is compared, and how: `only_field` names one key in the place of the chat shapes."""

    fields: Fields = "both"
    verify: Verify = "indel"
    only_field: str | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A line that can be compared. `id` is the row's own, where it has one."""

    sketch: Sketch
    id: str | None


Sketched = Document | UnreadableRow
"""What a line turned out to be."""


def cores_available() -> int:
    """The cores that this process may use, which a container or `taskset` may bound."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def sketched_lines(
    lines: Iterable[Line], reading: Reading, *, workers: int, alone: int = ALONE_LINES
) -> Generator[tuple[Line, Sketched]]:
    """Each line with its sketch, in order. Close the iterator (`contextlib.closing`) to be sure that no worker is left.

    The first `alone` lines, and with `workers=1` all of them, are sketched in this process. Memory: a few chunks of 1
    MB a worker, or a few lines where they are longer than that. Raises `SynthAsyncError` where a worker died.
    """
    lines = iter(lines)
    for line in lines if workers <= 1 else islice(lines, alone):
        yield line, _sketched(line.content, reading)
    chunks = _chunks(lines)
    first = next(chunks, None)
    if first is None:
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_leave_with_parent) as pool:
        pending: deque[tuple[list[Line], Future[list[Sketched]]]] = deque()
        try:
            pending.append((first, _submitted(pool, first, reading)))
            while pending:
                for chunk in islice(chunks, workers * _CHUNKS_AHEAD + 1 - len(pending)):
                    pending.append((chunk, _submitted(pool, chunk, reading)))
                chunk, future = pending.popleft()
                yield from zip(chunk, future.result(), strict=True)
        except BrokenProcessPool:
            raise SynthAsyncError(
                "a worker process died, maybe for want of memory; try again with fewer: --workers 1 needs none"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _chunks(lines: Iterable[Line]) -> Iterator[list[Line]]:
    chunk: list[Line] = []
    size = 0
    for line in lines:
        chunk.append(line)
        size += len(line.content)
        if len(chunk) == _CHUNK_LINES or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _submitted(pool: ProcessPoolExecutor, chunk: list[Line], reading: Reading) -> Future[list[Sketched]]:
    # A worker may be started here, and inherits what is blocked.
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        return pool.submit(_sketched_chunk, [line.content for line in chunk], reading)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


# --- in a worker ---------------------------------------------------------------------------------


def _leave_with_parent() -> None:
    parent = parent_process()
    if parent is None:
        return

    def leave() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=leave, daemon=True).start()


def _sketched_chunk(contents: list[bytes], reading: Reading) -> list[Sketched]:
    return [_sketched(content, reading) for content in contents]


def _sketched(content: bytes, reading: Reading) -> Sketched:
    try:
        row = parsed_row(content)
        parts = parts_of_row(row, reading.fields, reading.only_field)
    except UnreadableRow as problem:
        return problem
    return Document(_sketching(reading.fields, reading.verify).sketch(parts), id_of_row(row))


@cache
def _sketching(fields: Fields, verify: Verify) -> Deduplicator:
    return Deduplicator(fields=fields, verify=verify)
