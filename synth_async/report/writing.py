"""`report.html` written from the files of a run, by the run itself or by whoever asks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from synth_async.errors import UsageError
from synth_async.report.follow import Follower
from synth_async.report.metrics import state_of
from synth_async.report.page import report_page
from synth_async.report.timeline import Timeline
from synth_async.store.run_folder import RunFolder, read_json, write_atomically

__all__ = ["ReportWriter", "read_timeline"]


def read_timeline(folder: RunFolder, *, until_s: float | None = None) -> Timeline:
    """The run over time, as far as its file can be read: without it the charts are empty, and nothing else is."""
    try:
        found = read_json(folder.timeline)
    except UsageError:
        found = None
    return Timeline.from_json(found, until_s=until_s)


class ReportWriter:
    """Reads a run's files as they grow, and writes the page of what has been read."""

    def __init__(self, folder: RunFolder) -> None:
        self.follower = Follower(folder.dataset, folder.rejects)
        self._folder = folder

    @property
    def behind_bytes(self) -> int:
        """What of the files has not been read yet."""
        return self.follower.behind_bytes

    def read_on(self, most_bytes: int | None = None) -> bool:
        """Read what is new, about so many bytes of each file; whether that was all."""
        return self.follower.read_on(most_bytes)

    def write(self, metrics: Mapping[str, Any] | None, timeline: Timeline, state: str | None = None) -> None:
        """Write the page; without a `state` it is told from the counts. Raises `DiskFailure`."""
        manifest = read_json(self._folder.manifest) or {}
        name = str(manifest.get("name", self._folder.path.name))
        page = report_page(
            self.follower, manifest, metrics or None, timeline, name=name, state=state or state_of(metrics)
        )
        write_atomically(self._folder.page, page, by=f".{os.getpid()}")
