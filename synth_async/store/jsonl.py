"""An output file that follows the journal: `dataset.jsonl` and `rejects.jsonl`.

The journal is the truth, these files are its shadow. On opening, the lines that the journal calls for are *confirmed*
in order against the bytes that are there. Where only the end is missing or torn, the file is cut behind its last whole
line and written on. Where a whole line differs (an edit, a decision made anew), the file is made anew beside it: synced
and renamed into its place once every earlier line is in it, so a kill in between leaves the old file as it was.

What survives: appending is one `os.pwrite` per line, so at any instant the file is valid JSONL up to its last newline.
It is synced on a clean end. What a power loss takes before is written again on the next start.

Every byte is compared, rather than a hash that the journal would note now and then: a mark says that the file is what
somebody wrote, the comparison that it is what the journal says today, by this version and this config. What is gone
through for it has to be read anyway by a run that goes on, for the index of what has been accepted.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from synth_async.errors import DiskFailure
from synth_async.store.reserve import reason

__all__ = ["ShadowFile"]

_READ_BYTES = 1 << 20
_SHORT_WRITE = OSError(errno.ENOSPC, "it took only a part")


class ShadowFile:
    """A JSONL file brought in line with the journal: `confirm` each earlier line, `settle`, then `append`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rewritten = False
        self._anew = path.with_name(f".{path.name}.tmp")
        self._is_made_anew = False
        self._ahead = bytearray()
        self._confirmed = 0
        self._follows = True
        self._unsynced = False
        try:
            self._anew.unlink(missing_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DiskFailure(f"{path}: could not be opened: {error.strerror}") from None

    def __repr__(self) -> str:
        return f"<ShadowFile {self.path.name} bytes={self._confirmed} rewritten={self.rewritten}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._sync()
        finally:
            self.close()

    def confirm(self, line: bytes) -> None:
        """The next line by the journal: passed over if it is there, else the file goes on from here with this line."""
        if self._follows:
            ahead = self._peek(len(line))
            if ahead == line:
                del self._ahead[: len(line)]
                self._confirmed += len(line)
                return
            if len(ahead) < len(line) and b"\n" not in ahead:
                self._cut()
            else:
                self._begin_anew()
        self._write(line)

    def settle(self) -> None:
        """No earlier line is left: what stands behind them is cut off, a file made anew is put in its place."""
        if self._is_made_anew:
            self._sync()
            self._put_in_place()
        elif self._follows and self._peek(1):
            self._cut()
        self._follows = False

    def append(self, line: bytes) -> None:
        """Write one line, its LF included; raises `DiskFailure`, after which the file still ends in a whole line."""
        self.settle()
        self._write(line)

    def close(self) -> None:
        """Close the file. May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._is_made_anew:
            with suppress(OSError):
                self._anew.unlink(missing_ok=True)

    def _peek(self, size: int) -> bytes:
        while len(self._ahead) < size:
            try:
                more = os.pread(self._fd, max(_READ_BYTES, size), self._confirmed + len(self._ahead))
            except OSError as error:
                raise DiskFailure(f"{self.path}: could not be read: {error.strerror}") from None
            if not more:
                break
            self._ahead += more
        return bytes(self._ahead[:size])

    def _write(self, line: bytes) -> None:
        try:
            written = os.pwrite(self._fd, line, self._confirmed)
            if written != len(line):
                os.ftruncate(self._fd, self._confirmed)
        except OSError as error:
            raise DiskFailure(f"{self.path}: could not be written: {reason(error)}") from None
        if written != len(line):
            raise DiskFailure(f"{self.path}: could not be written: {reason(_SHORT_WRITE)}")
        self._confirmed += written
        self._unsynced = True

    def _cut(self) -> None:
        try:
            os.ftruncate(self._fd, self._confirmed)
        except OSError as error:
            raise DiskFailure(f"{self.path}: could not be cut: {error.strerror}") from None
        self._leave_behind()

    def _begin_anew(self) -> None:
        """Go on in a new file that begins with the confirmed lines; the old one stays as it is until `settle`."""
        earlier = self._fd
        try:
            self._fd = os.open(self._anew, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            self._is_made_anew = True
            _copy(earlier, self._fd, self._confirmed)
        except OSError as error:
            raise DiskFailure(f"{self._anew}: could not be written: {reason(error)}") from None
        finally:
            if self._fd != earlier:
                os.close(earlier)
        self._leave_behind()

    def _leave_behind(self) -> None:
        self._ahead.clear()
        self._follows = False
        self._unsynced = True
        self.rewritten = True

    def _put_in_place(self) -> None:
        try:
            self._anew.replace(self.path)
        except OSError as error:
            raise DiskFailure(f"{self.path}: could not be replaced: {error.strerror}") from None
        self._is_made_anew = False

    def _sync(self) -> None:
        if self._unsynced:
            self._unsynced = False
            try:
                os.fsync(self._fd)
            except OSError as error:
                raise DiskFailure(f"{self.path}: could not be forced to the disk: {reason(error)}") from None


def _copy(source: int, target: int, size: int) -> None:
    """The first `size` bytes of one open file as those of another; raises `OSError`."""
    for offset in range(0, size, _READ_BYTES):
        piece = os.pread(source, min(_READ_BYTES, size - offset), offset)
        if os.pwrite(target, piece, offset) != len(piece):
            raise _SHORT_WRITE
