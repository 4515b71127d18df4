"""The book of batches, kept in the journal: see `endpoint.batch.record`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import anyio.to_thread

from synth_async.config.models import Config
from synth_async.endpoint.batch.lines import key_and_attempt
from synth_async.endpoint.batch.record import OpenBatch
from synth_async.errors import UsageError
from synth_async.pipeline.batch_frames import end_frame, intent_frame, note_frame
from synth_async.pipeline.frames import batched_answer_frame
from synth_async.store.journal import Journal

__all__ = ["JournalBook", "refuse_strays"]


class JournalBook:
    """Writes what becomes of batches; `batches` are those that earlier processes left open."""

    def __init__(self, journal: Journal, batches: Mapping[str, OpenBatch]) -> None:
        self._journal = journal
        self._batches = batches

    def __repr__(self) -> str:
        return f"<JournalBook left_open={len(self._batches)} {self._journal!r}>"

    def open_batches(self, endpoint: str) -> Sequence[OpenBatch]:
        """See `BatchBook`."""
        return [batch for batch in self._batches.values() if batch.endpoint == endpoint]

    async def intend(self, batch: OpenBatch) -> None:
        """See `BatchBook`."""
        self._journal.append(intent_frame(batch))
        await anyio.to_thread.run_sync(self._journal.sync)

    async def note(self, batch: OpenBatch) -> None:
        """See `BatchBook`."""
        self._journal.append(note_frame(batch))
        await anyio.to_thread.run_sync(self._journal.sync)

    def answered(self, batch: OpenBatch, custom_id: str, body: bytes) -> int:
        """See `BatchBook`."""
        found = key_and_attempt(custom_id)
        if found is None:
            raise AssertionError(f"a line of ours goes by its key: {custom_id}")
        key, attempt = found
        stage = batch.pending[custom_id]
        return self._journal.append(batched_answer_frame(key, stage, attempt, batch.endpoint, batch.id, body))

    def answer_at(self, place: int) -> bytes:
        """See `BatchBook`."""
        return self._journal.read(place).body or b""

    def end(self, batch: OpenBatch, status: str) -> None:
        """See `BatchBook`."""
        self._journal.append(end_frame(batch, status))


def refuse_strays(config: Config, batches: Mapping[str, OpenBatch], *, folder: object) -> None:
    """Raise `UsageError` where a batch is under way that this config would not come back to: it would be paid twice."""
    for batch in batches.values():
        if batch.is_exported:
            raise UsageError(
                f"{folder}: {len(batch.pending):,} requests were exported: bring their answers with"
                f" `synth-async import-responses`, or give them up with `synth-async cancel {folder}`"
            )
        is_used = batch.endpoint in config.used_endpoints and config.endpoints[batch.endpoint].mode == "batch"
        if batch.file_id is not None and not is_used:
            raise UsageError(
                f"{folder}: a batch of endpoint {batch.endpoint} is under way with {len(batch.pending):,} requests:"
                f" put `mode: batch` back to take its answers, or end it with `synth-async cancel {folder}`"
            )
