from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_config import small_config

from synth_async.records import Drop, DropReason, Example, Stage, Task, Topic, Verdict
from synth_async.stages.lines import dataset_line, rejects_line

_TASK = Task("0123456789abcdef" * 2, Topic(4, "late parcel", "delivery"), 2, (), {"tone": "calm"})
_VERDICT = Verdict({"quality": 4}, 4.0, "good enough", "judge-model")


def _example(user: str = "Where is it?", assistant: str = "On its way.") -> Example:
    return Example(_TASK, ({"role": "user", "content": user}, {"role": "assistant", "content": assistant}), "served")


def test_a_dataset_line_holds_the_conversation_and_its_origin() -> None:
    """`id`, `messages` with the system message first, `metadata` with topic, facets, scores and models."""
    assert orjson.loads(dataset_line(small_config(), _example(), _VERDICT)) == {
        "id": "0123456789abcdef",
        "messages": [
            {"role": "system", "content": "Help."},
            {"role": "user", "content": "Where is it?"},
            {"role": "assistant", "content": "On its way."},
        ],
        "metadata": {
            "topic": "late parcel",
            "category": "delivery",
            "facets": {"tone": "calm"},
            "sample": 2,
            "model": "served",
            "scores": {"quality": 4},
            "score": 4.0,
            "judge_reason": "good enough",
            "judge_model": "judge-model",
        },
    }


def test_without_the_system_message_and_a_verdict_both_are_left_out() -> None:
    """`output.system_message: false` begins with the user; an example that was not judged has no scores."""
    line = orjson.loads(dataset_line(small_config(output={"system_message": False}), _example(), None))
    assert [message["role"] for message in line["messages"]] == ["user", "assistant"]
    assert not {"scores", "score", "judge_reason", "judge_model"} & line["metadata"].keys()


@pytest.mark.parametrize("example", [None, _example()])
def test_a_rejects_line_says_where_and_why(example: Example | None) -> None:
    """`stage`, `reason` and `detail` as strings; the conversation where it could be read."""
    drop = Drop(Stage.FILTER, DropReason.LOW_SCORE, "2 < 4")
    line = orjson.loads(rejects_line(small_config({"model": "configured"}), _TASK, drop, example, None))
    assert (line["id"], line["stage"], line["reason"], line["detail"]) == (_TASK.id, "filter", "low_score", "2 < 4")
    assert ("messages" in line) is (example is not None)
    assert line["metadata"]["model"] == ("served" if example else "configured")


def test_simulated_data_says_so() -> None:
    """A line made by the embedded endpoint is marked, any other is not."""
    simulated = small_config(endpoint={"base_url": "simulator"})
    assert orjson.loads(dataset_line(simulated, _example(), None))["metadata"]["simulated"] is True
    assert "simulated" not in orjson.loads(dataset_line(small_config(), _example(), None))["metadata"]


@given(user=st.text(min_size=1), assistant=st.text(min_size=1))
def test_a_line_is_one_line_and_keeps_every_character(user: str, assistant: str) -> None:
    """Whatever the text, there is one LF, at the end, and the text comes back unchanged."""
    line = dataset_line(small_config(), _example(user, assistant), _VERDICT)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert [message["content"] for message in orjson.loads(line)["messages"]] == ["Help.", user, assistant]
