"""The graph of a run: topics -> tasks -> generation workers -> candidates -> judging workers -> dataset.

Fixed pools of workers pull from bounded queues, so nothing is ever "all tasks at once". The queues form a chain and
never a cycle: the planner is a function that `issue_tasks` asks for the next task, not a channel. Decisions are made in
plain functions (`stages`), on the loop's thread, in one order; that order is the journal's.

The run ends when the target is met, or when nothing is left to issue and nothing is outstanding. A stop, whatever its
reason, cancels everything that waits and lets the requests in flight finish: they may be paid for.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

import anyio
import anyio.lowlevel

from synth_async.config.models import Config
from synth_async.endpoint.pool import EndpointPool
from synth_async.endpoint.serving import ServingEndpoint
from synth_async.errors import DiskFailure, RequestRejected, StoppedEarly, SynthAsyncError, TransientFailure
from synth_async.pipeline.asking import asked
from synth_async.pipeline.kept import KeptExamples
from synth_async.pipeline.ledger import Ledger
from synth_async.pipeline.replay import Replay
from synth_async.pipeline.topic_source import TopicSource
from synth_async.records import ChatRequest, Completion, Drop, DropReason, Example, Stage, Task, Topic, Verdict
from synth_async.stages.course import Course
from synth_async.stages.curation import OVER_TARGET, Candidate, Curation, Rejected, Settled
from synth_async.stages.generation import generation_request
from synth_async.stages.planner import Planner, StopReason
from synth_async.stages.task_plan import TaskPlan
from synth_async.stages.topics import TopicPool

__all__ = ["Graph"]

_TASKS_AHEAD = 8
"""Tasks planned before a worker is free: enough that none waits, few enough that the plan follows the yield."""

_SECTION: Mapping[Stage, str] = {
    Stage.TOPICS: "topics",
    Stage.GENERATE: "generation",
    Stage.REVISE: "generation",
    Stage.REPLY: "generation",
    Stage.JUDGE: "judge",
}
"""Stages that send requests, and the section of the config that says where to."""

_SHORTEST_DRAIN_S = 1.0
_MOST_TRIED = 2
"""Tasks under way for each example wanted, at the most, where they wait for batches."""


class Graph:
    """The workers of one run, and what they share."""

    def __init__(
        self,
        config: Config,
        context: str,
        *,
        endpoints: Mapping[str, ServingEndpoint],
        planner: Planner,
        plan: TaskPlan,
        listed_topics: Sequence[Topic],
        pool: TopicPool,
        curation: Curation,
        kept: KeptExamples,
        ledger: Ledger,
        replay: Replay,
    ) -> None:
        self.stop_error: SynthAsyncError | None = None
        self._config = config
        self._course = Course(config, config.judge, context, curation) if config.judge is not None else None
        self._endpoints = endpoints
        pools = {
            section: EndpointPool([endpoints[name] for name in config.endpoints_of(section) if name in endpoints])
            for section in _SECTION.values()
        }
        self._pools = {stage: pools[section] for stage, section in _SECTION.items()}
        self._named = {name: EndpointPool([endpoint]) for name, endpoint in endpoints.items()}
        self._planner = planner
        self._plan = plan
        self._curation = curation
        self._kept = kept
        self._ledger = ledger
        self._replay = replay
        self._backlog = replay.tasks()
        self._changed = asyncio.Event()
        self._tasks: asyncio.Queue[Task] = asyncio.Queue(maxsize=_TASKS_AHEAD)
        self._candidates: asyncio.Queue[Candidate] = asyncio.Queue(maxsize=self._workers(*self._judged_by))
        self._unjudged: dict[str, Candidate] = {}
        self._judges_in_batches = config.judge is not None and config.sends_batches("judge")
        self._taken_up: dict[str, Task] = {}
        self._topics = TopicSource(
            config,
            context,
            listed=listed_topics,
            pool=pool,
            batches=replay.topic_batches,
            unread=replay.unread_batches,
            planner=planner,
            ledger=ledger,
            ask=self._ask,
            on_topics=self._changed.set,
        )

    def __repr__(self) -> str:
        queued = f"tasks={self._tasks.qsize()} candidates={self._candidates.qsize()}"
        return f"<Graph {self._planner!r} {self._topics!r} {queued} stop={self.stop_error!r}>"

    # --- the flow --------------------------------------------------------------------------------

    async def run(self) -> SynthAsyncError | None:
        """Run to the end; returns what stopped it early, if anything. Every answer that came is in the journal then."""
        async with anyio.create_task_group() as drain:
            async with anyio.create_task_group() as workers:
                workers.start_soon(self._guarded, self._topics.run)
                for _ in range(self._workers("generation")):
                    workers.start_soon(self._guarded, self._generate)
                for _ in range(self._workers(*self._judged_by)):
                    workers.start_soon(self._guarded, self._judge)
                await self._guarded(self._issue_tasks)
                drain.start_soon(self._limit_the_drain)
                workers.cancel_scope.cancel()
            drain.cancel_scope.cancel()
        if not self._planner.target_is_met:
            return self.stop_error
        self._keep_surplus()
        return None

    def stop(self, error: SynthAsyncError) -> None:
        """End the run because of `error`; the first one counts. Requests in flight are let finish."""
        if self.stop_error is None:
            self.stop_error = error
        if isinstance(error, DiskFailure):
            self._kept.abandon()  # the reserve is for answers
        self._changed.set()

    def abandon(self) -> None:
        """Do not wait for the requests in flight either."""
        for endpoint in self._endpoints.values():
            endpoint.abandon()

    async def _issue_tasks(self) -> None:
        """Plan one task after another while the planner wants them; returns when the run is over."""
        while self.stop_error is None:
            self._changed.clear()
            reason = self._planner.stop_reason()
            if reason is StopReason.TARGET:
                return
            if reason is not None:
                raise StoppedEarly(self._explain(reason))
            if self._tasks.full() or not self._planner.wants_task:
                await self._changed.wait()
            elif (task := self._next_task()) is not None:
                self._planner.note_issued(task)
                self._tasks.put_nowait(task)
            elif self._planner.stop_reason() is None:  # looking for a task may have shown that there is none
                await self._changed.wait()

    async def _generate(self) -> None:
        """Worker: a task's completion, and the decisions that cost nothing."""
        while True:
            task = await self._tasks.get()
            self._changed.set()
            try:
                completion = await self._ask(generation_request(self._config, task))
            except RequestRejected as error:
                self._reject(task, Drop(Stage.GENERATE, DropReason.REQUEST_REJECTED, str(error)), None, None)
            except TransientFailure:
                self._leave_undecided(task)
            else:
                await self._examine(task, completion)

    async def _examine(self, task: Task, completion: Completion) -> None:
        candidate = self._curation.examine(task, completion)
        if isinstance(candidate, Rejected):
            self._reject(task, candidate.drop, candidate.example, None)
        elif self._course is None:
            self._decide(Settled(candidate, None))
        else:
            self._unjudged[task.key] = candidate
            self._planner.passed += self._judges_in_batches
            await self._candidates.put(candidate)

    async def _judge(self) -> None:
        """Worker: all that is asked about a candidate (a verdict, a revision, other replies), and the last decision."""
        while True:
            candidate = await self._candidates.get()
            try:
                settled = await self._ask_about(candidate)
            except RequestRejected as error:
                settled = Settled(candidate, None, Drop(Stage.JUDGE, DropReason.REQUEST_REJECTED, str(error)))
            except TransientFailure:
                self._take_off(candidate)
                self._leave_undecided(candidate.example.task)
                continue
            self._take_off(candidate)
            self._decide(settled)

    def _take_off(self, candidate: Candidate) -> None:
        """A candidate does not wait for its verdict any more."""
        del self._unjudged[candidate.example.task.key]
        self._planner.passed -= self._judges_in_batches

    # --- asking ----------------------------------------------------------------------------------

    def _next_task(self) -> Task | None:
        """What an earlier process left undone, then the planner's next sample; None while there is no topic."""
        if (task := next(self._backlog, None)) is not None:
            self._planner.backlog -= 1
            self._taken_up[task.key] = task
            return task
        while (sample := self._planner.next_sample()) is not None:
            task = self._plan.write(
                *sample,
                wanted=self._planner.wanted_facets(),
                missing=self._planner.coverage.hard_to_get(self._planner.expected_yield),
            )
            # Where a damaged frame hid what was planned, the same task can come up again.
            if not self._replay.is_planned(task.key):
                self._ledger.planned(task)
                break
        else:
            task = None
        self._topics.wake()
        return task

    async def _ask(self, request: ChatRequest) -> Completion:
        """The completion that the journal holds, or else the endpoint's."""
        found = self._replay.answer(request.key)
        return found[1] if found is not None else await self._ask_anew(request, attempt=1)

    async def _ask_anew(self, request: ChatRequest, *, attempt: int) -> Completion:
        # A worker that finds work waiting never pauses in between, so this is where a stop reaches it.
        await anyio.lowlevel.checkpoint_if_cancelled()
        pool = self._pools[request.stage] if request.endpoint is None else self._named[request.endpoint]
        completion, endpoint = await pool.ask(
            request if attempt == 1 else replace(request, attempt=attempt),
            lambda name, body: self._ledger.answered(request, attempt, name, body),
        )
        in_batches = request.stage is not Stage.TOPICS and self._config.endpoints[endpoint].mode == "batch"
        usage = completion.usage
        self._ledger.note_spent(endpoint, usage.prompt, usage.completion, in_batches=in_batches)
        self._ledger.tally.answered += request.stage is Stage.GENERATE
        return completion

    async def _ask_about(self, candidate: Candidate) -> Settled:
        if self._course is None:
            raise AssertionError("judging workers run only where a judge is configured")
        questions = self._course.questions(candidate, self._is_wanted)
        return await asked(questions, self._replay.answer, self._ask_anew)

    # --- deciding --------------------------------------------------------------------------------

    def _is_wanted(self, candidate: Candidate, verdict: Verdict) -> bool:
        return self._curation.has_room_for(candidate, verdict, self._planner)

    def _decide(self, settled: Settled) -> None:
        example, verdict = settled.candidate.example, settled.verdict
        drop = self._curation.admit(settled, self._planner)
        if drop is not None:
            self._reject(example.task, drop, example, verdict)
            return
        self._taken_up.pop(example.task.key, None)
        place = self._ledger.accepted(example, verdict)
        self._kept.keep(example, settled.candidate.sketch, place)
        self._planner.note_decided(example.task, verdict.labels if verdict else None, accepted=True)
        self._wake()

    def _reject(self, task: Task, drop: Drop, example: Example | None, verdict: Verdict | None) -> None:
        self._taken_up.pop(task.key, None)
        self._ledger.rejected(task, drop, example, verdict)
        self._planner.note_decided(task, accepted=False)
        self._wake()

    def _leave_undecided(self, task: Task) -> None:
        """The transport gave up: nothing is decided, what was answered is journaled, the next run goes on from it."""
        self._planner.note_undecided(task)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._topics.wake()

    # --- ending ----------------------------------------------------------------------------------

    def _keep_surplus(self) -> None:
        """Answers that were paid for and are not needed now wait in the rejects for a higher target."""
        for candidate in self._unjudged.values():
            self._reject(candidate.example.task, OVER_TARGET, candidate.example, None)
        self._unjudged.clear()
        for task in itertools.chain(list(self._taken_up.values()), self._backlog):
            if (found := self._replay.answer(task.key)) is not None:
                outcome = self._curation.examine(task, found[1])
                rejected = outcome if isinstance(outcome, Rejected) else Rejected(OVER_TARGET, outcome.example)
                self._planner.note_issued(task)
                self._reject(task, rejected.drop, rejected.example, None)

    async def _limit_the_drain(self) -> None:
        """A surplus answer is not worth a long wait, so a met target gives the requests in flight a few mean latencies.

        A run that was interrupted waits for them up to their deadline: the work is wanted, and it may be paid for.
        """
        if self._planner.target_is_met:
            slowest = max(endpoint.mean_latency_s for endpoint in self._endpoints.values())
            await anyio.sleep(max(_SHORTEST_DRAIN_S, 4 * slowest))
            self.abandon()

    async def _guarded(self, worker: Callable[[], Awaitable[None]]) -> None:
        """Run a worker; an error that ends the run is noted instead of tearing the others down with it."""
        try:
            await worker()
        except* SynthAsyncError as group:  # topics are asked for in a task group of their own
            self.stop(_first_of(group))

    @property
    def _judged_by(self) -> tuple[str, ...]:
        """Sections whose endpoints the judging workers keep busy; of preferences they ask for most replies too."""
        if self._course is None:
            return ()
        return ("judge", "generation") if self._config.mode == "preference" else ("judge",)

    def _workers(self, *sections: str) -> int:
        """As many as requests may be in flight, and a quarter more for those that wait to be retried.

        Where they go in batches, as many as may wait for one; a run of few examples has no use for so many.
        """
        names = dict.fromkeys(name for section in sections for name in self._config.endpoints_of(section))
        endpoints = [self._config.endpoints[name] for name in names]
        if any(self._config.sends_batches(section) for section in sections):
            waiting = sum(each.batch.max_waiting for each in endpoints if each.mode == "batch")
            return min(waiting, _MOST_TRIED * self._config.target) + 1
        most = sum(each.max_in_flight for each in endpoints)
        return most + most // 4 + 1 if endpoints else 0

    def _explain(self, reason: StopReason) -> str:
        accepted = f"{self._planner.accepted} of {self._config.target} examples accepted"
        if reason is StopReason.YIELD:
            return f"{accepted}; fewer than 2 % of the last 2,000 were good enough: see the reasons in rejects.jsonl"
        advice = "raise generation.max_examples_per_topic, or bring more topics"
        if self._planner.undecided:
            advice = f"{self._planner.undecided} requests found no answer, the same command tries them again"
        failure = f" (last failure: {self._topics.last_failure})" if self._topics.last_failure else ""
        return f"{accepted}; there are no more topics to write about{failure}: {advice}"


def _first_of(group: BaseExceptionGroup[SynthAsyncError]) -> SynthAsyncError:
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    assert isinstance(first, SynthAsyncError)  # noqa: S101 - `except*` lets no other kind through
    return first
