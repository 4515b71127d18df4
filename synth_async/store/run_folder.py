"""The run folder: its names, its one writer, its manifest.

    run.json        manifest: format version, fingerprint and parts per stage, config, package versions
    journal-*.log   append-only truth (store.journal)
    dataset.jsonl   accepted examples           rejects.jsonl   drops with their reasons
    dedup.sidecar   what the dedup index needs of accepted examples, not to be computed again (store.sidecar)
    metrics.json    counts of the run           timeline.json             the same over time
    report.html     what a person reads
    run.log         what was said               run.lock        who holds the folder
    journal.reserve space for the last answers when the disk is full; only while a run writes (store.reserve)

Files are private to the user (0600, folder 0700): prompts may hold a customer's policy. `write_atomically` survives any
crash: the old bytes or the new ones are there, never a mixture.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from synth_async.config.models import Config
from synth_async.errors import DiskFailure, RunLocked, UsageError
from synth_async.store.reserve import RESERVE_BYTES, reason

__all__ = ["RunFolder", "RunLock", "read_json", "run_folder_of", "space_warning", "write_atomically"]

BYTES_PER_EXAMPLE = 10_000
"""Disk that an accepted example takes before anything is measured: the task and its prompt 1.5 to 3 KB, its answer and
verdict 2 to 4, its dataset line 1.5, and the share of those that are dropped."""

_MEASURED_FROM = 100


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The names in a run folder."""

    path: Path

    @property
    def manifest(self) -> Path:
        return self.path / "run.json"

    @property
    def dataset(self) -> Path:
        return self.path / "dataset.jsonl"

    @property
    def sidecar(self) -> Path:
        return self.path / "dedup.sidecar"

    @property
    def rejects(self) -> Path:
        return self.path / "rejects.jsonl"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.json"

    @property
    def timeline(self) -> Path:
        return self.path / "timeline.json"

    @property
    def page(self) -> Path:
        return self.path / "report.html"

    @property
    def log(self) -> Path:
        return self.path / "run.log"

    @property
    def lock(self) -> Path:
        return self.path / "run.lock"

    def create(self) -> None:
        """Make the folder if it is not there; raises `DiskFailure` (exit 74) when it cannot be written."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise DiskFailure(
                f"{self.path}: the run folder cannot be made: {error.strerror}; choose another with --out"
            ) from None
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise DiskFailure(
                f"{self.path}: the run folder is not writable; change its permissions, or choose another with --out"
            )


def run_folder_of(config: Config, out: Path | None = None) -> RunFolder:
    """The folder of a run: `out`, else `output.dir` of the config, else `runs/<name>` under the working folder."""
    return RunFolder(out or config.output.dir or Path("runs") / config.name)


def space_warning(folder: RunFolder, *, accepted: int, target: int) -> str | None:
    """What to say before a run that the disk is probably too small for; None where it has room, or cannot be asked.

    `accepted` examples are in the folder already, and what they took tells what the missing ones will take.
    """
    try:
        held = sum(entry.stat().st_size for entry in os.scandir(folder.path) if entry.name != "journal.reserve")
        disk = os.statvfs(folder.path)
    except OSError:
        return None
    per_example = held / accepted if accepted >= _MEASURED_FROM else BYTES_PER_EXAMPLE
    wanted = max(0, target - accepted) * per_example
    free = disk.f_bavail * disk.f_frsize
    if wanted + RESERVE_BYTES <= free:
        return None
    return (
        f"{folder.path}: about {wanted / 1e6:,.0f} MB will be needed for {target - accepted:,} more examples,"
        f" {free / 1e6:,.0f} MB are free; a full disk stops the run, and the same command goes on"
    )


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, or None when there is no file; raises `UsageError` when it is not one."""
    try:
        found = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (orjson.JSONDecodeError, OSError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise UsageError(f"{path}: holds no JSON object")
    return found


def write_atomically(path: Path, content: bytes, *, by: str = "") -> None:
    """Replace a file in one step, durable before it shows: temporary file, fsync, rename. Raises `DiskFailure`.

    Where two processes may write the same file, `by` names this one: neither takes the other's half for its own.
    """
    temporary = path.with_name(f".{path.name}{by}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise DiskFailure(f"{path}: could not be written: {reason(error)}") from None


class RunLock:
    """`flock` on `run.lock`: two processes cannot share a folder, and one that is dead holds nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> Self:
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DiskFailure(f"{self._path}: could not be opened: {reason(error)}") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._fd, 400, 0).decode("utf-8", "replace").strip()
            os.close(self._fd)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise DiskFailure(f"{self._path}: could not be locked: {error.strerror}") from None
            raise RunLocked(
                f"{self._path.parent}: another process holds this run ({holder or 'unknown'});"
                " wait for it, stop it, or choose another folder with --out"
            ) from None
        self._sign()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def _sign(self) -> None:
        """Say who holds the folder. On a full disk nobody is told, and the lock holds all the same."""
        since = time.strftime("%Y-%m-%d %H:%M:%S %z")
        with suppress(OSError):
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"pid {os.getpid()} on {socket.gethostname()} since {since}\n".encode(), 0)
