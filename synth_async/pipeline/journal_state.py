"""What a journal holds, found in one pass: keys and places, no bodies.

Every line's checksum is verified; beyond that a line is parsed as far as something in it is needed: the head of a task,
and of an answer whether it is a completion, and what it was charged. Nothing is kept of either but sums.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping
from itertools import repeat
from typing import Any, NamedTuple

import orjson

from synth_async.config.models import Config
from synth_async.endpoint.batch.lines import line_id
from synth_async.endpoint.batch.record import OpenBatch
from synth_async.pipeline.batch_frames import BATCH, BATCH_END, BATCH_INTENT, note_batch
from synth_async.pipeline.budget import Amount, Budget, cost_of
from synth_async.pipeline.frames import (
    ACCEPT,
    ANSWER,
    CATEGORIES,
    LEASE,
    MANIFEST,
    REJECT,
    RELEASE,
    REOPEN,
    TASK,
    TOPIC_BATCH,
    TOPICS,
    batch_of,
)
from synth_async.records import Completion, Message, Stage, Usage
from synth_async.stages.parsing import MalformedBody, read_completion, usage_of
from synth_async.stages.topics import TopicBatch
from synth_async.store.frames import Frame, fields_before, read_frame
from synth_async.store.journal import Journal
from synth_async.store.places import NOWHERE, Places, Rows

__all__ = [
    "AnswerHead",
    "Decisions",
    "JournalState",
    "NotePlan",
    "journaled_answer",
    "read_answer",
    "restored_budget",
    "scan",
]

NotePlan = Callable[[str | None, Mapping[str, str]], object]
"""Called with the category and the facets of every planned task, in order: what the plan has used up."""

_ACCEPTED, _STALE = 1, 2


class Decisions(Places):
    """Where the last decision on each task stands, in the order that counts, and how many of them accept."""

    def __init__(self, rows: Rows) -> None:
        super().__init__(rows)
        self._positions = array("Q")
        self._marks = bytearray()

    @property
    def accepted(self) -> int:
        """How many accept."""
        return self._marks.count(_ACCEPTED) + self._marks.count(_ACCEPTED | _STALE)

    @property
    def stale(self) -> int:
        """How many were noted as stale."""
        return self._marks.count(_STALE) + self._marks.count(_ACCEPTED | _STALE)

    def note(self, key: bytes, place: int, *, accepted: bool, stale: bool, in_place: bool) -> None:
        """A decision was made; one made `in_place` stands for an earlier one, at that one's position."""
        stays = in_place and key in self
        row = self.put(key, place)
        if row >= len(self._marks):
            new = row + 1 - len(self._marks)
            self._positions.extend(repeat(NOWHERE, new))
            self._marks.extend(bytes(new))
        if not stays:
            self._positions[row] = place
        self._marks[row] = _ACCEPTED * accepted | _STALE * stale

    def discard(self, key: bytes) -> None:
        """The task counts as undecided."""
        if key in self:
            self._marks[self._rows[key]] = 0
        super().discard(key)

    def doubt(self, key: bytes) -> None:
        """What was accepted can no longer be read."""
        self._marks[self._rows[key]] &= ~_ACCEPTED

    def acceptances(self) -> Iterator[tuple[bytes, int]]:
        """Key and place of every decision that accepts, in the order that counts."""
        return ((key, self[key]) for key in self if self._marks[self._rows[key]] & _ACCEPTED)

    def _order(self) -> array[int]:
        return self._positions


class JournalState:
    """Where things stand in the journal: 16-byte keys to places.

    `generated` counts the tasks with an answer; `spent` holds prompt and completion tokens by endpoint, of all answers;
    `batched` holds the same of answers that came in batches, `batches` those that are not ended, by our own id;
    `leases` are those still open, `released` is what requests without an answer took, `answered_leases` have been seen
    in an answer only: a worker's segment may come before the one with the lease;
    `last_samples` the last planned sample of each topic; `planned_batches` the batches of topics that were not read.
    """

    def __init__(self) -> None:
        rows: Rows = {}
        self.tasks = Places(rows)
        self.answers = Places(rows)
        self.decisions = Decisions(rows)
        self.last_samples: dict[int, int] = {}
        self.categories: list[str] = []
        self.topic_batches: list[Frame] = []
        self.planned_batches: dict[int, tuple[TopicBatch, tuple[Message, ...]]] = {}
        self.generated = 0
        self.spent: dict[str, list[int]] = {}
        self.batched: dict[str, list[int]] = {}
        self.batches: dict[str, OpenBatch] = {}
        self.answered = 0
        self.leases: dict[int, Amount] = {}
        self.batch_leases: dict[int, Amount] = {}
        self.answered_leases: set[int] = set()
        self.released = Amount()
        self.next_lease = 0
        self.manifest: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<JournalState tasks={len(self.tasks)} decisions={len(self.decisions)} accepted={self.accepted}>"

    @property
    def is_empty(self) -> bool:
        return not (self.tasks or self.answers or self.topic_batches)

    @property
    def accepted(self) -> int:
        """How many tasks are accepted by their last decision."""
        return self.decisions.accepted

    @property
    def stale(self) -> int:
        """How many last decisions bear another fingerprint than the one that was asked about."""
        return self.decisions.stale


def scan(journal: Journal, *, fingerprint: str, note_plan: NotePlan = lambda *_: None) -> JournalState:
    """One pass over the journal; decisions are stale that bear another fingerprint than `fingerprint`."""
    state = JournalState()
    for place, key, kind, line in journal.scan():
        if kind == TASK:
            _note_task(state, place, key, line, note_plan)
        elif kind.startswith("answer-"):
            _note_answer(journal, state, place, key, kind, line)
        elif kind in (ACCEPT, REJECT):
            fields = orjson.loads(line[9:])
            state.decisions.note(
                key,
                place,
                accepted=kind == ACCEPT,
                stale=fields["fp"] != fingerprint,
                in_place=fields.get("in_place", False),
            )
        elif kind == REOPEN:
            state.decisions.discard(key)
        else:
            _note_rare(state, kind, line)
    if journal.is_damaged:
        _doubt_decisions(state)
    return state


def _note_rare(state: JournalState, kind: str, line: bytes) -> None:
    if kind == TOPICS:
        frame = read_frame(line)
        state.topic_batches.append(frame)
        state.planned_batches.pop(frame.fields["batch"], None)
    elif kind == TOPIC_BATCH:
        planned = batch_of(read_frame(line))
        state.planned_batches[planned[0].number] = planned
    elif kind == CATEGORIES:
        state.categories = read_frame(line).fields["names"]
    elif kind == LEASE:
        fields = orjson.loads(line[9:])
        if fields["n"] in state.answered_leases:
            state.answered_leases.discard(fields["n"])
        else:
            leases = state.batch_leases if fields.get("batch") else state.leases
            leases[fields["n"]] = Amount(fields.get("requests", 1), fields["tokens"], fields["usd"])
        state.next_lease = fields["n"] + 1
    elif kind == RELEASE:
        fields = orjson.loads(line[9:])
        state.leases.pop(fields["n"], None)
        state.batch_leases.pop(fields["n"], None)
        state.released += Amount(fields["requests"], fields["tokens"], fields["usd"])
    elif kind in (BATCH_INTENT, BATCH, BATCH_END):
        note_batch(state.batches, kind, orjson.loads(line[9:]))
    elif kind == MANIFEST:
        state.manifest = read_frame(line).fields["manifest"]


def _note_task(state: JournalState, place: int, key: bytes, line: bytes, note_plan: NotePlan) -> None:
    state.tasks.put(key, place)
    fields = fields_before(line, b"messages")
    topic = fields["topic"]
    state.last_samples[topic["i"]] = max(fields["sample"], state.last_samples.get(topic["i"], 0))
    note_plan(topic["category"], fields["facets"])


def _note_answer(journal: Journal, state: JournalState, place: int, key: bytes, kind: str, line: bytes) -> None:
    try:
        answer = read_answer(line)
    except MalformedBody:
        return  # an answer in transport's eyes only: it is asked for again
    sums = (state.spent if answer.batch is None else state.batched).setdefault(answer.endpoint, [0, 0])
    sums[0] += answer.usage.prompt
    sums[1] += answer.usage.completion
    state.answered += 1
    if answer.lease is not None and state.leases.pop(answer.lease, None) is None:
        state.answered_leases.add(answer.lease)
    if answer.batch is not None and (batch := state.batches.get(answer.batch)) is not None:
        batch.pending.pop(line_id(key.hex(), answer.attempt), None)
    if key in state.answers:
        if answer.attempt < journal.read(state.answers[key]).fields["attempt"]:
            return  # of two workers, the one whose segment was begun later asked first
    else:
        state.generated += kind == ANSWER[Stage.GENERATE]
    state.answers.put(key, place)


class AnswerHead(NamedTuple):
    """What an answer's frame says, and what it was charged; `batch` is our own id of the batch that it came in."""

    endpoint: str
    lease: int | None
    usage: Usage
    batch: str | None = None
    attempt: int = 1


def read_answer(line: bytes) -> AnswerHead:
    """What is needed of an answer; raises MalformedBody.

    Frame and body are one JSON text where the body stands as it came. Parsing that as a whole is cheaper than finding
    out what may be left out of it: a search for a key takes as long.
    """
    try:
        fields = orjson.loads(line[9:])
    except orjson.JSONDecodeError:  # a body nested as deep as the parser goes
        fields = {}
    if "body" in fields:
        return _head(fields, usage_of(fields["body"]))
    frame = read_frame(line)
    return _head(frame.fields, read_completion(frame.body or b"", fallback_model="").usage)


def _head(fields: Mapping[str, Any], usage: Usage) -> AnswerHead:
    return AnswerHead(fields["endpoint"], fields.get("lease"), usage, fields.get("batch"), fields["attempt"])


def journaled_answer(config: Config, journal: Journal, state: JournalState, key: str) -> tuple[int, Completion] | None:
    """(attempt, completion) that the journal held for a key when it was scanned, or None."""
    place = state.answers.get(bytes.fromhex(key))
    if place is None:
        return None
    frame = journal.read(place)
    endpoint = config.endpoints.get(frame.fields["endpoint"])
    return frame.fields["attempt"], read_completion(
        frame.body or b"", fallback_model=endpoint.model if endpoint else ""
    )


def restored_budget(config: Config, journal: Journal, state: JournalState) -> Budget | None:
    """The budget with what earlier processes spent; a lease that one of them left open counts as spent."""
    if config.budget is None:
        return None
    spent = sum(state.leases.values(), start=state.released) + Amount(state.answered)
    for sums, is_batched in ((state.spent, False), (state.batched, True)):
        for name, (prompt, completion) in sums.items():
            price = config.price_of(name, in_batches=is_batched)
            spent += Amount(0, prompt + completion, cost_of(price, prompt, completion))
    budget = Budget(config, journal, spent=spent, next_lease=state.next_lease)
    for batch in state.batches.values():
        if batch.lease is not None and batch.lease in state.batch_leases:
            budget.restore_batch(batch.id, batch.endpoint, batch.lease, state.batch_leases[batch.lease])
    return budget


def _doubt_decisions(state: JournalState) -> None:
    """After damage: what can no longer be read is not decided, or not accepted."""
    for key in list(state.decisions):
        if key not in state.tasks:
            state.decisions.discard(key)
        elif key not in state.answers:
            state.decisions.doubt(key)
