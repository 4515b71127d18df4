"""One run from its config to its folder: lock, manifest, journal, replay, graph, and what is written at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import orjson

from synth_async import __version__
from synth_async.config import Config, LoadedConfig, ResolvedEndpoint
from synth_async.endpoint.serving import ServingEndpoint
from synth_async.errors import DiskFailure, Interrupted, SynthAsyncError
from synth_async.pipeline.batch_book import JournalBook, refuse_strays
from synth_async.pipeline.budget import Budget
from synth_async.pipeline.endpoints import BatchExport, Connect, connected_here, open_endpoints
from synth_async.pipeline.gauges import Gauges
from synth_async.pipeline.graph import Graph
from synth_async.pipeline.journal_state import JournalState, restored_budget, scan
from synth_async.pipeline.kept import KeptExamples
from synth_async.pipeline.ledger import Ledger
from synth_async.pipeline.manifest import check_manifest, decision_fingerprint
from synth_async.pipeline.replay import Replay, goes_on, reopen_failed
from synth_async.pipeline.reporting import Reporting
from synth_async.pipeline.watch import patience_s, watch_for_sleep, watch_for_stall
from synth_async.records import DropReason
from synth_async.report.metrics import Tally, coverage_json
from synth_async.stages.curation import Curation
from synth_async.stages.dedup import PACKED_BYTES
from synth_async.stages.few_shot import read_examples
from synth_async.stages.forecast import Forecast
from synth_async.stages.measured import RecentRate
from synth_async.stages.planner import Planner
from synth_async.stages.task_plan import TaskPlan, task_plan
from synth_async.stages.topics import TopicPool
from synth_async.store.journal import Journal, open_journal
from synth_async.store.jsonl import ShadowFile
from synth_async.store.run_folder import RunFolder, RunLock, read_json, space_warning, write_atomically
from synth_async.store.sidecar import Sidecar, open_sidecar

__all__ = ["Interrupted", "Run", "RunOptions", "Snapshot"]

_SYNC_S = 0.1
_TELL_S = 0.5
_METRICS_S = 2.0


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run goes on: `offline` sends nothing, `accept_change` lets a changed generation into the same folder.

    `retry_failed` asks again for what the endpoint refused for good.
    """

    offline: bool = False
    accept_change: bool = False
    retry_failed: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Where a run stands, for a listener. Shares are of the endpoint's limits over this process's life.

    `expected` is what is left to do, None before enough was measured; `recent` the rate of the last minute.
    """

    tally: Tally
    target: int
    elapsed_s: float
    in_flight: int
    utilisation: Mapping[str, Mapping[str, float | None]]
    waiting_for: str
    http_429: int
    recent: RecentRate
    expected: Forecast | None


@dataclass(slots=True)
class Run:
    """A run that can be driven once. `on_progress` is told twice a second; `interrupt` may be called at any time.

    With `export` the requests of examples and verdicts are written to files, and the run ends with `Exported`.
    `on_endpoints` gets the endpoints as soon as they are open, so that one can listen to their exchanges; `connect`
    makes their connections. `has_begun` once the folder is ours and the config fits what is in it.
    """

    loaded: LoadedConfig
    folder: RunFolder
    resolved: Mapping[str, ResolvedEndpoint]
    options: RunOptions = field(default_factory=RunOptions)
    has_begun: bool = False
    on_progress: Callable[[Snapshot], None] = lambda _: None
    on_note: Callable[[str], None] = lambda _: None
    on_endpoints: Callable[[Mapping[str, ServingEndpoint]], None] = lambda _: None
    connect: Connect = connected_here
    export: BatchExport | None = None
    tally: Tally = field(default_factory=Tally)
    metrics: dict[str, Any] = field(default_factory=dict)
    _graph: Graph | None = None
    _gauges: Gauges = field(init=False)
    _stop_error: SynthAsyncError | None = None
    _started_at: float = 0.0
    _budget: Budget | None = None
    _reporting: Reporting | None = None

    def __post_init__(self) -> None:
        self._gauges = Gauges(self.config, self.tally, {}, started_s=0.0)

    @property
    def config(self) -> Config:
        return self.loaded.config

    def interrupt(self, error: SynthAsyncError) -> None:
        """Stop issuing, finish what is in flight; called a second time: do not wait for that either."""
        if self._graph is None:
            self._stop_error = self._stop_error or error
        elif self._graph.stop_error is None:
            self._graph.stop(error)
        else:
            self._graph.abandon()

    async def drive(self) -> None:
        """Go on until the target is met; raises what stopped the run early. The folder can be resumed in every case."""
        self._started_at = anyio.current_time()
        self.folder.create()
        with ExitStack() as stack:
            stack.enter_context(RunLock(self.folder.lock))
            journal = open_journal(self.folder.path, fsync=self.config.fsync, writer=f"synth-async {__version__}")
            stack.callback(journal.close)
            plan = task_plan(self.loaded)
            state = scan(journal, fingerprint=decision_fingerprint(self.config), note_plan=plan.note)
            accept_change = self.options.accept_change
            is_changed = check_manifest(self.folder, self.config, journal, state.manifest, accept_change=accept_change)
            self.has_begun = True
            if self.options.retry_failed:
                self._reopen_failed(journal, state)
            dataset = stack.enter_context(ShadowFile(self.folder.dataset))
            rejects = stack.enter_context(ShadowFile(self.folder.rejects))
            curation = Curation(self.config, read_examples(self.loaded))
            kept = KeptExamples(curation, self._open_sidecar(stack, state, curation))
            await self._go_on(journal, dataset, rejects, state, plan, curation, kept, is_changed=is_changed)

    def _open_sidecar(self, stack: ExitStack, state: JournalState, curation: Curation) -> Sidecar | None:
        """The sidecar of the dedup index, for a run that has an index to fill."""
        if curation.stamp is None or not goes_on(state, self.config):
            return None
        last = max((place for _, place in state.decisions.acceptances()), default=0)
        sidecar = open_sidecar(self.folder.sidecar, stamp=curation.stamp, record_bytes=PACKED_BYTES, last_place=last)
        stack.callback(sidecar.close)
        if sidecar.restored.trouble is not None:
            self.on_note(f"{sidecar.restored.trouble}; the index is computed from the texts")
        return sidecar

    def _reopen_failed(self, journal: Journal, state: JournalState) -> None:
        if not state.stale and state.accepted >= self.config.target:
            self.on_note("the target is met: nothing that failed is asked again")
            return
        count = reopen_failed(journal, state)
        self.on_note(f"{count} requests that were refused for good are open again")

    async def _go_on(
        self,
        journal: Journal,
        dataset: ShadowFile,
        rejects: ShadowFile,
        state: JournalState,
        plan: TaskPlan,
        curation: Curation,
        kept: KeptExamples,
        *,
        is_changed: bool,
    ) -> None:
        config, context = self.config, self.loaded.context or ""
        ledger = Ledger(config, journal, dataset, rejects, fingerprint=decision_fingerprint(config))
        self.tally = ledger.tally
        earlier = read_json(self.folder.metrics) or {}
        self._restore_counts(earlier)
        self._gauges = Gauges(config, self.tally, earlier, started_s=self._started_at)
        planner = Planner(config)
        replay = Replay(config, context, state=state, ledger=ledger, curation=curation, planner=planner, kept=kept)
        # Telling near-repeats apart takes an index of all topics, which a finished run has no use for.
        near = config.topics.file is None and replay.goes_on
        pool = TopicPool(near=near, evolves=config.topics.evolve)
        replay.restore_plan(pool)
        replay.run(offline=self.options.offline)
        planner.backlog = len(replay.backlog)
        if is_changed:
            planner.forget_yield()  # what the earlier prompts brought says nothing about these
        self.tally.topics = len(pool)
        self._tell_what_was_found(journal, dataset, rejects, state_is_new=state.is_empty)
        if planner.target_is_met or self.options.offline:
            is_news = dataset.rewritten or rejects.rewritten or self.tally.funnel() != _funnel_of(earlier)
            await self._end_at_once(planner, is_news=is_news)
            return
        if warning := space_warning(self.folder, accepted=planner.accepted, target=config.target):
            self.on_note(warning)
        ledger.budget = self._budget = restored_budget(config, journal, state)
        try:
            refuse_strays(config, state.batches, folder=self.folder.path)
            book = JournalBook(journal, state.batches)
            opened = open_endpoints(config, self.resolved, book, export=self.export, connect=self.connect)
            async with opened as endpoints:
                self._gauges.endpoints = endpoints
                for name, endpoint in endpoints.items():
                    endpoint.on_note = self.on_note
                    endpoint.purse = self._budget.purse(name) if self._budget is not None else None
                self.on_endpoints(endpoints)
                self._graph = Graph(
                    config,
                    context,
                    endpoints=endpoints,
                    planner=planner,
                    plan=plan,
                    listed_topics=self.loaded.topics,
                    pool=pool,
                    curation=curation,
                    kept=kept,
                    ledger=ledger,
                    replay=replay,
                )
                await self._run_graph(self._graph, journal, planner)
                for endpoint in endpoints.values():
                    await endpoint.finish()
        finally:
            with anyio.CancelScope(shield=True):
                await self._write_metrics(planner)
                await self._finish_report(self._graph.stop_error if self._graph is not None else None)

    async def _end_at_once(self, planner: Planner, *, is_news: bool) -> None:
        """There is nothing to send; counts and page are written where they say something new, or are not there."""
        if is_news:
            await self._write_metrics(planner)
        self.metrics = read_json(self.folder.metrics) or {}
        if is_news or not self.folder.page.exists():
            await self._finish_report(None)

    async def _run_graph(self, graph: Graph, journal: Journal, planner: Planner) -> None:
        if self._stop_error is not None:
            graph.stop(self._stop_error)
        reporting = self._open_reporting
        reporting.begin(self._gauges.endpoints)
        async with anyio.create_task_group() as upkeep:
            upkeep.start_soon(self._keep_durable, graph, journal)
            upkeep.start_soon(self._tell)
            upkeep.start_soon(self._keep_metrics, graph, planner)
            upkeep.start_soon(reporting.keep, lambda: self.metrics)
            upkeep.start_soon(watch_for_sleep, self._after_sleep)
            upkeep.start_soon(watch_for_stall, self._look, partial(self._tell_stall, graph), patience_s(self.config))
            stopped_by = await graph.run()
            upkeep.cancel_scope.cancel()
        self.on_progress(self.snapshot())
        if stopped_by is not None:
            raise stopped_by

    # --- upkeep ----------------------------------------------------------------------------------

    async def _keep_durable(self, graph: Graph, journal: Journal) -> None:
        """Force what was appended to the disk every 100 ms, in a thread: this bounds what a power loss takes."""
        while self.config.fsync == "100ms":
            await anyio.sleep(_SYNC_S)
            try:
                await anyio.to_thread.run_sync(journal.sync)
            except DiskFailure as error:
                graph.stop(error)
                return

    async def _tell(self) -> None:
        while True:
            self._gauges.tick(anyio.current_time())
            self.on_progress(self.snapshot())
            await anyio.sleep(_TELL_S)

    async def _keep_metrics(self, graph: Graph, planner: Planner) -> None:
        while True:
            await anyio.sleep(_METRICS_S)
            try:
                await self._write_metrics(planner)
            except DiskFailure as error:
                graph.stop(error)
                return

    @property
    def _open_reporting(self) -> Reporting:
        if self._reporting is None:
            raise AssertionError("a run is reported on when its counts are restored")
        return self._reporting

    async def _finish_report(self, stopped_by: SynthAsyncError | None) -> None:
        await self._open_reporting.finish(self.metrics, stopped_by)
        self._open_reporting.close()

    def _after_sleep(self, slept_s: float) -> None:
        self.on_note(f"nothing ran here for {slept_s:.0f} s; what finds no answer now is sent anew")
        for endpoint in self._gauges.endpoints.values():
            endpoint.note_slept()

    def _look(self) -> tuple[object, bool]:
        """(what has happened so far, whether it is known why nothing does)."""
        tally = self.tally
        decided = (tally.accepted, sum(tally.rejected.values()))
        sent = (self._gauges.attempts, self._gauges.answered)
        return (tally.topics, tally.asked, decided, sent), bool(self._gauges.waiting_for)

    def _tell_stall(self, graph: Graph, stalled_s: float) -> None:
        endpoints = " ".join(repr(endpoint) for endpoint in self._gauges.endpoints.values())
        self.on_note(f"nothing has happened for {stalled_s:.0f} s: {graph!r} {endpoints}")

    def snapshot(self) -> Snapshot:
        """Where the run stands now."""
        elapsed_s = anyio.current_time() - self._started_at
        gauges = self._gauges
        return Snapshot(
            self.tally,
            self.config.target,
            self._elapsed_s(),
            gauges.in_flight,
            gauges.utilisation(elapsed_s),
            gauges.waiting_for,
            self.tally.earlier_http_429 + gauges.http_429,
            gauges.recent,
            gauges.expected(),
        )

    def _elapsed_s(self) -> float:
        """Seconds of all the processes of the run together."""
        return self.tally.earlier_elapsed_s + anyio.current_time() - self._started_at

    async def _write_metrics(self, planner: Planner) -> None:
        elapsed_s = anyio.current_time() - self._started_at
        gauges = self._gauges
        self.metrics = self.tally.as_json(
            attempts=gauges.attempts,
            http_429=gauges.http_429,
            elapsed_s=elapsed_s,
            more={
                "target": self.config.target,
                "utilisation": gauges.utilisation(elapsed_s),
                **({"budget": self._budget.as_json()} if self._budget is not None else {}),
                "coverage": coverage_json(planner.coverage.standings(), planner.accepted),
                "undecided": planner.undecided,
                "waiting_for": gauges.waiting_for,
                "batches": gauges.batches,
                "failures": gauges.failures,
                **gauges.as_json(),
            },
        )
        content = orjson.dumps(self.metrics, option=orjson.OPT_INDENT_2) + b"\n"
        await anyio.to_thread.run_sync(write_atomically, self.folder.metrics, content)
        if self._gauges.endpoints:
            await self._open_reporting.write_timeline()

    def _restore_counts(self, earlier: Mapping[str, Any]) -> None:
        """Counts that the journal does not hold go on from the last metrics; without that file they begin anew."""
        self.tally.earlier_attempts = earlier.get("attempts", 0)
        self.tally.earlier_http_429 = earlier.get("http_429", 0)
        self.tally.earlier_elapsed_s = earlier.get("elapsed_s", 0.0)
        self._reporting = Reporting(self.folder, self.tally, self._elapsed_s, self.on_note)

    def _tell_what_was_found(
        self, journal: Journal, dataset: ShadowFile, rejects: ShadowFile, *, state_is_new: bool
    ) -> None:
        if not state_is_new:
            tally = self.tally
            self.on_note(f"going on: {tally.accepted} accepted, {sum(tally.rejected.values())} dropped before")
        if journal.torn_bytes:
            self.on_note(f"the journal ended in {journal.torn_bytes} torn bytes; they were set aside in a .torn file")
        if missing := journal.missing_segments:
            self.on_note(f"{', '.join(missing)} missing from the folder; what was in there is asked for again")
        if journal.damaged_frames:
            self.on_note(
                f"{journal.damaged_frames} damaged journal lines were skipped; what they held is asked for again"
            )
        for file in (dataset, rejects):
            if file.rewritten and not state_is_new:
                self.on_note(f"{file.path.name} was brought in line with the journal")
        if pending := self.tally.rejected[DropReason.PENDING_JUDGE]:
            self.on_note(f"{pending} examples need a verdict that they never had: run without --offline to ask for it")


def _funnel_of(metrics: Mapping[str, Any]) -> dict[str, int]:
    return {step: metrics.get(step, -1) for step in Tally().funnel()}
