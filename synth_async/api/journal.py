"""The journal of a run folder as typed records: what was planned, answered and decided, in the order it happened."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from synth_async.errors import UsageError
from synth_async.pipeline.frames import (
    ACCEPT,
    REJECT,
    REOPEN,
    TASK,
    TOPICS,
    drop_of,
    preference_of,
    revision_of,
    task_of,
    verdict_of,
)
from synth_async.records import Completion, Drop, Stage, Task, Verdict
from synth_async.stages.parsing import MalformedBody, read_completion
from synth_async.store.frames import Frame, read_frame
from synth_async.store.journal import open_journal

__all__ = ["Answer", "Decision", "JournalRecord", "NewTopics", "Reopened", "read_journal"]

_ANSWER = "answer-"


@dataclass(frozen=True, slots=True)
class NewTopics:
    """The topics that one answer brought: text and category. `asked` were asked for, `fresh` were not known yet."""

    key: str
    asked: int
    fresh: int
    topics: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """A paid answer as it came: the bytes of the body. `attempt` counts from 1; the last well-formed one counts."""

    key: str
    stage: Stage
    endpoint: str
    attempt: int
    body: bytes

    def completion(self) -> Completion | None:
        """What the body says; None where it is no chat completion."""
        try:
            return read_completion(self.body, fallback_model="")
        except MalformedBody:
            return None


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a task (the one with this key): accepted where there is no drop. The last one counts.

    `fingerprint` names the filters, judge and dedup that decided. `in_place`: it stands where an earlier one stood.
    `answers` are the keys of the answers that the example is made of where its task's own is not all: of a revision, or
    of the chosen and the rejected reply of a preference.
    """

    key: str
    drop: Drop | None
    verdict: Verdict | None
    fingerprint: str
    in_place: bool
    answers: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The `id` of the line in `dataset.jsonl` or `rejects.jsonl`."""
        return self.key[:16]

    @property
    def accepted(self) -> bool:
        """Whether it accepts."""
        return self.drop is None


@dataclass(frozen=True, slots=True)
class Reopened:
    """A decision was taken back: the task with this key is open again."""

    key: str


JournalRecord = NewTopics | Task | Answer | Decision | Reopened
"""A `Task` is one that was planned; its key is that of its answer and of the decision on it."""


def read_journal(folder: str | os.PathLike[str]) -> Iterator[JournalRecord]:
    """The records in the journal of a run folder, read one by one. Nothing in the folder is changed.

    It can be read while the run goes on, up to where the journal ends then. A torn last line and damaged lines are
    passed over, as are kinds of frames that only the run itself has a use for. Raises `UsageError` for a folder that is
    not there or a journal of a newer version, `DiskFailure` where it cannot be read.
    """
    path = Path(folder)
    if not path.is_dir():
        raise UsageError(f"{path}: no such run folder")
    journal = open_journal(path, read_only=True)
    try:
        for _, _, kind, line in journal.scan():
            if kind.startswith(_ANSWER):
                yield _answer(read_frame(line))
            elif (read := _READERS.get(kind)) is not None:
                yield read(read_frame(line))
    finally:
        journal.close()


def _answer(frame: Frame) -> Answer:
    stage = Stage(frame.kind.removeprefix(_ANSWER))
    return Answer(frame.key, stage, frame.fields["endpoint"], frame.fields["attempt"], frame.body or b"")


def _topics(frame: Frame) -> NewTopics:
    fields = frame.fields
    found = tuple((text, category) for text, category in fields["topics"])
    return NewTopics(frame.key, fields["asked"], fields["fresh"], found)


def _decision(frame: Frame) -> Decision:
    drop = None if frame.kind == ACCEPT else drop_of(frame)
    in_place = frame.fields.get("in_place", False)
    return Decision(frame.key, drop, verdict_of(frame), frame.fields["fp"], in_place, _answers(frame))


def _answers(frame: Frame) -> tuple[str, ...]:
    revision, preference = revision_of(frame), preference_of(frame)
    if revision is not None and revision.key is not None:
        return (revision.key,)
    return () if preference is None else (preference.chosen_key, preference.rejected_key)


def _reopened(frame: Frame) -> Reopened:
    return Reopened(frame.key)


_READERS: Mapping[str, Callable[[Frame], JournalRecord]] = {
    TASK: task_of,
    TOPICS: _topics,
    ACCEPT: _decision,
    REJECT: _decision,
    REOPEN: _reopened,
}
