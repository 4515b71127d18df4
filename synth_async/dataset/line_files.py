"""Lines in and out of files: numbered lines, outputs that show once they are whole, and bytes put aside.

Files may be gzip-compressed: an input by its name or its first bytes, an output by its name (`.gz`). `-` is standard
input or standard output. What survives: an output is written to a temporary file beside it, synced and renamed, so
after a kill or a power loss it is either what it was before or complete. Standard output gets its lines as they come.
"""

from __future__ import annotations

import gzip
import os
import sys
import tempfile
import zlib
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from synth_async.errors import DiskFailure, UsageError
from synth_async.store.journal import sync_folder

__all__ = [
    "STANDARD",
    "Line",
    "Spool",
    "numbered_lines",
    "refuse_overwriting",
    "replaced",
    "require_inputs",
    "working_folder",
]

STANDARD = Path("-")
"""Standard input as an input, standard output as an output."""

_GZIP_MAGIC = b"\x1f\x8b"
_WRITTEN_AT_ONCE_BYTES = 1 << 20


class Line(NamedTuple):
    """A line that is not blank: the index of its file among the inputs, its number from 1, its bytes with their end."""

    file: int
    number: int
    content: bytes


# --- in ------------------------------------------------------------------------------------------


def require_inputs(paths: Sequence[Path]) -> None:
    """Raise `UsageError` for the first path that is not there or is a folder, and for standard input read twice."""
    for path in paths:
        if path != STANDARD and not path.exists():
            raise UsageError(f"{path}: no such file")
        if path.is_dir():
            raise UsageError(f"{path}: is a folder; name the JSONL file")
    if paths.count(STANDARD) > 1:
        raise UsageError("- (standard input) can be read once only")


def numbered_lines(paths: Sequence[Path]) -> Iterator[Line]:
    """Every line that is not blank, file by file; raises `UsageError` for a file that cannot be read to its end."""
    for index, path in enumerate(paths):
        try:
            with _opened(path) as lines:
                for number, content in enumerate(lines, start=1):
                    if content.strip():
                        yield Line(index, number, content)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise UsageError(f"{path}: not a complete gzip file") from None
        except OSError as error:
            raise UsageError(f"{path}: could not be read: {error.strerror}") from None


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO | gzip.GzipFile]:
    with open(0, "rb", closefd=False) if path == STANDARD else path.open("rb") as raw:
        if path.suffix == ".gz" or raw.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC):
            with gzip.GzipFile(fileobj=raw, mode="rb") as unpacked:
                yield unpacked
        else:
            yield raw


# --- out -----------------------------------------------------------------------------------------


@contextmanager
def replaced(target: Path) -> Iterator[BinaryIO | gzip.GzipFile]:
    """A stream that takes the place of `target` once it is whole and synced; an error leaves the target as it was.

    Raises `DiskFailure` where writing fails, and `BrokenPipeError` where the reader of standard output has left.
    """
    if target == STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    temporary = target.resolve().with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as raw:
            if target.suffix == ".gz":
                # no name and no time inside: the same lines give the same bytes
                with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
                    yield packed
            else:
                yield raw
            raw.flush()
            os.fsync(raw.fileno())
        temporary.replace(target.resolve())
        sync_folder(target.resolve().parent)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise DiskFailure(f"{target}: could not be written: {error.strerror}") from None
    finally:
        with suppress(OSError):
            temporary.unlink()


def refuse_overwriting(*, inputs: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Raise `UsageError` for an output that is also an input or another output, or is no regular file."""
    for index, output in enumerate(outputs):
        for other in [*(path for path in inputs if path != STANDARD), *outputs[:index]]:
            if _is_same_file(output, other):
                raise UsageError(f"{output}: is also read or written as {other}; name another file for the output")
        if output != STANDARD and output.exists() and not output.is_file():
            raise UsageError(f"{output}: is not a regular file; name a file for the output, or - for standard output")


def _is_same_file(path: Path, other: Path) -> bool:
    if STANDARD in {path, other}:
        return path == other
    if path.resolve() == other.resolve():
        return True
    return path.exists() and other.exists() and path.samefile(other)


# --- aside ---------------------------------------------------------------------------------------


def working_folder(output: Path) -> Path | None:
    """Where to put bytes aside: beside the output, whose disk has room for it; None (the system's) for `-`."""
    return None if output == STANDARD else output.resolve().parent


class Spool:
    """Byte strings put aside on disk and read back by their number, from 0; in memory each takes 8 bytes.

    The file has no name, so it is gone with the process, however that ends. Raises `DiskFailure`.
    """

    def __init__(self, folder: Path | None) -> None:
        self._ends = array("Q", [0])
        self._waiting = bytearray()
        try:
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed by __exit__
        except OSError as error:
            where = folder or tempfile.gettempdir()
            raise DiskFailure(f"{where}: could not be written: {error.strerror}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def append(self, content: bytes) -> None:
        """Put one more aside."""
        self._waiting += content
        self._ends.append(self._ends[-1] + len(content))
        if len(self._waiting) >= _WRITTEN_AT_ONCE_BYTES:
            self._write()

    def read(self, number: int) -> bytes:
        """The bytes of that number."""
        start, end = self._ends[number], self._ends[number + 1]
        written = self._ends[-1] - len(self._waiting)
        if start >= written:
            return bytes(self._waiting[start - written : end - written])
        try:
            return os.pread(self._file.fileno(), end - start, start)
        except OSError as error:
            raise DiskFailure(f"bytes put aside could not be read back: {error.strerror}") from None

    def append_text(self, text: str) -> None:
        """Put a text aside, lone surrogates too."""
        self.append(text.encode("utf-8", "surrogatepass"))

    def text(self, number: int) -> str:
        """The text of that number."""
        return self.read(number).decode("utf-8", "surrogatepass")

    def mapped(self, dtype: npt.DTypeLike, columns: int) -> npt.NDArray[Any]:
        """All of it as rows of an array that the kernel pages in: of use where every string has the same length."""
        self._write()
        if not len(self):
            return np.empty((0, columns), dtype=dtype)
        return np.memmap(self._file, dtype=dtype, mode="r", shape=(len(self), columns))

    def _write(self) -> None:
        try:
            left = memoryview(self._waiting)
            while left:
                left = left[self._file.write(left) :]
            left.release()
        except OSError as error:
            raise DiskFailure(
                f"no room to put texts aside: {error.strerror}; free some space, then try again"
            ) from None
        self._waiting = bytearray()
