"""Whether a batch exists whose creation brought no reply: by our own id in its metadata, or by its input file.

The file was uploaded for this one batch, so it tells as much where a vendor keeps no metadata.
"""

from __future__ import annotations

from synth_async.endpoint.batch.client import BatchClient
from synth_async.endpoint.batch.record import METADATA_KEY, OpenBatch
from synth_async.endpoint.batch.states import BatchView

__all__ = ["find_batch", "is_batch_of"]


def is_batch_of(view: BatchView, batch: OpenBatch) -> bool:
    """Whether a listed batch is this one."""
    if (view.metadata or {}).get(METADATA_KEY) == batch.id:
        return True
    return batch.file_id is not None and view.input_file == batch.file_id


async def find_batch(client: BatchClient, batch: OpenBatch) -> BatchView | None:
    """The batch as the account's list shows it, page by page; None where it is on none."""
    after: str | None = None
    while True:
        views, after = await client.page(after)
        found = next((view for view in views if is_batch_of(view, batch)), None)
        if found is not None or after is None:
            return found
