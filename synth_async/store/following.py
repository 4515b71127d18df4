"""Reading a JSONL file behind the process that appends to it.

Nothing is kept but the piece that was read last, so a slow reader costs no memory: the file is the queue.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from synth_async.errors import DiskFailure
from synth_async.store.reserve import reason

__all__ = ["FollowedFile"]

_READ_BYTES = 1 << 16


class FollowedFile:
    """The lines of a file that grows, each once. It may not exist yet; it must not be put in another's place."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._offset = 0
        self._torn = b""

    def __repr__(self) -> str:
        return f"<FollowedFile {self._path.name} bytes={self._offset} torn={len(self._torn)}>"

    def new_lines(self) -> Iterator[bytes]:
        """The whole lines that have come since the last call; raises `DiskFailure` where they cannot be read."""
        while piece := self._read():
            *lines, self._torn = (self._torn + piece).split(b"\n")
            yield from lines

    def close(self) -> None:
        """Close the file. May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _read(self) -> bytes:
        try:
            if self._fd < 0:
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            piece = os.pread(self._fd, _READ_BYTES, self._offset)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise DiskFailure(f"{self._path}: could not be read: {reason(error)}") from None
        self._offset += len(piece)
        return piece
