"""Taking up a run: what the journal holds, and what still has to be done.

The journal's decisions are gone through in their order: a decision with today's fingerprint is confirmed, one that an
earlier config made is made again from the journaled answers, in its place. The output files and the index of accepted
examples come out as they were, or as they would have been. No request is sent here; what needs one is left over as the
backlog.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from synth_async.config.models import Config
from synth_async.pipeline.asking import found
from synth_async.pipeline.decided import example_as_decided
from synth_async.pipeline.frames import ACCEPT, REJECT, REOPEN, drop_of, task_of, verdict_of
from synth_async.pipeline.journal_state import JournalState, journaled_answer
from synth_async.pipeline.kept import KeptExamples
from synth_async.pipeline.ledger import Ledger
from synth_async.records import Completion, Drop, DropReason, Example, Message, Stage, Task, Verdict
from synth_async.stages.course import Course
from synth_async.stages.curation import Curation, Rejected, Settled
from synth_async.stages.dedup import Sketch
from synth_async.stages.planner import Planner
from synth_async.stages.topics import TopicBatch, TopicPool
from synth_async.store.frames import Frame
from synth_async.store.journal import Journal

__all__ = ["Replay", "goes_on", "reopen_failed"]

_OPEN = (DropReason.OVER_TARGET, DropReason.OVER_SHARE, DropReason.PENDING_JUDGE)
"""Reasons that are not the last word: the examples are taken up when the run has use for them."""


def goes_on(state: JournalState, config: Config) -> bool:
    """Whether anything is left to decide, so that the index of what was accepted is needed."""
    return state.stale > 0 or state.accepted < config.target


def reopen_failed(journal: Journal, state: JournalState) -> int:
    """Take back every decision that stands for a request which the endpoint refused for good; returns how many.

    An answer of no use (malformed, no verdict in it) is not among them: it was given, paid for, and stays what it is.
    What is taken back is journaled, so that it stays open until it is decided, whoever goes on with the run.
    """
    failed = [key for key, place in state.decisions.items() if _has_failed(journal.read(place))]
    for key in failed:
        journal.append(Frame(key.hex(), REOPEN, {}))
        state.decisions.discard(key)
    return len(failed)


def _has_failed(frame: Frame) -> bool:
    return frame.kind == REJECT and frame.fields["reason"] == DropReason.REQUEST_REJECTED


def _was_refused(frame: Frame) -> bool:
    """Whether the endpoint refused the request for an example, so that there is nothing to decide about."""
    return _has_failed(frame) and frame.fields["stage"] == Stage.GENERATE


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A decision made again: accepted where there is no drop. The sketch is what the index takes in then."""

    drop: Drop | None
    example: Example | None
    verdict: Verdict | None = None
    sketch: Sketch | None = None


class Replay:
    """The past of a run, gone through in the order in which it was decided."""

    def __init__(
        self,
        config: Config,
        context: str,
        *,
        state: JournalState,
        ledger: Ledger,
        curation: Curation,
        planner: Planner,
        kept: KeptExamples,
    ) -> None:
        self.backlog: list[int] = []
        self._config = config
        self._course = Course(config, config.judge, context, curation) if config.judge is not None else None
        self._state = state
        self._journal = ledger.journal
        self._ledger = ledger
        self._curation = curation
        self._planner = planner
        self._kept = kept
        self.goes_on = goes_on(state, config)

    def restore_plan(self, pool: TopicPool) -> None:
        """Categories, topics and samples as they were planned."""
        if self._state.categories:
            self._planner.use_categories(dict.fromkeys(self._state.categories, 1.0))
        for frame in self._state.topic_batches:
            fields = frame.fields
            self._planner.add_topics(pool.restore((text, category) for text, category in fields["topics"]))
            pool.note_batch(fields["asked"], fields["fresh"], fields["category"], evolves=fields["evolves"])
            if pool.is_dry(fields["category"]):
                self._planner.note_dry(fields["category"])
        for topic, sample in self._state.last_samples.items():
            self._planner.restore(topic, sample)

    @property
    def topic_batches(self) -> int:
        """How many batches of topics were planned; the next one's number."""
        read = max((frame.fields["batch"] for frame in self._state.topic_batches), default=-1)
        return max(read, *self._state.planned_batches, -1) + 1

    @property
    def unread_batches(self) -> list[tuple[TopicBatch, tuple[Message, ...]]]:
        """Batches of topics that were planned and not read, in their order."""
        return [self._state.planned_batches[number] for number in sorted(self._state.planned_batches)]

    def run(self, *, offline: bool) -> None:
        """Confirm or make again every decision, then collect what is left in `backlog` (places of task frames)."""
        tally = self._ledger.tally
        tally.asked = len(self._state.tasks)
        tally.answered = self._state.generated
        for endpoint, (prompt, completion) in self._state.spent.items():
            self._ledger.note_spent(endpoint, prompt, completion)
        for endpoint, (prompt, completion) in self._state.batched.items():
            self._ledger.note_spent(endpoint, prompt, completion, in_batches=True)
        self._restore_index()
        later = [key for key, place in self._state.decisions.items() if not self._settle(key, place, offline=offline)]
        self._ledger.dataset.settle()
        self._ledger.rejects.settle()
        for key in later:
            self._take_up(key)
        for key, place in self._state.tasks.items():
            if key in self._state.decisions:
                continue
            if offline and key in self._state.answers:
                self._take_up(key)  # answered, and stopped before it was decided: no request is needed for that
            else:
                self.backlog.append(place)

    def _restore_index(self) -> None:
        """What the sidecar has of the examples that are about to be confirmed; nothing where some are decided again."""
        if not self.goes_on:
            return
        is_whole = not self._state.stale and not self._journal.is_damaged
        accepted = list(self._state.decisions.acceptances()) if is_whole else []
        self._kept.restore([place for _, place in accepted], lambda number: self._compared_text(*accepted[number]))

    def _compared_text(self, key: bytes, place: int) -> str:
        example = self._example(task_of(self._journal.read(self._state.tasks[key])), self._journal.read(place))
        return "" if example is None else self._curation.compared_text(example)

    def answer(self, key: str) -> tuple[int, Completion] | None:
        """(attempt, completion) that the journal holds for a key, or None: then it has to be asked for."""
        return journaled_answer(self._config, self._journal, self._state, key)

    def tasks(self) -> Iterator[Task]:
        """The backlog: tasks without a decision, in the order of the plan, read when they are needed."""
        for place in self.backlog:
            yield task_of(self._journal.read(place))

    def is_planned(self, key: str) -> bool:
        """Whether an earlier process planned the task with this key."""
        return bytes.fromhex(key) in self._state.tasks

    # --- one decision ----------------------------------------------------------------------------

    def _settle(self, key: bytes, place: int, *, offline: bool) -> bool:
        """Confirm a decision or make it again in its place; False when it has to wait until all others are."""
        frame = self._journal.read(place)
        task = task_of(self._journal.read(self._state.tasks[key]))
        if self.goes_on and self._is_open(frame) and (not offline or self._has_its_verdict(frame)):
            return False
        if frame.fields["fp"] == self._ledger.fingerprint and not self._exceeds_target(frame):
            return self._confirm(task, frame, place)
        return self._decide_again(task, frame, offline=offline)

    def _is_open(self, frame: Frame) -> bool:
        return frame.kind == REJECT and frame.fields["reason"] in _OPEN

    def _has_its_verdict(self, frame: Frame) -> bool:
        return frame.fields["fp"] == self._ledger.fingerprint and (
            self._config.judge is None or verdict_of(frame) is not None
        )

    def _exceeds_target(self, frame: Frame) -> bool:
        return frame.kind == ACCEPT and self._planner.accepted >= self._config.target

    def _confirm(self, task: Task, frame: Frame, place: int) -> bool:
        """See that a decision's line is there; False when the answer that was accepted can no longer be read."""
        example = self._example(task, frame)
        verdict = verdict_of(frame)
        if frame.kind == REJECT:
            self._ledger.confirm_rejected(task, drop_of(frame), example, verdict)
        elif example is None:
            return False
        else:
            self._ledger.confirm_accepted(example, verdict)
            if self.goes_on:
                self._kept.confirm(example, place)
        labels = verdict.labels if verdict else None
        self._planner.note_decided(task, labels, accepted=frame.kind == ACCEPT, live=False)
        return True

    def _decide_again(self, task: Task, frame: Frame, *, offline: bool) -> bool:
        """Today's decision from the journaled answers, in the earlier one's place; False when a verdict is missing."""
        if _was_refused(frame):
            self._ledger.rejected(task, drop_of(frame), None, None, in_place=True)
            self._planner.note_decided(task, accepted=False, live=False)
            return True
        outcome = self._outcome(task)
        if outcome is None:
            if not offline:
                return False
            pending = Drop(Stage.JUDGE, DropReason.PENDING_JUDGE, "needs an answer that was never asked for")
            outcome = _Outcome(pending, self._first_example(task))
        self._record(task, outcome, in_place=True)
        return True

    def _take_up(self, key: bytes) -> None:
        """An open example: decided now where the journal holds all it needs, else left to the run."""
        task_place = self._state.tasks[key]
        task = task_of(self._journal.read(task_place))
        outcome = self._outcome(task)
        if outcome is None:
            self.backlog.append(task_place)
        else:
            self._record(task, outcome, in_place=False)

    def _record(self, task: Task, outcome: _Outcome, *, in_place: bool) -> None:
        drop, example, verdict = outcome.drop, outcome.example, outcome.verdict
        if drop is None and example is not None:
            place = self._ledger.accepted(example, verdict, in_place=in_place)
            self._kept.keep(example, outcome.sketch, place)
        elif drop is not None:
            self._ledger.rejected(task, drop, example, verdict, in_place=in_place)
        self._planner.note_decided(task, verdict.labels if verdict else None, accepted=drop is None, live=False)

    def _outcome(self, task: Task) -> _Outcome | None:
        """What the journaled answers come to by today's config, or None when one that is needed is missing."""
        answer = self.answer(task.key)
        if answer is None:
            return None
        candidate = self._curation.examine(task, answer[1])
        if isinstance(candidate, Rejected):
            return _Outcome(candidate.drop, candidate.example)
        settled = Settled(candidate, None)
        if self._course is not None:
            wanted = partial(self._curation.has_room_for, planner=self._planner)
            answered = found(self._course.questions(candidate, wanted), self.answer)
            if answered is None:
                return None
            settled = answered
        drop = self._curation.admit(settled, self._planner)
        return _Outcome(drop, settled.candidate.example, settled.verdict, settled.candidate.sketch)

    def _example(self, task: Task, frame: Frame) -> Example | None:
        return example_as_decided(self._curation, self.answer, task, frame)

    def _first_example(self, task: Task) -> Example | None:
        answered = self.answer(task.key)
        example = self._curation.read(task, answered[1]) if answered is not None else None
        return None if isinstance(example, Rejected) else example
