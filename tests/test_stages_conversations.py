"""Any chat shape is read as the same conversation; what cannot be read says why."""

from __future__ import annotations

from typing import Any

import pytest

from synth_async.stages.conversations import UnreadableRow, conversation_of_row

SYSTEM, USER, ASSISTANT = ({"role": r, "content": c} for r, c in (("system", "S"), ("user", "Q"), ("assistant", "A")))
BETTER, WORSE = {"role": "assistant", "content": "A"}, {"role": "assistant", "content": "B"}
SAID = [{"from": "system", "value": "S"}, {"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [SYSTEM, USER, ASSISTANT]},
        {"messages": [{"role": "developer", "content": [{"type": "text", "text": "S"}]}, USER, ASSISTANT]},
        {"conversations": SAID},
        {"conversations": SAID[1:], "system": "S"},
        {"prompt": [SYSTEM, USER], "completion": [ASSISTANT]},
        {"system": "S", "prompt": "Q", "response": "A"},
        {"instruction": "Q", "input": "", "output": "A", "system": "S"},
    ],
)
def test_every_shape_gives_the_same_turns(row: dict[str, Any]) -> None:
    """Roles are spelt alike, the system message stands first, and the answer is the last turn."""
    read = conversation_of_row(row)
    assert list(read.turns) == [SYSTEM, USER, ASSISTANT]
    assert (list(read.prompt), list(read.answer), read.rejected) == ([SYSTEM, USER], [ASSISTANT], None)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q", "chosen": "A", "rejected": "B"},
        {"prompt": [USER], "chosen": [BETTER], "rejected": [WORSE]},
        {"chosen": [USER, BETTER], "rejected": [USER, WORSE]},
        {"instruction": "Q", "chosen": "A", "rejected": "B"},
        {"conversations": SAID[1:2], "chosen": SAID[2], "rejected": {"from": "gpt", "value": "B"}},
        {"input": {"messages": [USER]}, "preferred_output": [BETTER], "non_preferred_output": [WORSE]},
    ],
)
def test_every_shape_of_a_preference_gives_the_same_sides(row: dict[str, Any]) -> None:
    """Prompt, chosen and rejected, also where the prompt is implied by what both begin with."""
    read = conversation_of_row(row)
    assert (list(read.prompt), list(read.answer), list(read.rejected or ())) == ([USER], [BETTER], [WORSE])


def test_alpaca_history_comes_before_and_input_belongs_to_the_question() -> None:
    """Earlier rounds are turns; instruction and input are one text."""
    read = conversation_of_row({"instruction": "I", "input": "N", "output": "O", "history": [["a", "b"]]})
    assert [turn["content"] for turn in read.turns] == ["a", "b", "I\nN", "O"]


def test_tool_calls_are_carried_in_one_spelling() -> None:
    """ShareGPT's function_call and observation, and OpenAI's older function_call, become tool_calls and tool."""
    call = {"name": "look_up", "arguments": "{}"}
    said = [
        {"from": "human", "value": "Q"},
        {"from": "function_call", "value": '{"name": "look_up", "arguments": "{}"}'},
    ]
    shared = conversation_of_row({"conversations": [*said, {"from": "observation", "value": "3"}, SAID[2]]})
    older = conversation_of_row({"messages": [USER, {"role": "assistant", "content": None, "function_call": call}]})
    assert shared.turns[1]["tool_calls"] == older.turns[1]["tool_calls"] == [{"type": "function", "function": call}]
    assert shared.turns[2]["role"] == "tool"
    assert shared.has_tools


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (7, "not a JSON object"),
        ({"foo": 1}, "none of messages"),
        ({"prompt": "Q"}, "without completion"),
        ({"chosen": "A", "rejected": "B"}, "without a prompt"),
        ({"messages": []}, "no turns"),
        ({"messages": [SYSTEM]}, "no turns"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, "'narrator'"),
        ({"messages": [{"content": "x"}]}, "without a role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "image_url"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "lone surrogate"),
        ({"conversations": [{"from": "function_call", "value": "{"}]}, "not JSON"),
        ({"instruction": "I"}, "without an output"),
        ({"instruction": "I", "output": "O", "history": ["x"]}, "pairs"),
    ],
)
def test_what_cannot_be_read_says_why(row: object, message: str) -> None:
    """The message names what is missing or wrong."""
    with pytest.raises(UnreadableRow, match=message):
        conversation_of_row(row)
