"""The journal frames of batches. Their key is our own id of the batch.

batch-intent   what is about to be sent: endpoint, where to, the lines by stage, the lease; before anything is sent
batch          what has become known since: the id of its input file; the id of the batch
batch-end      all that it brought is in the journal
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any

from synth_async.endpoint.batch.record import OpenBatch
from synth_async.records import Stage
from synth_async.store.frames import Frame

__all__ = ["BATCH", "BATCH_END", "BATCH_INTENT", "end_frame", "intent_frame", "note_batch", "note_frame"]

BATCH_INTENT = "batch-intent"
BATCH = "batch"
BATCH_END = "batch-end"


def intent_frame(batch: OpenBatch) -> Frame:
    """The frame of a batch that is about to be sent."""
    # Runs of one stage: a failed batch names its lines by their number in the file.
    runs = groupby(batch.pending.items(), key=itemgetter(1))
    lines = [[stage, [custom_id for custom_id, _ in run]] for stage, run in runs]
    fields: dict[str, Any] = {"endpoint": batch.endpoint, "address": batch.address, "tokens": batch.tokens}
    if batch.lease is not None:
        fields["lease"] = batch.lease
    return Frame(batch.id, BATCH_INTENT, {**fields, "lines": lines})


def note_frame(batch: OpenBatch) -> Frame:
    """The frame of what is known of a batch."""
    known = {"file": batch.file_id, "batch": batch.batch_id}
    return Frame(batch.id, BATCH, {name: value for name, value in known.items() if value})


def end_frame(batch: OpenBatch, status: str) -> Frame:
    """The frame of the end of a batch, and how many of its lines brought no answer."""
    return Frame(batch.id, BATCH_END, {"status": status, "unanswered": len(batch.pending)})


def note_batch(batches: dict[str, OpenBatch], kind: str, fields: Mapping[str, Any]) -> None:
    """Take a frame of a batch into account: `batches` are the open ones by our own id."""
    own_id = fields["k"]
    if kind == BATCH_INTENT:
        pending = {name: Stage(stage) for stage, names in fields["lines"] for name in names}
        batches[own_id] = OpenBatch(
            own_id,
            fields["endpoint"],
            pending,
            len(pending),
            fields["tokens"],
            fields.get("lease"),
            is_adopted=True,
            said="left open",
            address=fields["address"],
        )
    elif kind == BATCH_END:
        batches.pop(own_id, None)
    elif (batch := batches.get(own_id)) is not None:
        batch.file_id = fields.get("file", batch.file_id)
        batch.batch_id = fields.get("batch", batch.batch_id)
