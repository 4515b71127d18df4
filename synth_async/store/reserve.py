"""Disk space put aside, so that a full disk does not cost the answers that are in flight.

While a run writes, `journal.reserve` holds 64 MB that are allocated and never used. When the disk is full the journal
releases them and goes on in their place until the run has stopped. The file is gone after a clean end; a kill leaves
it, and the next start takes it over.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

__all__ = ["RESERVE_BYTES", "Reserve", "is_full", "reason"]

RESERVE_BYTES = 64 * 1024 * 1024
"""At 2.5 KB an answer, room for 25,000 of them: more than can be in flight."""

_LARGEST_SHARE = 8
"""The reserve is at most one part in eight of what is free: on a small disk it may not be what fills it."""


def is_full(error: OSError) -> bool:
    """Whether an error says that there is no space left, on the disk or in the user's quota."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def reason(error: OSError) -> str:
    """What the system says of an error, and what to do about it where space is all that is missing."""
    said = error.strerror or str(error)
    return f"the disk is full ({said}); free some space, then run the same command again" if is_full(error) else said


class Reserve:
    """The reserve of one run folder: taken before the first write, released once."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "journal.reserve"
        self._taken = False
        self._spent = False

    def __repr__(self) -> str:
        return f"<Reserve {'taken' if self._taken else 'spent' if self._spent else 'free'}>"

    def take(self) -> None:
        """Allocate the space; where the platform or the disk does not allow it, the run goes without."""
        if self._taken or self._spent or not hasattr(os, "posix_fallocate"):
            return
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        try:
            held = os.fstat(descriptor).st_blocks * 512
            free = os.fstatvfs(descriptor)
            size = min(RESERVE_BYTES, (free.f_bavail * free.f_frsize + held) // _LARGEST_SHARE)
            os.posix_fallocate(descriptor, 0, max(1, size))
            self._taken = True
        except OSError:
            self.discard()
        finally:
            os.close(descriptor)

    def discard(self) -> None:
        """Remove the file, whoever made it: nothing is written any more."""
        self._taken = False
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def release(self) -> bool:
        """Give the space back; False when there was none left to give."""
        if not self._taken:
            return False
        self._spent = True
        self.discard()
        return True
