"""Datasets of preferences: two sides of one prompt, from the run to the trainer's format."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from scripted_endpoint import (
    Asked,
    Reply,
    ScriptedEndpoint,
    choice,
    config_of,
    dataset_of,
    drive,
    lines_of,
    rejects_of,
    scores,
    scripted_endpoint,
    truth_of,
    usual_reply,
    words,
)

from synth_async import Answer, Decision, read_journal
from synth_async.dataset.deduplicate import deduplicate_file
from synth_async.dataset.export import ExportWishes, export
from synth_async.dataset.formats import FORMATS
from synth_async.dataset.judged_rows import example_of_row
from synth_async.dataset.validation import validate_file
from synth_async.report.follow import Follower

WEAK = "zeluda"
"""A word in every reply of the weaker model."""


def _share(asked: Asked) -> float:
    return int(asked.name[:8], 16) / 2**32


def _reply(asked: Asked) -> Reply:
    """The judge gives the weaker model's replies 2, of the others half 5 and half 4.5; in pairs its are the worse."""
    if asked.kind == "reply" and asked.model == "weaker":
        return Reply(f"{WEAK} {words(asked.name, 40)}.")
    if asked.kind == "judge":
        return Reply(scores(2 if WEAK in asked.text else 5 if _share(asked) < 0.5 else 4.5))
    if asked.kind == "compare":
        return Reply(choice("b" if f'"reply_a":"{WEAK}' in asked.text else "a"))
    return usual_reply(asked)


def _tree(endpoint: ScriptedEndpoint, judge: dict[str, Any] | None = None, **preference: Any) -> dict[str, Any]:
    """A config with a weaker endpoint, and two replies of the other one."""
    tree = config_of(endpoint, target=20, mode="preference")
    tree["endpoints"]["weaker"] = {**tree["endpoints"]["only"], "model": "weaker"}
    for stage in ("topics", "generation"):
        tree[stage] = {"endpoint": "only"}
    tree["judge"] = {"criteria": ["quality"], "endpoint": "only", **(judge or {})}
    tree["preference"] = {"samples": 2, "rejected_endpoint": "weaker", **preference}
    return tree


def _assert_again_changes_nothing(folder: Path, tree: dict[str, Any], endpoint: ScriptedEndpoint) -> None:
    truth, sent = truth_of(folder / "run"), endpoint.count()
    for name in ("dataset.jsonl", "rejects.jsonl"):
        (folder / "run" / name).unlink()
    drive(folder, tree)
    assert truth_of(folder / "run") == truth
    assert endpoint.count() == sent


def test_lines_hold_both_sides_of_one_prompt(tmp_path: Path) -> None:
    """`messages` end with the chosen reply, `rejected` is the other last turn; scores of both, models and margin."""
    with scripted_endpoint(_reply) as endpoint:
        run = drive(tmp_path, _tree(endpoint))
        lines = dataset_of(tmp_path / "run")
        assert len(lines) == 20
        for line in lines:
            assert list(line) == ["id", "messages", "rejected", "metadata"]
            assert [message["role"] for message in line["messages"]] == ["system", "user", "assistant"]
            (rejected,) = line["rejected"]
            assert rejected["role"] == "assistant"
            assert rejected["content"].startswith(WEAK)
            metadata = line["metadata"]
            assert metadata["score"] >= 4.5
            assert metadata["rejected"]["scores"] == {"quality": 2}
            assert metadata["margin"] == metadata["score"] - 2
        assert run.metrics["preference"]["pairs"] == 20
        assert 2.5 <= run.metrics["preference"]["mean_margin"] <= 3
        # the better of two own replies is chosen, so most have a 5, and some are not the first one
        assert Counter(line["metadata"]["score"] for line in lines)[5] > 10
        _assert_again_changes_nothing(tmp_path, _tree(endpoint), endpoint)


def test_each_reply_is_asked_for_once(tmp_path: Path) -> None:
    """A higher target goes on from what is there; the weaker endpoint is asked for replies and nothing else."""
    with scripted_endpoint(_reply) as endpoint:
        drive(tmp_path, _tree(endpoint))
        drive(tmp_path, {**_tree(endpoint), "target": 35})
        for kind in ("generate", "reply", "judge"):
            names = endpoint.names(kind)
            assert len(names) == len(set(names)), kind
        assert {asked.kind for asked in endpoint.asked if asked.model == "weaker"} == {"reply"}
    assert len(dataset_of(tmp_path / "run")) == 35


def test_without_a_margin_there_is_no_example(tmp_path: Path) -> None:
    """Two replies half a point apart are dropped as `no_margin`, unless half a point is the margin."""
    with scripted_endpoint(_reply) as endpoint:
        tree = _tree(endpoint, rejected_endpoint=None, margin=0.5)
        del tree["endpoints"]["weaker"]
        drive(tmp_path, tree)
        assert {line["metadata"]["margin"] for line in dataset_of(tmp_path / "run")} == {0.5}
        dropped = [line for line in rejects_of(tmp_path / "run") if line["reason"] == "no_margin"]
        assert dropped
        assert all(line["stage"] == "judge" and "score" in line["metadata"] for line in dropped)
        assert all(line["messages"][-1]["role"] == "assistant" for line in dropped)
        _assert_again_changes_nothing(tmp_path, tree, endpoint)
        tree["preference"]["margin"] = 0.6
        drive(tmp_path, tree, offline=True)
        assert dataset_of(tmp_path / "run") == []


def test_prompts_are_what_is_compared_for_duplicates(tmp_path: Path) -> None:
    """A second example with the same question gets no further replies, however different its own reply is."""

    def reply(asked: Asked) -> Reply:
        if asked.kind != "generate" or _share(asked) > 0.5:
            return _reply(asked)
        question = '{"user_message": "Where is my parcel with the blue lamp now?"'
        return Reply(f'{question}, "assistant_response": "{words(asked.name, 40)}."}}')

    with scripted_endpoint(reply) as endpoint:
        drive(tmp_path, _tree(endpoint) | {"coverage": None})
        found = Counter(line["reason"] for line in rejects_of(tmp_path / "run"))
        assert found["exact_duplicate"] > 3
        questions = [line["messages"][1]["content"] for line in dataset_of(tmp_path / "run")]
    assert len(questions) == len(set(questions))


def test_comparison_in_both_orders_makes_the_pair(tmp_path: Path) -> None:
    """With `judge.mode: pairwise` the winner alone is scored, and what lost to it in both orders is rejected."""
    with scripted_endpoint(_reply) as endpoint:
        tree = _tree(endpoint, {"mode": "pairwise"})
        run = drive(tmp_path, tree)
        for line in dataset_of(tmp_path / "run"):
            assert line["rejected"][0]["content"].startswith(WEAK)
            assert line["metadata"]["rejected"] == {"model": "weaker"}
            assert "margin" not in line["metadata"]
        assert run.metrics["preference"] == {"pairs": 20, "mean_margin": None}
        assert endpoint.count("compare") > endpoint.count("judge")
        names = endpoint.names("compare")
        assert len(names) == len(set(names))
        _assert_again_changes_nothing(tmp_path, tree, endpoint)


def test_a_chat_run_becomes_one_of_preferences_from_its_journal(tmp_path: Path) -> None:
    """After a change of the mode the first replies and their verdicts are there already: only others are asked for."""
    with scripted_endpoint(_reply) as endpoint:
        tree = _tree(endpoint)
        chat = {name: value for name, value in tree.items() if name not in {"mode", "preference"}}
        drive(tmp_path, chat)
        paid = Counter(asked.name for asked in endpoint.asked if asked.kind != "topics")
        drive(tmp_path, tree)
        again = Counter(asked.name for asked in endpoint.asked if asked.kind != "topics")
        assert all(again[name] == times for name, times in paid.items())
        assert all("rejected" in line for line in dataset_of(tmp_path / "run"))
    assert len(dataset_of(tmp_path / "run")) == 20


def test_exports_and_verbs_read_a_dataset_of_preferences(tmp_path: Path) -> None:
    """trl-dpo gets prompt, chosen and rejected and passes its own check; chat formats get the chosen side.

    Reports count the chosen side too, and so does the judge on files; dedup keeps lines whole.
    """
    with scripted_endpoint(_reply) as endpoint:
        drive(tmp_path, _tree(endpoint))
    run = tmp_path / "run"
    lines = dataset_of(run)
    done = export(ExportWishes(run, "trl-dpo", out=tmp_path / "dpo.jsonl"))
    assert lines_of(tmp_path / "dpo.jsonl") == [
        {"prompt": line["messages"][:-1], "chosen": line["messages"][-1:], "rejected": line["rejected"]}
        for line in lines
    ]
    assert validate_file(Path(done.out), FORMATS["trl-dpo"]).breach_count == 0
    export(ExportWishes(run, "trl-sft", out=tmp_path / "sft.jsonl"))
    assert lines_of(tmp_path / "sft.jsonl") == [{"messages": line["messages"]} for line in lines]
    follower = Follower(run / "dataset.jsonl", run / "rejects.jsonl")
    follower.read_on()
    assert (follower.report.accepted, follower.report.unreadable) == (20, 0)
    judged = example_of_row(lines[0], 1, system_prompt="You help customers of a shop.")
    assert judged.messages == tuple(lines[0]["messages"][1:])
    deduplicate_file(run / "dataset.jsonl", tmp_path / "kept.jsonl")
    assert lines_of(tmp_path / "kept.jsonl") == lines


def test_the_journal_names_the_answers_that_a_pair_is_made_of(tmp_path: Path) -> None:
    """Read from Python, each decision that accepts has the keys of both replies, the rejected one a reply's."""
    with scripted_endpoint(_reply) as endpoint:
        drive(tmp_path, _tree(endpoint))
    records = list(read_journal(tmp_path / "run"))
    answers = {record.key: record.stage for record in records if isinstance(record, Answer)}
    accepted = [record for record in records if isinstance(record, Decision) and record.accepted]
    assert len(accepted) == 20
    for decision in accepted:
        chosen, rejected = decision.answers
        assert answers[rejected] == "reply"
        assert chosen == decision.key or answers[chosen] == "reply"
    assert {decision.answers[0] == decision.key for decision in accepted} == {True, False}
