"""An output file that follows the journal: `dataset.jsonl` and `rejects.jsonl`.

The journal is the truth, these files are its shadow. On opening, the lines that the journal calls for are *confirmed*
in order against the bytes that are there; at the first difference (a line cut by a kill, an edit, a decision made anew)
the file is cut at that point and written on from the journal. Appending is one `os.pwrite` per line, so at any instant
the file is valid JSONL up to its last newline. What a power loss takes is written again on the next start.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from synth_async.errors import DiskFailure

__all__ = ["ShadowFile"]

_READ_BYTES = 1 << 20


class ShadowFile:
    """A JSONL file brought in line with the journal: `confirm` each earlier line, `settle`, then `append`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rewritten = False
        self._ahead = bytearray()
        self._confirmed = 0
        self._settled = False
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DiskFailure(f"{path}: could not be opened: {error.strerror}") from None

    def __repr__(self) -> str:
        return f"<ShadowFile {self.path.name} bytes={self._confirmed} settled={self._settled}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def confirm(self, line: bytes) -> None:
        """The next line by the journal: passed over if it is there, else the file is cut here and written on."""
        if not self._settled and self._peek(len(line)) != line:
            self._cut()
        if self._settled:
            self.append(line)
        else:
            del self._ahead[: len(line)]
            self._confirmed += len(line)

    def settle(self) -> None:
        """No earlier line is left: whatever stands behind the confirmed ones is cut off."""
        if not self._settled and self._peek(1):
            self._cut()
        self._settled = True

    def append(self, line: bytes) -> None:
        """Write one line, its LF included; raises `DiskFailure`, after which the file still ends in a whole line."""
        self.settle()
        try:
            written = os.pwrite(self._fd, line, self._confirmed)
            if written != len(line):
                os.ftruncate(self._fd, self._confirmed)
        except OSError as error:
            raise DiskFailure(f"{self.path}: could not be written: {error.strerror}") from None
        if written != len(line):
            raise DiskFailure(f"{self.path}: the disk took only part of a line; free some space, then run again")
        self._confirmed += written

    def close(self) -> None:
        """Close the file. May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

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

    def _cut(self) -> None:
        try:
            os.ftruncate(self._fd, self._confirmed)
        except OSError as error:
            raise DiskFailure(f"{self.path}: could not be cut: {error.strerror}") from None
        self._ahead.clear()
        self._settled = True
        self.rewritten = True
