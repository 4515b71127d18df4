"""The report of what was dropped: one line per kept document that has duplicates.

    {"kept": {"file", "line", "id"}, "duplicates": [{"file", "line", "id", "similarity", "exact"}, ...]}

Lines count from 1; `id` is there where the row has one. Clusters come in the order of what they were kept for, and the
duplicates of one in the order they were met. Rows wait on disk: in memory a duplicate takes 12 bytes.
"""

from __future__ import annotations

import json
from array import array
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from synth_async.dataset.line_files import Spool

__all__ = ["Clusters", "Place", "Sink"]


class Sink(Protocol):
    """What bytes are written to."""

    def write(self, content: bytes, /) -> object: ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where a document stands: its file as it was named, its line from 1, its own id."""

    file: str
    line: int
    id: str | None

    def as_json(self, **more: object) -> bytes:
        """The place as it stands in a report, with what else is told of it."""
        row = {"file": self.file, "line": self.line} | ({} if self.id is None else {"id": self.id}) | more
        # An id may hold a lone surrogate and a file name any byte: escaped, both are valid JSON.
        return json.dumps(row).encode()


class Clusters:
    """Collects duplicates by the number of the kept document that they repeat, and writes them grouped."""

    def __init__(self, folder: Path | None) -> None:
        self._rows = Spool(folder)
        self._kept = array("I")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rows.__exit__(kind, error, trace)

    def add(self, number: int, kept: bytes, duplicate: Place, similarity: float, *, exact: bool) -> None:
        """A duplicate of the kept document of that number and place (as JSON); `similarity` from 0 to 1."""
        self._rows.append(kept + b"\n" + duplicate.as_json(similarity=round(similarity, 4), exact=exact))
        self._kept.append(number)

    def write(self, sink: Sink) -> None:
        """All clusters, by the numbers of what they were kept for."""
        order = np.argsort(np.array(self._kept, dtype=np.uint32), kind="stable").tolist()
        for _, rows in groupby(order, key=self._kept.__getitem__):
            for index, row in enumerate(rows):
                kept, duplicate = self._rows.read(row).split(b"\n")
                sink.write(b'{"kept":' + kept + b',"duplicates":[' if index == 0 else b",")
                sink.write(duplicate)
            sink.write(b"]}\n")
