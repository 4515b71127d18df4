"""The order in which lines of many files are merged: by what they say, and by nothing else.

Lines are ordered by the hash of the normalised text that is compared, then by the hash of their bytes. So the merged
dataset is the same whichever way the lines are spread over files and in whatever order the files are named, and a
further run changes nothing about the order of the others.
"""

from __future__ import annotations

from array import array
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from synth_async.dataset.line_files import Line, Spool
from synth_async.stages.dedup import Sketch
from synth_async.stages.dedup.signatures import ENTRIES, Signature

__all__ = ["LineTable", "Order"]

Order = npt.NDArray[np.int64]
"""Numbers of lines, as they were read, in the order in which they are merged."""

_EXACT_BYTES = 16


class LineTable:
    """All lines of a merge, numbered from 0 as they were read: 64 bytes each in memory, the rest waits on disk."""

    def __init__(self, folder: Path | None) -> None:
        self.contents = Spool(folder)
        self.texts = Spool(folder)
        self._signatures = Spool(folder)
        self.files = array("I")
        self.numbers = array("Q")
        self.lengths = array("I")
        self._exact = bytearray()
        self._digests = array("Q")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for spool in (self.contents, self.texts, self._signatures):
            spool.__exit__(kind, error, trace)

    def __len__(self) -> int:
        return len(self.files)

    def append(self, line: Line, sketch: Sketch) -> None:
        """One more line. Its line end is not its own: lines of several files come to stand in one."""
        content = line.content.rstrip(b"\r\n")
        self.contents.append(content)
        self.texts.append_text(sketch.text)
        self._signatures.append(bytes(4 * ENTRIES) if sketch.signature is None else sketch.signature.tobytes())
        self.files.append(line.file)
        self.numbers.append(line.number)
        self.lengths.append(len(sketch.text))
        self._exact += sketch.exact
        self._digests.append(int.from_bytes(blake2b(content, digest_size=8).digest()))

    def signatures(self) -> Signature:
        """The signatures of all lines, in rows that are read from disk as they are looked at."""
        return self._signatures.mapped(np.uint32, ENTRIES)

    def order(self) -> Order:
        """The order of all lines. Lines of the same bytes stand in the order in which they were read."""
        halves = self._halves()
        digests = np.array(self._digests, dtype=np.uint64)
        return np.lexsort((digests, halves[:, 1], halves[:, 0]))

    def is_first(self, order: Order) -> npt.NDArray[np.bool_]:
        """Whether each line of the order is the first of those whose texts are equal; they stand together."""
        halves = self._halves()[order]
        first = np.ones(len(order), dtype=np.bool_)
        first[1:] = (halves[1:] != halves[:-1]).any(axis=1)
        return first

    def _halves(self) -> npt.NDArray[np.uint64]:
        exact = np.frombuffer(bytes(self._exact), dtype=">u8").reshape(-1, _EXACT_BYTES // 8)
        return exact.astype(np.uint64)
