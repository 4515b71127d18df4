"""A batch as the journal knows it, and the book that it is written into.

    intend   before anything is sent: our own id, and which lines it will hold
    note     its input file was uploaded; then: it was created
    answered one line's answer, before anything looks at it
    end      all that it brought is in the journal

A kill between any two of them leaves a batch that is taken up from there. Without a file it was never created; with a
file and no id it may have been, and is looked for by our id in its metadata or by its file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from synth_async.errors import EndpointRefused
from synth_async.records import Stage

__all__ = ["EXPORTED", "METADATA_KEY", "BatchBook", "BatchGone", "OpenBatch"]

METADATA_KEY = "synth_async_batch"
"""Under which a batch's metadata holds our own id."""

EXPORTED = "exported:"
"""Begins the file id of a batch that was written to a file for somebody to run."""


class BatchGone(EndpointRefused):
    """The endpoint does not know a batch, or a file of it, that it was given: another account, or too long ago."""


@dataclass(slots=True)
class OpenBatch:
    """A batch that is not ended. `pending` maps each line without an answer to its stage, in the file's order.

    `tokens` is what its prompts are estimated at, `lease` the number of its lease in the budget. `is_adopted`: an
    earlier process began it, and a creation of it may have been under way. `looks`: how often this one asked for it.
    """

    id: str
    endpoint: str
    pending: dict[str, Stage]
    lines: int
    tokens: int
    lease: int | None = None
    file_id: str | None = None
    batch_id: str | None = None
    is_adopted: bool = False
    said: str = "gathered"
    looks: int = 0
    counts: tuple[int, int] = (0, 0)
    address: Mapping[str, object] = field(default_factory=dict)
    """Where it was sent: `base_url`, the variable of the key, headers and query, so that it can be cancelled."""

    @property
    def is_exported(self) -> bool:
        return self.file_id is not None and self.file_id.startswith(EXPORTED)

    @property
    def metadata(self) -> dict[str, str]:
        """What finds it again in the list of all batches."""
        return {METADATA_KEY: self.id}

    def as_json(self) -> dict[str, object]:
        """For `metrics.json` and `status`."""
        done, failed = self.counts
        return {
            "endpoint": self.endpoint,
            "batch": self.batch_id,
            "status": self.said,
            "lines": self.lines,
            "completed": done,
            "failed": failed,
        }


class BatchBook(Protocol):
    """What a batch endpoint writes, and what it can read again. The pipeline keeps it in the journal."""

    def open_batches(self, endpoint: str) -> Sequence[OpenBatch]:
        """The batches of an endpoint that earlier processes left open."""
        ...

    async def intend(self, batch: OpenBatch) -> None:
        """A batch is about to be sent; it is on the disk when this returns."""
        ...

    async def note(self, batch: OpenBatch) -> None:
        """Its file or its id has become known; it is on the disk when this returns."""
        ...

    def answered(self, batch: OpenBatch, custom_id: str, body: bytes) -> int:
        """An answer came; returns the place of it."""
        ...

    def answer_at(self, place: int) -> bytes:
        """The body of an answer."""
        ...

    def end(self, batch: OpenBatch, status: str) -> None:
        """Nothing more will be read from it."""
        ...
