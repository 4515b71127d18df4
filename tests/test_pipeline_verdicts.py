"""Several verdicts on an example: each asked of its endpoint, each journaled, all found again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

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


def _judge_says(*values: object) -> Any:
    """Verdicts in turn, by how often the same example was asked about; everything else as usual."""

    def reply(asked: Asked) -> Reply:
        if asked.kind != "judge":
            return usual_reply(asked)
        return Reply(scores(values[(asked.time - 1) % len(values)]))

    return reply


def _panel_of(one: ScriptedEndpoint, two: ScriptedEndpoint, **judge: Any) -> dict[str, Any]:
    tree = config_of(one, target=10, topics__endpoint="only", generation__endpoint="only")
    tree["endpoints"]["second"] = {**tree["endpoints"]["only"], "base_url": two.base_url}
    tree["judge"] = {"criteria": ["quality"], "panel": ["only", "second"], **judge}
    return tree


def test_each_member_of_a_panel_is_asked_about_each_example(tmp_path: Path) -> None:
    """Both score every example; the line holds their mean and how far they were apart."""
    with scripted_endpoint(_judge_says(5)) as one, scripted_endpoint(_judge_says(4)) as two:
        drive(tmp_path, _panel_of(one, two))
        assert one.count("judge") >= 10
        assert set(one.names("judge")) == set(two.names("judge"))
        assert two.count() == two.count("judge")
    lines = dataset_of(tmp_path / "run")
    assert len(lines) == 10
    assert {line["metadata"]["score"] for line in lines} == {4.5}
    assert [line["metadata"]["disagreement"] for line in lines] == [{"quality": 1}] * 10


def test_samples_are_asked_found_again_and_decided_by_anew(tmp_path: Path) -> None:
    """Three answers an example: a finished run sends nothing, and another way to combine them is decided offline."""
    with scripted_endpoint(_judge_says(5, 4, 2)) as endpoint:
        tree = config_of(endpoint, target=10, judge={"criteria": ["quality"], "samples": 3, "combine": "median"})
        drive(tmp_path, tree)
        assert set(Counter(endpoint.names("judge")).values()) == {3}
        sent, truth = endpoint.count(), truth_of(tmp_path / "run")
        drive(tmp_path, tree)
        assert truth_of(tmp_path / "run") == truth
        tree["judge"]["combine"] = "min"
        drive(tmp_path, tree, offline=True)
        assert endpoint.count() == sent
    low = [line for line in rejects_of(tmp_path / "run") if line["reason"] == "low_score"]
    assert len(low) >= 10
    assert all(line["metadata"]["scores"] == {"quality": 2} for line in low)
    assert all(line["metadata"]["disagreement"] == {"quality": 3} for line in low)


def test_more_samples_ask_only_for_those_that_are_missing(tmp_path: Path) -> None:
    """The first sample is that of a run with one: two more are asked for of each example, and none again."""
    with scripted_endpoint(_judge_says(5)) as endpoint:
        drive(tmp_path, config_of(endpoint, target=10))
        examples, judged = endpoint.count("generate"), Counter(endpoint.names("judge"))
        drive(tmp_path, config_of(endpoint, target=10, judge={"criteria": ["quality"], "samples": 3}))
        assert endpoint.count("generate") == examples
        again = Counter(endpoint.names("judge"))
    accepted = len(dataset_of(tmp_path / "run"))
    assert accepted == 10
    assert sum(times == 3 for times in again.values()) >= 10
    assert all(again[name] <= 3 for name in judged)


@pytest.mark.parametrize(("answers", "accepted"), [((5, "no score", 5), True), ((5, "no score", "none", 5), False)])
def test_each_malformed_answer_is_asked_for_once_more(
    tmp_path: Path,
    answers: tuple[object, ...],
    accepted: bool,  # noqa: FBT001 - the case's answer
) -> None:
    """A second malformed one drops the example, and what would have come after it is not paid for."""
    with scripted_endpoint(_judge_says(*answers)) as endpoint:
        tree = config_of(endpoint, target=1, judge={"criteria": ["quality"], "samples": 2})
        (tmp_path / "topics.txt").write_text("a late parcel\na broken cup\n", encoding="utf-8")
        tree["topics"] = {"file": "topics.txt"}
        tree["generation"] = {"examples_per_topic": 1, "max_examples_per_topic": 1}
        if accepted:
            drive(tmp_path, tree)
            assert dataset_of(tmp_path / "run")[0]["metadata"]["scores"] == {"quality": 5}
        else:
            with pytest.raises(Exception, match="examples accepted"):
                drive(tmp_path, {**tree, "target": 100})
            assert {line["reason"] for line in rejects_of(tmp_path / "run")} >= {"no_verdict"}
            assert set(Counter(endpoint.names("judge")).values()) == {3}
