from __future__ import annotations

from collections import Counter
from pathlib import Path

import anyio
import pytest
from scripted_endpoint import (
    Asked,
    Reply,
    config_of,
    dataset_of,
    drive,
    prepared_run,
    rejects_of,
    scores,
    scripted_endpoint,
    usual_reply,
)

from synth_async import Answer, Decision, NewTopics, Reopened, Task, read_journal
from synth_async.errors import UsageError
from synth_async.pipeline.frames import REOPEN
from synth_async.records import DropReason, Stage
from synth_async.store.frames import Frame
from synth_async.store.journal import open_journal


def some_are_weak(asked: Asked) -> Reply:
    """Every third example is scored 2."""
    return Reply(scores(2 if int(asked.name, 16) % 3 == 0 else 5)) if asked.kind == "judge" else usual_reply(asked)


def test_the_records_are_those_of_the_files(tmp_path: Path) -> None:
    """Decisions are the lines of dataset and rejects, in their order; tasks, answers and topics lead to them."""
    with scripted_endpoint(some_are_weak) as server:
        drive(tmp_path, config_of(server))
    records = list(read_journal(tmp_path / "run"))
    decisions = [each for each in records if isinstance(each, Decision)]
    assert [each.id for each in decisions if each.accepted] == [line["id"] for line in dataset_of(tmp_path / "run")]
    dropped = [(each.id, each.drop.reason) for each in decisions if each.drop is not None]
    assert dropped == [(line["id"], line["reason"]) for line in rejects_of(tmp_path / "run")]
    [weak, *_] = [each for each in decisions if each.drop is not None and each.drop.reason == DropReason.LOW_SCORE]
    assert weak.verdict is not None
    assert weak.verdict.score == 2
    tasks = {each.key: each for each in records if isinstance(each, Task)}
    assert {each.key for each in decisions} <= set(tasks)
    topics = {text for each in records if isinstance(each, NewTopics) for text, _ in each.topics}
    assert {task.topic.text for task in tasks.values()} <= topics
    answers = [each for each in records if isinstance(each, Answer)]
    assert {each.key for each in answers if each.stage is Stage.GENERATE} >= {each.key for each in decisions}
    assert Counter(each.stage for each in answers).total() == len(server.answered)
    completions = [each.completion() for each in answers]
    assert all(each is not None and each.model == "scripted" for each in completions)


def test_a_journal_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    """What a run has journaled is there while it goes on, and nothing in the folder is touched."""
    seen: list[int] = []
    with scripted_endpoint() as server:
        run = prepared_run(tmp_path, config_of(server))
        run.on_progress = lambda _: seen.append(sum(1 for _ in read_journal(tmp_path / "run")))
        anyio.run(run.drive)
    assert seen[-1] == sum(1 for _ in read_journal(tmp_path / "run"))
    assert seen[0] < seen[-1]


def test_torn_and_damaged_lines_are_passed_over(tmp_path: Path) -> None:
    """A torn tail and a flipped byte cost the records that they hit, and no other; the file stays as it is."""
    with scripted_endpoint() as server:
        drive(tmp_path, config_of(server))
    whole = list(read_journal(tmp_path / "run"))
    path = tmp_path / "run" / "journal-000001.log"
    lines = path.read_bytes().splitlines(keepends=True)
    lost = next(number for number, line in enumerate(lines) if b'"t":"accept"' in line)
    lines[lost] = lines[lost].replace(b"accept", b"accent", 1)
    torn = b"".join(lines)[:-7]
    path.write_bytes(torn)
    found = list(read_journal(tmp_path / "run"))
    assert len(found) == len(whole) - (2 if b'"t":"re' in lines[-1] or b'"t":"accept"' in lines[-1] else 1)
    assert [each for each in whole if each in found] == found
    assert path.read_bytes() == torn


def test_what_was_taken_back_is_told_and_what_only_a_run_needs_is_not(tmp_path: Path) -> None:
    """A reopened task is a record; leases, manifests and kinds of later versions are passed over."""
    journal = open_journal(tmp_path)
    for kind in ("manifest", REOPEN, "lease", "kind-of-later"):
        journal.append(Frame("ab" * 16, kind, {}))
    journal.close()
    assert list(read_journal(tmp_path)) == [Reopened("ab" * 16)]


def test_an_answer_that_is_no_completion_has_none() -> None:
    """Its bytes are there as they came."""
    assert Answer("0" * 32, Stage.JUDGE, "only", 1, b"<html>").completion() is None


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    """An empty folder has no records; one that is missing is a mistake."""
    assert list(read_journal(tmp_path)) == []
    with pytest.raises(UsageError, match="no such run folder"):
        list(read_journal(tmp_path / "nowhere"))
