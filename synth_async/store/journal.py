"""The journal: append-only truth of a run, written before anything else looks at an answer.

Theory of operation
-------------------
The journal is a sequence of segments, `journal-000001.log` and on, each a text file of frames (`store.frames`). The
first frame of a segment is its header: format version and writer. Appending is one `os.write` of one whole frame on
the caller's thread, so a process that dies by SIGKILL leaves every finished write behind in the page cache, and at most
one torn last line. Durability against power loss is a second matter: `sync()` (an `fdatasync`, run by the pipeline in a
thread every 100 ms) bounds what can be lost to what was written since.

What survives
-------------
* SIGKILL, SIGTERM, a crash of the process: every frame whose `append` returned.
* Power loss: every frame before the last `sync`; after it the tail may be torn.
* A full disk: a short write is cut off again; the reserve (`store.reserve`) is released, the frame is written into its
  space, and `DiskFailure` is raised once, so that the run stops while what is in flight still gets in.
* An I/O error, a failed sync, a reserve used up: `DiskFailure`, and nothing is appended by this process again, because
  a failed sync may have dropped pages that a second one would not mention. Such an error may lose unsynced answers.

Reading
-------
On opening, the end of the last segment is checked: a line without LF or with a wrong checksum at the very end is a torn
tail: it is copied to `journal-N.torn` and cut off, so that nothing is ever appended after a byte that is not LF. So is
that of every segment that a worker wrote (`store.segments`): each may have died over its last line. Damage elsewhere
(bit rot) is skipped to the next good line and counted; a segment that is gone is named. A segment with a newer format
is refused by name and not touched.

A frame's place is one integer, segment << 40 | offset; bodies are read back by place and never kept.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from synth_async.errors import DiskFailure, UsageError
from synth_async.store.frames import NO_KEY, DamagedFrame, Frame, encode_frame, read_frame, scan_line
from synth_async.store.reserve import Reserve, is_full, reason
from synth_async.store.segments import (
    HEADER,
    WORKER,
    create_segment,
    header_of,
    mended_tail,
    segment_lines,
    segment_numbers,
    segment_path,
    wait_for_worker,
    worker_segments,
)

__all__ = ["FORMAT", "Journal", "open_journal", "sync_folder"]

FORMAT = 1
"""Version of the frame format that this package writes, and the newest that it reads."""

SEGMENT_BYTES = 256 * 1024 * 1024
_OFFSET_BITS = 40
_OFFSET_MASK = (1 << _OFFSET_BITS) - 1
_READ_BYTES = 16 * 1024
_SHORT_WRITE = OSError(errno.ENOSPC, "it took only a part")

# macOS has no fdatasync.
_sync_bytes = getattr(os, "fdatasync", os.fsync)

FsyncMode = Literal["100ms", "always", "never"]


class Journal:
    """An open journal: append frames, read them in order, read one by its place.

    One writer: take the lock. A `worker` of that one writes beside it, and reads nothing.
    """

    def __init__(
        self,
        folder: Path,
        *,
        fsync: FsyncMode,
        writer: str,
        segment_bytes: int = SEGMENT_BYTES,
        read_only: bool = False,
        worker: str | None = None,
    ) -> None:
        self.folder = folder
        self.torn_bytes = 0
        self.damaged_frames = 0
        self._fsync = fsync
        self._writer = writer
        self._segment_bytes = segment_bytes
        self._worker = worker
        # What stands there already is not a worker's: it reads nothing, and begins a segment of its own.
        self._numbers = segment_numbers(folder) if worker is None else []
        self._missing = sorted(set(range(1, max(self._numbers, default=0))).difference(self._numbers))
        self._readers: dict[int, int] = {}
        self._fd: int | None = None
        self._size = 0
        self._unsynced = False
        self._refusal: str | None = None
        self._reserve = Reserve(folder)
        # A sync runs in a thread; the descriptor may not be closed or replaced under it.
        self._fd_lock = threading.Lock()
        for number in self._numbers:
            _check_format(segment_path(folder, number))
        self._read_only = read_only
        if read_only:
            self._refusal = f"{folder}: the journal is open for reading only"
        elif self._numbers:
            self._mend_tails()

    def __repr__(self) -> str:
        closed = " closed" if self._refusal is not None else ""
        return f"<Journal {self.folder.name} segments={len(self._numbers)} unsynced={self._unsynced}{closed}>"

    # --- reading ---------------------------------------------------------------------------------

    @property
    def missing_segments(self) -> list[str]:
        """Names of segments that were there: later ones are. One that was the last leaves no trace."""
        return [segment_path(self.folder, number).name for number in self._missing]

    @property
    def is_damaged(self) -> bool:
        """Whether frames are lost, as far as the last scan saw."""
        return self.damaged_frames > 0 or bool(self.missing_segments)

    def scan(self) -> Iterator[tuple[int, bytes, str, bytes]]:
        """Every good frame in order as (place, 16-byte key, kind, line); damaged lines are counted and skipped."""
        self.damaged_frames = 0
        for number in self._numbers:
            base = number << _OFFSET_BITS
            offset = 0
            for line in segment_lines(segment_path(self.folder, number)):
                try:
                    key, kind = scan_line(line)
                except DamagedFrame:
                    self.damaged_frames += 1
                else:
                    yield base | offset, key, kind, line
                offset += len(line)

    def read(self, place: int) -> Frame:
        """The frame at a place; raises `DamagedFrame` if it rotted since the scan, `DiskFailure` on an I/O error."""
        number, offset = place >> _OFFSET_BITS, place & _OFFSET_MASK
        try:
            return read_frame(self._line_at(number, offset))
        except OSError as error:
            raise DiskFailure(f"{segment_path(self.folder, number)}: could not be read: {error.strerror}") from None

    def _line_at(self, number: int, offset: int) -> bytes:
        descriptor = self._readers.get(number)
        if descriptor is None:
            descriptor = self._readers[number] = os.open(segment_path(self.folder, number), os.O_RDONLY | os.O_CLOEXEC)
        line = os.pread(descriptor, _READ_BYTES, offset)
        while (end := line.find(b"\n")) < 0:
            more = os.pread(descriptor, max(_READ_BYTES, len(line)), offset + len(line))
            if not more:
                break
            line += more
        return line[: end + 1]

    # --- writing ---------------------------------------------------------------------------------

    def append(self, frame: Frame) -> int:
        """Write one frame with one `os.write`; returns its place; raises `DiskFailure`.

        On a full disk the frame is written into the space of the reserve before the error is raised, once: the run has
        to stop, what is in flight can still be appended. After any other error the journal is closed for writing.
        """
        line = encode_frame(frame)
        if self._refusal is not None:
            raise DiskFailure(self._refusal)
        full: str | None = None
        if self._fd is None or self._size + len(line) > self._segment_bytes:
            full = self._open_for_writing(len(line))
        full = self._write(line) or full
        if self._fsync == "always" or full is not None:
            self.sync()
        if full is not None:
            raise DiskFailure(f"{self._path}: {full}")
        return self._numbers[-1] << _OFFSET_BITS | self._size - len(line)

    def sync(self) -> None:
        """Force what was appended to the disk. Blocks: call it from a thread. Raises `DiskFailure`."""
        with self._fd_lock:
            if self._fd is None or not self._unsynced:
                return
            self._unsynced = False
            try:
                _sync_bytes(self._fd)
            except OSError as error:
                # After a failed sync the kernel may have dropped the pages, and a second one would not mention it.
                raise self._refuse(f"could not be forced to the disk: {reason(error)}; check the disk") from None

    def close(self) -> None:
        """Sync (unless `fsync: never`) and close. May be called twice; nothing can be appended afterwards."""
        try:
            if self._fsync != "never":
                self.sync()
        finally:
            self._refusal = self._refusal or f"{self.folder}: the journal is closed"
            if not self._read_only:
                self._reserve.discard()
            with self._fd_lock:
                for descriptor in (*self._readers.values(), *([self._fd] if self._fd is not None else [])):
                    os.close(descriptor)
                self._readers.clear()
                self._fd = None

    def _write(self, line: bytes) -> str | None:
        """Write a line; returns the news that the disk is full when it took the reserve to do so."""
        full = self._put(line)
        if full is not None and (not self._reserve.release() or self._put(line) is not None):
            raise self._refuse(full)
        self._size += len(line)
        self._unsynced = True
        return full

    def _put(self, line: bytes) -> str | None:
        """Write a line, all of it or nothing; returns why the disk did not take it where only space was missing."""
        if self._fd is None:
            raise AssertionError("a segment is open before a line is written")
        try:
            written = os.write(self._fd, line)
        except OSError as error:
            if is_full(error):
                return reason(error)
            raise self._refuse(f"could not be written: {error.strerror}; check the disk") from None
        if written == len(line):
            return None
        try:
            # Nothing may ever follow a byte that is not LF.
            os.ftruncate(self._fd, self._size)
        except OSError as error:
            raise self._refuse(f"could not be cut after a short write: {error.strerror}; check the disk") from None
        return reason(_SHORT_WRITE)

    def _refuse(self, what: str) -> DiskFailure:
        """The error to raise; nothing is appended after it. The descriptor stays open, as a sync may use it."""
        self._refusal = self._refusal or f"{self._path}: {what}"
        return DiskFailure(self._refusal)

    @property
    def _path(self) -> Path:
        return segment_path(self.folder, self._numbers[-1] if self._numbers else 1)

    def _open_for_writing(self, wanted_bytes: int) -> str | None:
        """Go on with the last segment while it has room, else begin the next one. Returns what `_write` does."""
        try:
            if self._fd is not None:
                self._leave_segment()
            elif self._numbers and (size := self._path.stat().st_size) + wanted_bytes <= self._segment_bytes:
                self._fd, self._size = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC), size
            self._reserve.take()
            if self._fd is None:
                self._begin_segment()
        except OSError as error:
            raise self._refuse(f"could not be opened for writing: {reason(error)}") from None
        if self._size > 0:
            return None
        fields = {"format": FORMAT, "writer": self._writer, **({WORKER: self._worker} if self._worker else {})}
        return self._write(encode_frame(Frame(NO_KEY, HEADER, fields)))

    def _leave_segment(self) -> None:
        self.sync()
        with self._fd_lock:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None

    def _begin_segment(self) -> None:
        number, self._fd = create_segment(self.folder)
        if self._worker is not None:
            fcntl.flock(self._fd, fcntl.LOCK_SH)
        self._numbers.append(number)
        self._size = 0
        sync_folder(self.folder)

    # --- opening ---------------------------------------------------------------------------------

    def _mend_tails(self) -> None:
        """Cut a torn last line off the last segment, and off every one that a worker wrote."""
        ends = {segment_path(self.folder, self._numbers[-1]): None}
        for path in worker_segments(self.folder, self._numbers):
            wait_for_worker(path)
            ends[path] = None
        self.torn_bytes = sum(mended_tail(path) for path in ends)


def _check_format(path: Path) -> None:
    """Raises `UsageError` for a segment that a newer version began. A damaged header is counted by the scan."""
    fields = header_of(path) or {}
    if fields.get("format", 0) > FORMAT:
        writer = fields.get("writer", "a newer version")
        raise UsageError(
            f"{path}: written in journal format {fields['format']} by {writer};"
            f" this version reads up to format {FORMAT}: upgrade synth-async"
        )


def sync_folder(folder: Path) -> None:
    """Make a new name durable: without it a power loss may leave the file's bytes and no entry for them."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_journal(
    folder: Path,
    *,
    fsync: FsyncMode = "100ms",
    writer: str = "synth-async",
    read_only: bool = False,
    worker: str | None = None,
) -> Journal:
    """The journal of a run folder, mended if its tail was torn. Creates nothing until the first append.

    `read_only` changes nothing in the folder, so that another process may be writing. A `worker` writes beside the
    holder of the folder's lock, into segments that bear its name. Raises `UsageError` for a journal that a newer
    version wrote, `DiskFailure` for one that cannot be read or mended, `RunLocked` where a worker still writes.
    """
    try:
        return Journal(folder, fsync=fsync, writer=writer, read_only=read_only, worker=worker)
    except OSError as error:
        raise DiskFailure(f"{error.filename or folder}: {error.strerror}") from None
