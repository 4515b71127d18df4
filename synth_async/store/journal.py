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
* A full disk or an I/O error: `DiskFailure`; the descriptor is closed and not used again, because a failed fsync may have
  dropped pages that a second fsync would not mention. A short write is cut off again where possible.

Reading
-------
On opening, the last segment is checked: a line without LF or with a wrong checksum at the very end is a torn tail: it is
copied to `journal-N.torn` and cut off, so that nothing is ever appended after a byte that is not LF. Damage elsewhere
(bit rot) is skipped to the next good line and counted. A header with a newer format is refused by name.

A frame's place is one integer, segment << 40 | offset; bodies are read back by place and never kept.
"""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from synth_async.errors import DiskFailure, UsageError
from synth_async.store.frames import NO_KEY, DamagedFrame, Frame, encode_frame, read_frame, scan_line

__all__ = ["FORMAT", "Journal", "open_journal"]

FORMAT = 1
"""Version of the frame format that this package writes, and the newest that it reads."""

SEGMENT_BYTES = 256 * 1024 * 1024
_OFFSET_BITS = 40
_OFFSET_MASK = (1 << _OFFSET_BITS) - 1
_READ_BYTES = 16 * 1024
_NAME = re.compile(r"^journal-(\d{6})\.log$")

FsyncMode = Literal["100ms", "always", "never"]


def _segment_path(folder: Path, number: int) -> Path:
    return folder / f"journal-{number:06d}.log"


def _segment_numbers(folder: Path) -> list[int]:
    return sorted(int(match[1]) for path in folder.iterdir() if (match := _NAME.match(path.name)))


class Journal:
    """An open journal: append frames, read them in order, read one by its place. One writer at a time (see the lock)."""

    def __init__(self, folder: Path, *, fsync: FsyncMode, writer: str, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = folder
        self.torn_bytes = 0
        self.damaged_frames = 0
        self._fsync = fsync
        self._writer = writer
        self._segment_bytes = segment_bytes
        self._numbers = _segment_numbers(folder)
        self._readers: dict[int, int] = {}
        self._fd: int | None = None
        self._size = 0
        self._unsynced = False
        # A sync runs in a thread; the descriptor may not be closed or replaced under it.
        self._fd_lock = threading.Lock()
        if self._numbers:
            self._check_format(self._numbers[0])
            self._mend_tail(self._numbers[-1])

    def __repr__(self) -> str:
        return f"<Journal {self.folder.name} segments={len(self._numbers)} unsynced={self._unsynced}>"

    # --- reading ---------------------------------------------------------------------------------

    def scan(self) -> Iterator[tuple[int, bytes, str, bytes]]:
        """Every good frame in order as (place, 16-byte key, kind, line); damaged lines are counted and skipped."""
        self.damaged_frames = 0
        for number in self._numbers:
            base = number << _OFFSET_BITS
            offset = 0
            with _segment_path(self.folder, number).open("rb", buffering=1 << 20) as segment:
                for line in segment:
                    try:
                        key, kind = scan_line(line)
                    except DamagedFrame:
                        self.damaged_frames += 1
                    else:
                        yield base | offset, key, kind, line
                    offset += len(line)

    def read(self, place: int) -> Frame:
        """The frame at a place; raises `DamagedFrame` if it has rotted since the scan."""
        number, offset = place >> _OFFSET_BITS, place & _OFFSET_MASK
        descriptor = self._readers.get(number)
        if descriptor is None:
            descriptor = self._readers[number] = os.open(_segment_path(self.folder, number), os.O_RDONLY | os.O_CLOEXEC)
        line = os.pread(descriptor, _READ_BYTES, offset)
        while (end := line.find(b"\n")) < 0:
            more = os.pread(descriptor, max(_READ_BYTES, len(line)), offset + len(line))
            if not more:
                break
            line += more
        return read_frame(line[: end + 1])

    # --- writing ---------------------------------------------------------------------------------

    def append(self, frame: Frame) -> None:
        """Write one frame with one `os.write`; raises `DiskFailure`, after which the journal is closed for writing."""
        self._write(encode_frame(frame))

    def sync(self) -> None:
        """Force what was appended to the disk. Blocks: call it from a thread. Raises `DiskFailure`."""
        with self._fd_lock:
            if self._fd is not None and self._unsynced:
                self._unsynced = False
                self._or_fail(os.fdatasync, "could not be forced to the disk")

    def close(self) -> None:
        """Sync (unless `fsync: never`) and close. May be called twice."""
        try:
            if self._fsync != "never":
                self.sync()
        finally:
            with self._fd_lock:
                for descriptor in (*self._readers.values(), *([self._fd] if self._fd is not None else [])):
                    os.close(descriptor)
                self._readers.clear()
                self._fd = None

    def _write(self, line: bytes) -> None:
        if self._fd is None or self._size + len(line) > self._segment_bytes:
            self._open_for_writing(len(line))
        written = self._or_fail(lambda descriptor: os.write(descriptor, line), "could not be written")
        if written != len(line):
            self._undo_short_write()
        self._size += written
        self._unsynced = True
        if self._fsync == "always":
            self.sync()

    def _open_for_writing(self, wanted_bytes: int) -> None:
        """Go on with the last segment while it has room, else begin the next one."""
        if self._fd is None and self._numbers:
            path = _segment_path(self.folder, self._numbers[-1])
            size = path.stat().st_size
            if size + wanted_bytes <= self._segment_bytes:
                self._fd, self._size = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC), size
                if size == 0:
                    self._write_header()
                return
        if self._fd is not None:
            self.sync()
            with self._fd_lock:
                os.close(self._fd)
                self._fd = None
        number = (self._numbers[-1] if self._numbers else 0) + 1
        path = _segment_path(self.folder, number)
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            _sync_folder(self.folder)
        except OSError as error:
            raise DiskFailure(f"{path}: could not be created: {error.strerror}") from None
        self._numbers.append(number)
        self._size = 0
        self._write_header()

    def _write_header(self) -> None:
        self._write(encode_frame(Frame(NO_KEY, "header", {"format": FORMAT, "writer": self._writer})))

    def _or_fail(self, action: Callable[[int], int | None], what: str) -> int:
        if self._fd is None:
            raise DiskFailure(f"{self.folder}: the journal is closed after an earlier disk error")
        try:
            return action(self._fd) or 0
        except OSError as error:
            # The descriptor is not trusted again: after a failed fsync the kernel may have dropped the pages.
            os.close(self._fd)
            self._fd = None
            advice = "free some space, then run the same command again" if error.errno == errno.ENOSPC else "check the disk"
            raise DiskFailure(f"{_segment_path(self.folder, self._numbers[-1])}: {what}: {error.strerror}; {advice}") from None

    def _undo_short_write(self) -> None:
        if self._fd is not None:
            os.ftruncate(self._fd, self._size)
            os.close(self._fd)
            self._fd = None
        path = _segment_path(self.folder, self._numbers[-1])
        raise DiskFailure(f"{path}: the disk took only part of a frame; free some space, then run the same command again")

    # --- opening ---------------------------------------------------------------------------------

    def _check_format(self, number: int) -> None:
        path = _segment_path(self.folder, number)
        with path.open("rb") as segment:
            first = segment.readline()
        try:
            frame = read_frame(first)
        except DamagedFrame:
            return  # counted by the scan
        if frame.kind == "header" and frame.fields.get("format", 0) > FORMAT:
            raise UsageError(
                f"{path}: written in journal format {frame.fields['format']} by {frame.fields.get('writer', 'a newer version')};"
                f" this version reads up to format {FORMAT}: upgrade synth-async"
            )

    def _mend_tail(self, number: int) -> None:
        """Cut a torn last line off the last segment, its bytes kept in `journal-N.torn`."""
        path = _segment_path(self.folder, number)
        good_end, size = _end_of_last_good_line(path)
        if good_end == size:
            return
        with path.open("r+b") as segment:
            segment.seek(good_end)
            tail = segment.read()
            with (self.folder / f"journal-{number:06d}.torn").open("ab") as keep:
                keep.write(tail)
                keep.flush()
                os.fsync(keep.fileno())
            segment.truncate(good_end)
            os.fsync(segment.fileno())
        self.torn_bytes = len(tail)


def _end_of_last_good_line(path: Path) -> tuple[int, int]:
    """(offset after the last good line, size of the file). Damage before a later good line is not a tail."""
    offset = good_end = 0
    with path.open("rb", buffering=1 << 20) as segment:
        for line in segment:
            offset += len(line)
            try:
                scan_line(line)
            except DamagedFrame:
                continue
            good_end = offset
    return good_end, offset


def _sync_folder(folder: Path) -> None:
    """Make a new name durable: without it a power loss may leave the file's bytes and no entry for them."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_journal(folder: Path, *, fsync: FsyncMode = "100ms", writer: str = "synth-async") -> Journal:
    """The journal of a run folder, mended if its tail was torn. Creates nothing until the first append."""
    try:
        return Journal(folder, fsync=fsync, writer=writer)
    except OSError as error:
        raise DiskFailure(f"{error.filename or folder}: {error.strerror}") from None
