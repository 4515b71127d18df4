"""Revision in whole runs: asked for once, journaled, found again, and counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from scripted_endpoint import (
    Asked,
    Reply,
    ScriptedEndpoint,
    config_of,
    dataset_of,
    drive,
    rejects_of,
    scores,
    scripted_endpoint,
    truth_of,
    usual_reply,
)

from synth_async import Answer, Decision, read_journal
from synth_async.config import load_config
from synth_async.errors import StoppedEarly
from synth_async.pipeline.fork import fork_run
from synth_async.report.summary import summary_text
from synth_async.store.run_folder import RunFolder


def _share(asked: Asked) -> float:
    return int(asked.name[:8], 16) / 2**32


def _judge(asked: Asked) -> Reply:
    """A third of all examples are almost good, a third are bad, drafts and revisions alike."""
    if asked.kind != "judge":
        return usual_reply(asked)
    return Reply(scores(3.5 if _share(asked) < 1 / 3 else 1 if _share(asked) < 2 / 3 else 5))


def _tree(endpoint: ScriptedEndpoint, **changes: Any) -> dict[str, Any]:
    return config_of(endpoint, **{"target": 30, "revise": 1, **changes})


def _files(run: Path) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in ("dataset.jsonl", "rejects.jsonl")}


def test_revised_examples_say_so_and_are_counted(tmp_path: Path) -> None:
    """Lines of revised examples have both scores; metrics and summary say what was asked, what came of it and its cost.

    A finished run run again sends nothing and changes no byte; deleted files come out of the journal as they were.
    """
    with scripted_endpoint(_judge) as endpoint:
        run = drive(tmp_path, _tree(endpoint))
        accepted, rejected = dataset_of(tmp_path / "run"), rejects_of(tmp_path / "run")
        revised = [line for line in accepted if line["metadata"].get("revised")]
        assert revised
        for line in revised:
            metadata = line["metadata"]
            assert metadata["draft"] == {"scores": {"quality": 3.5}, "score": 3.5, "judge_reason": "as scripted"}
            assert (metadata["score"], metadata["revised"]) == (5, True)
        assert not any("draft" in line["metadata"] for line in accepted if line not in revised)
        asked = [line for line in (*accepted, *rejected) if line["metadata"].get("revised")]
        assert {line["metadata"]["draft"]["score"] for line in asked} == {3.5}
        found = run.metrics["revised"]
        assert (found["asked"], found["accepted"]) == (len(asked), len(revised))
        # each revision and its verdict are 15 tokens, as every answer here
        assert found["tokens"] == 30 * len(asked)
        tokens = sum(run.metrics["tokens"].values())
        assert found["accepted_per_1k_tokens"] == pytest.approx(1000 * 30 / tokens, abs=1e-4)
        without = 1000 * (30 - len(revised)) / (tokens - found["tokens"])
        assert found["accepted_per_1k_tokens_without"] == pytest.approx(without, abs=1e-4)
        told = summary_text(run.metrics, name="n", simulated=False)
        assert f"{len(asked):,} sent back, {len(revised)} of them accepted" in told
        truth, sent = truth_of(tmp_path / "run"), endpoint.count()
        for name in ("dataset.jsonl", "rejects.jsonl", "metrics.json"):
            (tmp_path / "run" / name).unlink()
        again = drive(tmp_path, _tree(endpoint))
        assert truth_of(tmp_path / "run") == truth
        assert again.metrics["revised"] == found
        assert endpoint.count() == sent


def test_the_journal_names_the_answer_that_an_example_was_revised_to(tmp_path: Path) -> None:
    """Read from Python, a decision on a revised example has the key of the revision; others have none."""
    with scripted_endpoint(_judge) as endpoint:
        drive(tmp_path, _tree(endpoint))
    records = list(read_journal(tmp_path / "run"))
    revisions = {record.key for record in records if isinstance(record, Answer) and record.stage == "revise"}
    decisions = {record.id: record for record in records if isinstance(record, Decision)}
    for line in dataset_of(tmp_path / "run"):
        answers = decisions[line["id"]].answers
        assert len(answers) == line["metadata"].get("revised", False)
        assert set(answers) <= revisions


def test_nothing_is_revised_twice(tmp_path: Path) -> None:
    """Each request is sent once, in as many processes as it takes: one that ends in the middle leaves its answers."""
    with scripted_endpoint(_judge) as endpoint:
        drive(tmp_path, _tree(endpoint, target=10))
        assert endpoint.count("revise")
        drive(tmp_path, _tree(endpoint, target=40))
        for kind in ("generate", "judge", "revise"):
            names = endpoint.names(kind)
            assert len(names) == len(set(names)), kind


def test_a_paid_draft_outlives_a_revision_without_an_answer(tmp_path: Path) -> None:
    """Where only revisions found no answer, the next run asks for those and their verdicts, and for nothing else."""
    (tmp_path / "topics.txt").write_text("one\ntwo\nthree", encoding="utf-8")

    def almost(asked: Asked) -> Reply:
        return Reply(scores(3.5)) if asked.kind == "judge" else usual_reply(asked)

    with scripted_endpoint() as endpoint:
        tree = _tree(
            endpoint,
            target=3,
            topics={"file": "topics.txt"},
            generation={"examples_per_topic": 1, "max_examples_per_topic": 1},
            endpoints__timeout_s=0.4,
        )
        endpoint.reply = lambda asked: Reply(fault="hang") if asked.kind == "revise" else almost(asked)
        with pytest.raises(StoppedEarly, match="3 requests found no answer"):
            drive(tmp_path, tree)
        assert rejects_of(tmp_path / "run") == dataset_of(tmp_path / "run") == []
        sent = endpoint.count()
        endpoint.reply = usual_reply
        drive(tmp_path, tree)
        assert sorted(asked.kind for asked in endpoint.asked[sent:]) == ["judge"] * 3 + ["revise"] * 3
        assert all(line["metadata"]["revised"] for line in dataset_of(tmp_path / "run"))


def test_turning_revision_on_asks_for_nothing_else(tmp_path: Path) -> None:
    """The run is decided again from its journal; offline what needs a revision waits, and what is accepted stays."""
    topics = {"file": "topics.txt"}
    (tmp_path / "topics.txt").write_text("\n".join(f"a parcel of {number} lamps" for number in range(40)), "utf-8")
    generation = {"examples_per_topic": 1, "max_examples_per_topic": 1}
    with scripted_endpoint(_judge) as endpoint:
        tree = _tree(endpoint, topics=topics, generation=generation, target=40)
        with pytest.raises(StoppedEarly):
            drive(tmp_path, {**tree, "revise": 0})
        first = {line["id"] for line in dataset_of(tmp_path / "run")}
        almost = {line["id"] for line in rejects_of(tmp_path / "run") if line["metadata"]["score"] == 3.5}
        drafts, sent = endpoint.count("generate"), endpoint.count()
        drive(tmp_path, tree, offline=True)
        assert endpoint.count() == sent
        waiting = {line["id"] for line in rejects_of(tmp_path / "run") if line["reason"] == "pending_judge"}
        assert waiting == almost
        assert {line["id"] for line in dataset_of(tmp_path / "run")} == first
        with pytest.raises(StoppedEarly):
            drive(tmp_path, tree)
        assert endpoint.count("generate") == drafts
        assert endpoint.count("revise") == len(almost)
        revised = {line["id"] for line in dataset_of(tmp_path / "run")} - first
        assert revised <= almost
        assert revised
        # and off again: the drafts' own drops are back, without a request
        sent = endpoint.count()
        drive(tmp_path, {**tree, "revise": 0}, offline=True)
        assert {line["id"] for line in dataset_of(tmp_path / "run")} == first
        assert endpoint.count() == sent


def test_a_revision_like_an_accepted_example_stays_a_draft(tmp_path: Path) -> None:
    """What was accepted is looked up before the second verdict is paid for."""
    same = orjson.dumps(
        {
            "user_message": "Where is my parcel with the blue lamp now?",
            "assistant_response": "It is on its way to you since Monday, and should come by Friday.",
        }
    ).decode()

    def reply(asked: Asked) -> Reply:
        if asked.kind == "judge" and "blue lamp" in asked.text:
            return Reply(scores(5))
        return Reply(same) if asked.kind == "revise" else _judge(asked)

    with scripted_endpoint(reply) as endpoint:
        drive(tmp_path, _tree(endpoint, endpoints__max_in_flight=2))
        revised = [line for line in dataset_of(tmp_path / "run") if line["metadata"].get("revised")]
        told = [line["detail"] for line in rejects_of(tmp_path / "run")]
    assert len(revised) == 1
    assert any("its revision: exact_duplicate" in detail for detail in told)


def test_a_fork_takes_revisions_over(tmp_path: Path) -> None:
    """A new folder begun after a change of the topics' number asks for no revision that is there."""
    with scripted_endpoint(_judge) as endpoint:
        run = drive(tmp_path, _tree(endpoint))
        before = _files(tmp_path / "run")
        sent = endpoint.count()
        forked = fork_run(run.folder, RunFolder(tmp_path / "new"), load_config(tmp_path / "config.yaml"))
        assert forked is not None
        (tmp_path / "run").rename(tmp_path / "old")
        (tmp_path / "new").rename(tmp_path / "run")
        drive(tmp_path, _tree(endpoint))
        assert endpoint.count() == sent
        assert _files(tmp_path / "run")["dataset.jsonl"] == before["dataset.jsonl"]
