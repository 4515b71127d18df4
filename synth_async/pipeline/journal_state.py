"""What a journal holds, found in one pass: keys and places, no bodies."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from synth_async.pipeline.frames import ACCEPT, ANSWER, MANIFEST, REJECT, TASK, TOPICS
from synth_async.records import Stage
from synth_async.stages.parsing import MalformedBody, read_completion
from synth_async.store.frames import Frame, read_frame
from synth_async.store.journal import Journal

__all__ = ["JournalState", "scan"]


@dataclass(slots=True)
class JournalState:
    """Where things stand in the journal: 16-byte keys to places, in the order that the run gave them."""

    tasks: dict[bytes, int] = field(default_factory=dict)
    answers: dict[bytes, int] = field(default_factory=dict)
    decisions: dict[bytes, int] = field(default_factory=dict)
    topic_batches: list[Frame] = field(default_factory=list)
    accepted: int = 0
    generated: int = 0
    usages: list[tuple[str, int, int]] = field(default_factory=list)
    stale: set[bytes] = field(default_factory=set)
    manifest: dict[str, Any] | None = None

    @property
    def is_empty(self) -> bool:
        return not (self.tasks or self.answers or self.topic_batches)


def scan(journal: Journal, planner_notes: list[tuple[int, int, dict[str, str]]], *, fingerprint: str) -> JournalState:
    """One pass over the journal. `planner_notes` receives (topic, sample, facets) of every planned task, in order.

    `stale` are the keys whose last decision bears another fingerprint than `fingerprint`.
    """
    state = JournalState()
    spent: dict[str, list[int]] = {}
    accepted: set[bytes] = set()
    for place, key, kind, line in journal.scan():
        if kind == TASK:
            state.tasks[key] = place
            fields = orjson.loads(line[9:])
            planner_notes.append((fields["topic"]["i"], fields["sample"], fields["facets"]))
        elif kind.startswith("answer-"):
            _note_answer(state, spent, place, key, kind, line)
        elif kind in (ACCEPT, REJECT):
            _note_decision(state, accepted, place, key, kind, line, fingerprint)
        elif kind == TOPICS:
            state.topic_batches.append(read_frame(line))
        elif kind == MANIFEST:
            state.manifest = read_frame(line).fields["manifest"]
    if journal.damaged_frames:
        # A decision about a task that can no longer be read decides nothing.
        for key in [key for key in state.decisions if key not in state.tasks]:
            del state.decisions[key]
            accepted.discard(key)
            state.stale.discard(key)
        accepted &= state.answers.keys()
    state.accepted = len(accepted)
    state.usages = [(endpoint, prompt, completion) for endpoint, (prompt, completion) in spent.items()]
    return state


def _note_answer(
    state: JournalState, spent: dict[str, list[int]], place: int, key: bytes, kind: str, line: bytes
) -> None:
    frame = read_frame(line)
    try:
        usage = read_completion(frame.body or b"", fallback_model="").usage
    except MalformedBody:
        return  # an answer in transport's eyes only: it is asked for again
    sums = spent.setdefault(frame.fields["endpoint"], [0, 0])
    sums[0] += usage.prompt
    sums[1] += usage.completion
    state.generated += kind == ANSWER[Stage.GENERATE] and key not in state.answers
    state.answers[key] = place


def _note_decision(
    state: JournalState, accepted: set[bytes], place: int, key: bytes, kind: str, line: bytes, fingerprint: str
) -> None:
    fields = orjson.loads(line[9:])
    (state.stale.discard if fields["fp"] == fingerprint else state.stale.add)(key)
    if not fields.get("in_place"):
        state.decisions.pop(key, None)
    state.decisions[key] = place
    (accepted.add if kind == ACCEPT else accepted.discard)(key)
