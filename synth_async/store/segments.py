"""The files of a journal: their names, what their headers say, and where they end.

Whoever holds the lock of a run folder writes one segment after the other. Workers of the same run may write beside it,
each into segments of its own that bear its name in their header and a number from the same sequence. A worker holds a
shared lock on its segment for as long as it lives: whoever takes the run up waits for those locks, so that nothing is
read or mended that is still being written.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from synth_async.errors import DiskFailure, RunLocked
from synth_async.store.frames import DamagedFrame, read_frame, scan_line

__all__ = [
    "HEADER",
    "WORKER",
    "create_segment",
    "header_of",
    "mended_tail",
    "segment_lines",
    "segment_numbers",
    "segment_path",
    "wait_for_worker",
    "worker_lines",
    "worker_segments",
]

HEADER = "header"
WORKER = "worker"
"""Field of the header that names the worker who writes a segment."""

_NAME = re.compile(r"^journal-(\d{6})\.log$")
_TAIL_BYTES = 64 * 1024
_WORKER_PATIENCE_S = 15.0
"""A worker whose driver is gone ends within seconds."""

_LOOK_AGAIN_S = 0.1


def segment_path(folder: Path, number: int) -> Path:
    """Where the segment with that number is."""
    return folder / f"journal-{number:06d}.log"


def segment_numbers(folder: Path) -> list[int]:
    """The numbers of all segments in a folder, in order."""
    return sorted(int(match[1]) for path in folder.iterdir() if (match := _NAME.match(path.name)))


def create_segment(folder: Path) -> tuple[int, int]:
    """(number, descriptor) of a new segment behind all others; two writers never get the same one."""
    while True:
        number = max(segment_numbers(folder), default=0) + 1
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            return number, os.open(segment_path(folder, number), flags, 0o600)
        except FileExistsError:
            continue  # another writer was faster


def header_of(path: Path) -> dict[str, Any] | None:
    """The fields of a segment's header; None where there is no good one."""
    with path.open("rb") as segment:
        first = segment.readline()
    try:
        frame = read_frame(first)
    except DamagedFrame:
        return None
    return frame.fields if frame.kind == HEADER else None


def segment_lines(path: Path) -> Iterator[bytes]:
    """The lines of a segment, each with its LF; raises `DiskFailure`."""
    try:
        with path.open("rb", buffering=1 << 20) as segment:
            yield from segment
    except OSError as error:
        raise DiskFailure(f"{path}: could not be read: {error.strerror}") from None


def worker_lines(folder: Path, worker: str) -> Iterator[bytes]:
    """Every good line that a worker has written, once it writes no more; a torn one at the end is passed over.

    Raises `RunLocked` before the first line where it goes on writing for long.
    """
    paths = [segment_path(folder, number) for number in segment_numbers(folder)]
    theirs = [path for path in paths if (header_of(path) or {}).get(WORKER) == worker]
    for path in theirs:
        wait_for_worker(path)
    for path in theirs:
        for line in segment_lines(path):
            try:
                scan_line(line)
            except DamagedFrame:
                continue
            yield line


def wait_for_worker(path: Path) -> None:
    """Return once no worker holds a segment; raises `RunLocked` where one goes on for long."""
    until = time.monotonic() + _WORKER_PATIENCE_S
    with path.open("rb") as segment:
        while True:
            try:
                fcntl.flock(segment, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    break
                time.sleep(_LOOK_AGAIN_S)
            else:
                return
    raise RunLocked(f"{path}: a worker of an earlier run still writes there; wait for it, or end it")


def mended_tail(path: Path) -> int:
    """Cut a torn last line off a segment, its bytes kept in `journal-N.torn`; returns how many there were."""
    good_end, size = _end_of_last_good_line(path)
    if good_end == size:
        return 0
    with path.open("r+b") as segment:
        segment.seek(good_end)
        tail = segment.read()
        with _open_private(path.with_suffix(".torn")) as keep:
            keep.write(tail)
            keep.flush()
            os.fsync(keep.fileno())
        segment.truncate(good_end)
        os.fsync(segment.fileno())
    return len(tail)


def worker_segments(folder: Path, numbers: Sequence[int]) -> list[Path]:
    """Those of the segments that workers wrote. One without a good header never got beyond its first line."""
    paths = (segment_path(folder, number) for number in numbers)
    return [path for path in paths if (header := header_of(path)) is None or WORKER in header]


def _open_private(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "ab")


def _end_of_last_good_line(path: Path) -> tuple[int, int]:
    """(offset after the last good line, size of the file), found from the end: what stands before is not read."""
    with path.open("rb") as segment:
        size = end = segment.seek(0, os.SEEK_END)
        while end:
            start = _start_of_line(segment, end)
            segment.seek(start)
            try:
                scan_line(segment.read(end - start))
            except DamagedFrame:
                end = start
            else:
                break
    return end, size


def _start_of_line(segment: BinaryIO, end: int) -> int:
    """Offset of the line whose last byte is in front of `end`."""
    stop = end - 1  # the line's own LF, or a byte of a line without one
    while stop > 0:
        start = max(0, stop - _TAIL_BYTES)
        segment.seek(start)
        found = segment.read(stop - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        stop = start
    return 0
