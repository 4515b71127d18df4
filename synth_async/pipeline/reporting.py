"""What a run leaves for its reader besides the counts: `timeline.json` and `report.html`, while it goes and at its end.

The page is a favour. It is made in a thread of its own out of the files that the run has written; what goes wrong with
it is told once and ends nothing, and on a full disk it is not written. After the first page it takes about one per cent
of the run's CPU time while the run goes, whatever there is to read: after a resume it catches up in slices.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.to_thread
import orjson

from synth_async.endpoint.serving import ServingEndpoint
from synth_async.errors import DiskFailure, Interrupted, SynthAsyncError
from synth_async.report.metrics import Tally
from synth_async.report.timeline import WHOLE_RUN, Series, Timeline
from synth_async.report.writing import ReportWriter, read_timeline
from synth_async.store.run_folder import RunFolder, write_atomically

__all__ = ["Reporting", "totals_of"]

_TICK_S = 1.0
_PAGE_EVERY_S = 10.0
_RARELY_S = 300.0
_SHARE = 0.01
"""Of the run's CPU time. One that mostly waits uses little of that, and gets a page every five minutes all the same."""

_SLICE_BYTES = 2 << 20
_ROOM_BYTES = 16 << 20
"""On a disk with less than that left, what room there is belongs to the answers."""

_MOST_BEHIND_BYTES = 32 << 20
"""What an interrupted run still reads for its page, about a second's worth; beyond that the page stays as it was."""


def totals_of(tally: Tally, endpoints: Mapping[str, ServingEndpoint]) -> dict[Series, float]:
    """What has been counted so far, by what the timeline calls it."""
    totals: dict[Series, float] = {
        (WHOLE_RUN, "accepted"): tally.accepted,
        (WHOLE_RUN, "rejected"): sum(tally.rejected.values()),
    }
    for name, endpoint in endpoints.items():
        counts, limits = endpoint.counts, endpoint.limits
        totals[name, "requests"] = counts.answered
        totals[name, "tokens"] = counts.charged_tokens
        totals[name, "http_429"] = counts.http_429
        totals[name, "failures"] = sum(counts.failures.values())
        totals[name, "paused_s"] = max(0.0, limits.paused_s - limits.pause_left_s)
    return totals


class Reporting:
    """The timeline and the page of one run. `elapsed_s` tells the seconds of it so far, `on_note` is told trouble."""

    def __init__(
        self, folder: RunFolder, tally: Tally, elapsed_s: Callable[[], float], on_note: Callable[[str], None]
    ) -> None:
        self.timeline = read_timeline(folder, until_s=tally.earlier_elapsed_s)
        self._folder = folder
        self._tally = tally
        self._elapsed_s = elapsed_s
        self._on_note = on_note
        self._endpoints: Mapping[str, ServingEndpoint] = {}
        self._writer = ReportWriter(folder)
        self._thread = ThreadPoolExecutor(1, "report")
        self._spent_s = 0.0
        self._has_told = False

    def begin(self, endpoints: Mapping[str, ServingEndpoint]) -> None:
        """Requests will be sent to these endpoints from here on."""
        self._endpoints = endpoints
        self.timeline.begin(self._elapsed_s(), totals_of(self._tally, endpoints))

    async def keep(self, metrics: Callable[[], Mapping[str, Any]]) -> None:
        """Note what happens every second, and write the page now and then, until cancelled."""
        written_at = worked_at = anyio.current_time()
        begun_cpu_s = time.process_time()
        while True:
            await anyio.sleep(_TICK_S)
            self._note()
            now = anyio.current_time()
            is_cheap = self._spent_s <= _SHARE * (time.process_time() - begun_cpu_s)
            if now - written_at < _PAGE_EVERY_S or not (is_cheap or now - worked_at >= _RARELY_S):
                continue
            worked_at = now
            if await self._in_thread(self._writer.read_on, _SLICE_BYTES):
                await self._write_page(metrics(), "running")
                written_at = now

    def _note(self) -> None:
        if self._endpoints:
            self.timeline.note(self._elapsed_s(), totals_of(self._tally, self._endpoints))
            known = {name: endpoint.limits.per_minute for name, endpoint in self._endpoints.items()}
            self.timeline.limits |= {name: limits for name, limits in known.items() if limits}

    async def write_timeline(self) -> None:
        """`timeline.json` up to now; raises `DiskFailure`."""
        self._note()
        content = orjson.dumps(self.timeline.as_json()) + b"\n"
        await anyio.to_thread.run_sync(write_atomically, self._folder.timeline, content)

    async def finish(self, metrics: Mapping[str, Any], stopped_by: SynthAsyncError | None) -> None:
        """The last page, of all that there is; on a full disk, or for somebody in a hurry and far behind, none."""
        is_hurried = isinstance(stopped_by, Interrupted) and self._writer.behind_bytes > _MOST_BEHIND_BYTES
        if isinstance(stopped_by, DiskFailure) or is_hurried:
            return
        await self._in_thread(self._writer.read_on, None)
        await self._write_page(metrics, None)

    def close(self) -> None:
        """End the thread, when it has done what it was asked."""
        self._thread.shutdown()

    async def _write_page(self, metrics: Mapping[str, Any], state: str | None) -> None:
        if _free_bytes(self._folder) >= _ROOM_BYTES:
            # As the file has it, so that a page made from the files later is the same, byte for byte.
            timeline = Timeline.from_json(orjson.loads(orjson.dumps(self.timeline.as_json())))
            await self._in_thread(self._writer.write, metrics, timeline, state)

    async def _in_thread(self, work: Callable[..., Any], *arguments: object) -> Any:
        """What a piece of work comes to; None where it failed, which is told and no more: the run goes on."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, self._timed, work, *arguments)
        await asyncio.wait([future])
        if (error := future.exception()) is None:
            return future.result()
        if not self._has_told:
            self._has_told = True
            self._on_note(f"{self._folder.page.name} could not be written: {type(error).__name__}: {error}")
        return None

    def _timed(self, work: Callable[..., Any], *arguments: object) -> Any:
        begun_s = time.thread_time()
        try:
            return work(*arguments)
        finally:
            self._spent_s += time.thread_time() - begun_s


def _free_bytes(folder: RunFolder) -> int:
    disk = os.statvfs(folder.path)
    return disk.f_bavail * disk.f_frsize
