"""A new run begun from an earlier one: what its answers still are under another config is taken over.

Taken over is a planned task whose topic today's topics hold, whose facets today's facets could bring, and whose request
has the same key when it is rendered anew; with it go its answer, and the verdict that today's judge would be asked for.
Topics of the model are taken over where the topics section is what it was, those of a file where the file still lists
them. Everything else stays behind: it answers a question that is not asked any more.

Decisions are taken over in their order and bear no config's fingerprint, so the run that follows makes each of them
again. The earlier folder is only read, also while another process writes it. The new one is made beside its place and
renamed when it is whole: a kill leaves no half of it.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from synth_async import __version__
from synth_async.config import LoadedConfig, fingerprints
from synth_async.errors import DiskFailure, UsageError
from synth_async.pipeline.asking import found
from synth_async.pipeline.frames import ANSWER, CATEGORIES, FORK, TOPIC_BATCH, TOPICS, task_frame, task_of
from synth_async.pipeline.journal_state import JournalState, scan
from synth_async.records import Example, Message, Stage, Task
from synth_async.stages.course import Course
from synth_async.stages.curation import Candidate, Curation
from synth_async.stages.few_shot import example_text, read_examples
from synth_async.stages.generation import plan_task
from synth_async.stages.judging import judge_requests
from synth_async.stages.parsing import read_completion
from synth_async.stages.questions import Answer
from synth_async.stages.task_plan import PERSONA
from synth_async.store.frames import NO_KEY, Frame, read_frame
from synth_async.store.journal import Journal, open_journal, sync_folder
from synth_async.store.run_folder import RunFolder, RunLock, read_json

__all__ = ["Forked", "fork_run"]

_OF_TOPICS = (CATEGORIES, TOPIC_BATCH, TOPICS)
"""Frames that say which topics there are; they refer to each other, so they are taken over together."""

_NO_FINGERPRINT = "forked"
"""Stands where a decision says which config made it: no config's fingerprint, so it is made again."""


@dataclass(slots=True)
class Forked:
    """What a fork took over, of how many planned tasks."""

    planned: int
    topics: int = 0
    tasks: int = 0
    answers: int = 0
    verdicts: int = 0

    def __str__(self) -> str:
        return (
            f"taken over: {self.topics} topics, {self.tasks} of {self.planned} planned examples,"
            f" {self.answers} answers, {self.verdicts} verdicts"
        )


def fork_run(source: RunFolder, target: RunFolder, loaded: LoadedConfig) -> Forked | None:
    """Make `target` out of what still matches in `source`; None when it is a fork of that run already.

    Raises `UsageError` where there is no run, or where the new folder holds anything else.
    """
    if not any(source.path.glob("journal-*.log")):
        raise UsageError(f"{source.path}: there is no run to fork; name the folder of the earlier run with --out")
    place = RunFolder(target.path.resolve())
    if place.path == source.path.resolve():
        raise UsageError(f"{target.path}: a run cannot be forked into its own folder; name another one with --fork")
    if place.path.exists() and (not place.path.is_dir() or any(place.path.iterdir())):
        _check_is_fork_of(source, target)
        return None
    scratch = RunFolder(place.path.with_name(f".{place.path.name}.forking"))
    scratch.create()
    with RunLock(scratch.lock):
        _remove_journal(scratch.path)
        forked = _take_over(source, scratch, loaded)
        try:
            scratch.path.rename(place.path)
            sync_folder(place.path.parent)
        except OSError as error:
            raise DiskFailure(f"{target.path}: the new folder could not be put there: {error.strerror}") from None
    return forked


def _check_is_fork_of(source: RunFolder, target: RunFolder) -> None:
    """Raises `UsageError` unless the folder's journal begins with the mark of a fork of `source`."""
    try:
        heads = [read_frame(line) for _, _, _, line in islice(_reader(target).scan(), 2)]
    except DiskFailure:
        heads = []
    found = next((frame.fields["from"] for frame in heads if frame.kind == FORK), None)
    if found != str(source.path.resolve()):
        of = f"a fork of {found}" if found else "no fork of it"
        raise UsageError(
            f"{target.path}: not empty, and {of}, where {source.path} is to be forked; choose an empty folder with"
            " --fork, or go on with this one by --out"
        )


def _reader(folder: RunFolder) -> Journal:
    return open_journal(folder.path, read_only=True)


def _remove_journal(scratch: Path) -> None:
    """What a fork that was killed had taken over: it is all still where it came from."""
    try:
        for path in scratch.glob("journal*"):
            path.unlink()
    except OSError as error:
        raise DiskFailure(f"{scratch}: could not be cleared: {error.strerror}") from None


def _take_over(source: RunFolder, scratch: RunFolder, loaded: LoadedConfig) -> Forked:
    old = _reader(source)
    new = open_journal(scratch.path, writer=f"synth-async {__version__}")
    try:
        state = scan(old, fingerprint=_NO_FINGERPRINT)
        _check_no_batch_is_open(source, state)
        earlier = read_json(source.manifest) or state.manifest or {}
        new.append(Frame(NO_KEY, FORK, {"from": str(source.path.resolve()), "created_at": earlier.get("created_at")}))
        forked = Forked(planned=len(state.tasks))
        topics = _take_over_topics(old, new, state, loaded, earlier)
        forked.topics = len(topics)
        taken = _take_over_tasks(old, new, state, loaded, topics, forked)
        _take_over_decisions(old, new, state, taken)
    finally:
        old.close()
        new.close()
    return forked


def _check_no_batch_is_open(source: RunFolder, state: JournalState) -> None:
    """What a batch still holds would be asked again by the new run, and paid twice."""
    lines = sum(len(batch.pending) for batch in state.batches.values() if batch.file_id is not None)
    if lines:
        raise UsageError(
            f"{source.path}: {lines:,} requests are in batches that are not ended: run it until they are, or end them"
            f" with `synth-async cancel {source.path}`, then fork"
        )


TopicPlaces = Mapping[tuple[str, str | None], int]
"""(text, category) -> index in the new run."""


def _take_over_topics(
    old: Journal, new: Journal, state: JournalState, loaded: LoadedConfig, earlier: Mapping[str, Any]
) -> TopicPlaces:
    """Batch by batch, what today's config has of the earlier topics."""
    places: dict[tuple[str, str | None], int] = {}
    is_same = earlier.get("fingerprints", {}).get("topics") == fingerprints(loaded.config)["topics"]
    listed = {(topic.text, topic.category) for topic in loaded.topics}
    if not is_same and not listed:
        return places
    for place, key, kind, line in old.scan():
        if is_same and (kind in _OF_TOPICS or (kind == ANSWER[Stage.TOPICS] and state.answers.get(key) == place)):
            new.append(read_frame(line))
    for frame in state.topic_batches:
        rows = [(text, category) for text, category in frame.fields["topics"]]
        kept = [row for row in rows if is_same or row in listed]
        for row in kept:
            places[row] = len(places)
        if not is_same:
            new.append(Frame(frame.key, TOPICS, {**frame.fields, "topics": kept}))
    return places


def _take_over_tasks(
    old: Journal, new: Journal, state: JournalState, loaded: LoadedConfig, topics: TopicPlaces, forked: Forked
) -> set[bytes]:
    """Each planned task that today's config would ask in the same words, with what was answered; returns their keys."""
    examples = read_examples(loaded)
    curation = Curation(loaded.config, examples)
    taken: set[bytes] = set()
    for key, place in state.tasks.items():
        task = _as_planned_today(loaded, examples, task_of(old.read(place)), topics)
        if task is None:
            continue
        taken.add(key)
        forked.tasks += 1
        new.append(task_frame(task))
        if (answer := _answer(old, state, key)) is not None:
            new.append(answer)
            forked.answers += 1
            for further in _further_answers(old, state, loaded, curation, task, answer):
                new.append(further)
                forked.verdicts += further.kind == ANSWER[Stage.JUDGE]
    return taken


def _as_planned_today(
    loaded: LoadedConfig, examples: Sequence[Sequence[Message]], task: Task, topics: TopicPlaces
) -> Task | None:
    """The task as today's config plans it, or None where it would not, or would ask for something else."""
    topic = task.topic
    index = topics.get((topic.text, topic.category))
    if index is None or not _could_be_drawn(loaded, task.facets):
        return None
    today = plan_task(
        loaded.config,
        loaded.context or "",
        replace(topic, index=index),
        task.sample,
        task.facets,
        examples={number: example_text(examples[number]) for number in task.shown if number < len(examples)},
        missing=task.missing,
    )
    return today if today.key == task.key else None


def _could_be_drawn(loaded: LoadedConfig, facets: Mapping[str, str]) -> bool:
    values: dict[str, Container[str]] = {axis: facet.values for axis, facet in loaded.config.facets.items()}
    if loaded.personas:
        values[PERSONA] = loaded.personas
    return facets.keys() == values.keys() and all(facets[axis] in values[axis] for axis in values)


def _answer(old: Journal, state: JournalState, key: bytes) -> Frame | None:
    place = state.answers.get(key)
    return None if place is None else old.read(place)


def _further_answers(
    old: Journal, state: JournalState, loaded: LoadedConfig, curation: Curation, task: Task, answer: Frame
) -> list[Frame]:
    """The answers to what today's config would ask about an example: verdicts, revisions, other replies."""
    judge = loaded.config.judge
    example = curation.read(task, read_completion(answer.body or b"", fallback_model=""))
    if judge is None or not isinstance(example, Example):
        return []
    answers: dict[str, Frame] = {}

    def find(key: str) -> Answer | None:
        frame = _answer(old, state, bytes.fromhex(key))
        if frame is None:
            return None
        answers[key] = frame
        return frame.fields["attempt"], read_completion(frame.body or b"", fallback_model="")

    for request in judge_requests(loaded.config, judge, loaded.context or "", example):
        find(request.key)  # where one of a panel's is missing, the others are there all the same
    course = Course(loaded.config, judge, loaded.context or "", curation)
    found(course.questions(Candidate(example, None)), find)
    return list(answers.values())


def _take_over_decisions(old: Journal, new: Journal, state: JournalState, taken: set[bytes]) -> None:
    """The decisions in their order, which is that of the dataset."""
    for key, place in state.decisions.items():
        if key in taken:
            frame = old.read(place)
            fields = {name: value for name, value in frame.fields.items() if name != "in_place"}
            new.append(Frame(frame.key, frame.kind, {**fields, "fp": _NO_FINGERPRINT}))
