"""The judge on a file: what is missing is asked for and journaled, then the scored file is written from the journal.

The journal stands beside the scored file, in `NAME.journal`. The same command goes on after any stop, and asks again
for nothing that was answered: another `min_score`, or another way to combine verdicts, costs no request.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from synth_async import __version__
from synth_async.config import Config, LoadedConfig, ResolvedEndpoint
from synth_async.config.models import Judge
from synth_async.dataset.judged_rows import judgeable_rows, scored_row
from synth_async.dataset.line_files import refuse_overwriting, require_inputs
from synth_async.dataset.sinks import JsonlSink
from synth_async.endpoint.pool import EndpointPool
from synth_async.endpoint.serving import ServingEndpoint
from synth_async.errors import RequestRejected, StoppedEarly, SynthAsyncError, TransientFailure, UsageError
from synth_async.pipeline.asking import asked, found
from synth_async.pipeline.batch_book import JournalBook, refuse_strays
from synth_async.pipeline.budget import Budget
from synth_async.pipeline.endpoints import open_endpoints
from synth_async.pipeline.frames import answer_frame
from synth_async.pipeline.journal_state import JournalState, journaled_answer, restored_budget, scan
from synth_async.records import ChatRequest, Completion, Drop, DropReason, Example, Stage, Verdict
from synth_async.stages.judging import judge_requests, low_score, verdict_questions
from synth_async.store.journal import Journal, open_journal
from synth_async.store.run_folder import RunFolder, RunLock

__all__ = ["FileJudging", "Scored", "journal_folder"]

_SYNC_S = 0.1
_BROKEN_KEPT = 1000

OnScored = Callable[[int, Mapping[str, Any], Verdict], None]
"""Called with the number, the row and the verdict of each row that has one, in order."""


def journal_folder(out: Path) -> Path:
    """Where the journal of a scored file stands."""
    return out.with_name(f"{out.name}.journal")


@dataclass(slots=True)
class Scored:
    """What a file came to. `rows` = `scored` + `undecided` + rows without a verdict (in `dropped`) + `broken_count`."""

    rows: int = 0
    scored: int = 0
    passed: int = 0
    undecided: int = 0
    requests: int = 0
    score_sum: float = 0.0
    sums: Counter[str] = field(default_factory=Counter)
    disagreement: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    broken: list[tuple[int, str]] = field(default_factory=list)
    broken_count: int = 0

    def as_json(self) -> dict[str, Any]:
        """Counts, and means over the scored rows."""
        each = max(1, self.scored)
        return {
            "rows": self.rows,
            "scored": self.scored,
            "passed": self.passed,
            "dropped": dict(self.dropped),
            "undecided": self.undecided,
            "broken": self.broken_count,
            "requests": self.requests,
            "mean_score": round(self.score_sum / each, 4) if self.scored else None,
            "mean_scores": {name: round(total / each, 4) for name, total in self.sums.items()},
            "mean_disagreement": {name: round(total / each, 4) for name, total in self.disagreement.items()},
        }

    def note(self, verdict: Verdict, low: Drop | None) -> None:
        """One more verdict."""
        self.scored += 1
        self.passed += low is None
        self.score_sum += verdict.score
        self.sums.update({**verdict.scores, **verdict.safety})
        self.disagreement.update(verdict.disagreement)
        if low is not None:
            self.dropped[low.reason] += 1


class FileJudging:
    """Scores one file, once. `stop` may be called at any time; requests in flight are let finish."""

    def __init__(self, loaded: LoadedConfig, source: Path, out: Path) -> None:
        if loaded.config.judge is None:
            raise UsageError(f"{loaded.path}: judge is null: there is no rubric to score by")
        require_inputs([source])
        refuse_overwriting(inputs=[source], outputs=[out])
        self.scored = Scored()
        self._config = loaded.config
        self._context = loaded.context or ""
        self._judge: Judge = loaded.config.judge
        self._source = source
        self._out = out
        self._rejected: dict[str, str] = {}
        self._stop_error: SynthAsyncError | None = None
        self._workers: anyio.CancelScope | None = None

    def stop(self, error: SynthAsyncError) -> None:
        """End because of `error`; the first one counts."""
        self._stop_error = self._stop_error or error
        if self._workers is not None:
            self._workers.cancel()

    async def drive(
        self,
        resolved: Mapping[str, ResolvedEndpoint],
        *,
        on_progress: Callable[[int], None] = lambda _: None,
        on_scored: OnScored = lambda *_: None,
    ) -> Scored:
        """Ask for what is missing, then write the scored file; raises what stopped it, the file left as it was.

        Raises `StoppedEarly` after writing where some requests found no answer: those rows have no score yet.
        """
        folder = RunFolder(journal_folder(self._out))
        folder.create()
        with ExitStack() as stack:
            stack.enter_context(RunLock(folder.lock))
            journal = open_journal(folder.path, fsync=self._config.fsync, writer=f"synth-async {__version__}")
            stack.callback(journal.close)
            await self._ask_for_missing(_Answers(self._config, journal), resolved, on_progress)
            self._write(_Answers(self._config, journal), on_scored)
        if self.scored.undecided:
            raise StoppedEarly(
                f"{self._out}: {self.scored.undecided} of {self.scored.rows} rows found no answer;"
                " the same command tries them again"
            )
        return self.scored

    # --- asking ----------------------------------------------------------------------------------

    async def _ask_for_missing(
        self, answers: _Answers, resolved: Mapping[str, ResolvedEndpoint], on_progress: Callable[[int], None]
    ) -> None:
        missing = self._missing(answers, on_progress)
        first = next(missing, None)
        if first is None:
            return
        refuse_strays(self._config, answers.state.batches, folder=journal_folder(self._out))
        book = JournalBook(answers.journal, answers.state.batches)
        async with open_endpoints(self._config, resolved, book) as endpoints:
            desk = _Desk(self._config, endpoints, answers)
            await self._work(desk, itertools.chain([first], missing))
            self.scored.requests = desk.answered

    def _missing(self, answers: _Answers, on_progress: Callable[[int], None]) -> Iterator[tuple[ChatRequest, ...]]:
        """The requests for each verdict that the journal does not hold, each text once."""
        named: set[bytes] = set()
        for number, _, example in judgeable_rows(self._source, system_prompt=self._config.system_prompt):
            on_progress(number)
            if not isinstance(example, Example):
                continue
            requests = judge_requests(self._config, self._judge, self._context, example)
            first = bytes.fromhex(requests[0].key)
            if first not in named and found(verdict_questions(self._judge, requests), answers.find) is None:
                named.add(first)
                yield requests

    async def _work(self, desk: _Desk, missing: Iterator[tuple[ChatRequest, ...]]) -> None:
        if self._stop_error is not None:
            raise self._stop_error
        async with anyio.create_task_group() as upkeep:
            upkeep.start_soon(self._keep_durable, desk.answers.journal)
            async with anyio.create_task_group() as workers:
                self._workers = workers.cancel_scope
                for _ in range(desk.workers):
                    workers.start_soon(self._ask_in_turn, desk, missing)
            upkeep.cancel_scope.cancel()
        if self._stop_error is not None:
            raise self._stop_error

    async def _ask_in_turn(self, desk: _Desk, missing: Iterator[tuple[ChatRequest, ...]]) -> None:
        """Worker: one verdict after the other."""
        try:
            for requests in missing:
                try:
                    await asked(verdict_questions(self._judge, requests), desk.answers.find, desk.ask)
                except RequestRejected as error:
                    self._rejected[requests[0].key] = str(error)
                except TransientFailure:
                    continue
        except SynthAsyncError as error:
            self.stop(error)

    async def _keep_durable(self, journal: Journal) -> None:
        while self._config.fsync == "100ms":
            await anyio.sleep(_SYNC_S)
            try:
                await anyio.to_thread.run_sync(journal.sync)
            except SynthAsyncError as error:
                self.stop(error)
                return

    # --- writing ---------------------------------------------------------------------------------

    def _write(self, answers: _Answers, on_scored: OnScored) -> None:
        """The scored file, in the order of the rows; rows that hold no conversation are left out and named."""
        counts = self.scored
        with ExitStack() as stack:
            sink = JsonlSink(self._out, stack)
            for number, row, example in judgeable_rows(self._source, system_prompt=self._config.system_prompt):
                counts.rows += 1
                if row is None or not isinstance(example, Example):
                    counts.broken_count += 1
                    counts.broken += [(number, str(example))] if len(counts.broken) < _BROKEN_KEPT else []
                    continue
                verdict = self._verdict(answers, example)
                low = low_score(self._judge, verdict) if isinstance(verdict, Verdict) else None
                sink.write(scored_row(row, verdict, low))
                if isinstance(verdict, Verdict):
                    counts.note(verdict, low)
                    on_scored(number, row, verdict)
                elif verdict is None:
                    counts.undecided += 1
                else:
                    counts.dropped[verdict.reason] += 1

    def _verdict(self, answers: _Answers, example: Example) -> Verdict | Drop | None:
        requests = judge_requests(self._config, self._judge, self._context, example)
        if (refused := self._rejected.get(requests[0].key)) is not None:
            return Drop(Stage.JUDGE, DropReason.REQUEST_REJECTED, refused)
        return found(verdict_questions(self._judge, requests), answers.find)


class _Answers:
    """The journal, and what it held when this was made."""

    def __init__(self, config: Config, journal: Journal) -> None:
        self.journal = journal
        self.state: JournalState = scan(journal, fingerprint="")
        self._config = config

    def find(self, key: str) -> tuple[int, Completion] | None:
        """See `journaled_answer`."""
        return journaled_answer(self._config, self.journal, self.state, key)


class _Desk:
    """Where the requests of a file go: the judge's endpoints, within the budget, into the journal."""

    def __init__(self, config: Config, endpoints: Mapping[str, ServingEndpoint], answers: _Answers) -> None:
        self.answers = answers
        self.answered = 0
        names = config.endpoints_of("judge")
        settings = [config.endpoints[name] for name in names]
        self.workers = sum(each.batch.max_waiting if each.mode == "batch" else each.max_in_flight for each in settings)
        self._pool = EndpointPool([endpoints[name] for name in names])
        self._panel = {name: EndpointPool([endpoints[name]]) for name in names}
        self._budget: Budget | None = restored_budget(config, answers.journal, answers.state)
        for name, endpoint in endpoints.items():
            endpoint.purse = self._budget.purse(name) if self._budget is not None else None

    async def ask(self, request: ChatRequest, *, attempt: int) -> Completion:
        """An answer, journaled before anything looks at it."""
        pool = self._pool if request.endpoint is None else self._panel[request.endpoint]
        asked = request if attempt == 1 else replace(request, attempt=attempt)
        completion, _ = await pool.ask(asked, lambda name, body: self._keep(request, attempt, name, body))
        self.answered += 1
        return completion

    def _keep(self, request: ChatRequest, attempt: int, endpoint: str, body: bytes) -> None:
        lease = self._budget.lease_of(request.key) if self._budget is not None else None
        self.answers.journal.append(answer_frame(request, attempt, endpoint, body, lease))
