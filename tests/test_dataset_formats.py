"""What a format writes its target takes; what a target refuses is found."""

from __future__ import annotations

import json
from typing import Any

import pytest
from chat_rows import chats
from hypothesis import given

from synth_async.dataset.formats import FORMATS, Unfit
from synth_async.dataset.validation import row_breaches
from synth_async.stages.conversations import conversation_of_row

SYSTEM, USER, ASSISTANT = ({"role": r, "content": c} for r, c in (("system", "S"), ("user", "Q"), ("assistant", "A")))
HUMAN, GPT = {"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}
CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
CALLING = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "abcdefghi", "content": "3"}


def breaches(name: str, row: object) -> list[str]:
    """What the target of a format refuses in a row."""
    return list(row_breaches(row, FORMATS[name]))


@given(chats())
def test_what_is_written_is_taken_and_read_back_as_it_was(row: dict[str, Any]) -> None:
    """In every format: no breach, and the conversation of the row that was written is the one that came in."""
    conversation = conversation_of_row(row)
    for name, target in FORMATS.items():
        if name == "trl-dpo" and conversation.rejected is None:
            continue
        written = json.loads(json.dumps(target.write(conversation)))
        assert breaches(name, written) == []
        again = conversation_of_row(written)
        assert again.turns == conversation.turns
        if name == "trl-dpo":
            assert (again.prompt, again.rejected) == (conversation.prompt, conversation.rejected)


def test_metadata_stays_behind() -> None:
    """No writer carries more than its target knows."""
    conversation = conversation_of_row({"id": "1", "messages": [USER, ASSISTANT], "metadata": {"topic": "t"}})
    assert FORMATS["openai"].write(conversation) == {"messages": [USER, ASSISTANT]}


@pytest.mark.parametrize("name", ["together", "alpaca", "parquet"])
def test_tool_calls_are_never_dropped_silently(name: str) -> None:
    """A format that cannot carry tool calls refuses the conversation; the others carry them without a breach."""
    conversation = conversation_of_row({"messages": [USER, CALLING, RESULT, ASSISTANT]})
    with pytest.raises(Unfit, match="tool calls"):
        FORMATS[name].write(conversation)
    for other in ("openai", "mistral", "trl-sft", "axolotl", "jsonl", "sharegpt"):
        assert breaches(other, FORMATS[other].write(conversation)) == []


def test_what_was_masked_is_not_trained_on_in_another_format() -> None:
    """A message of weight 0 keeps its weight, or the format refuses it."""
    conversation = conversation_of_row({"messages": [USER, {**ASSISTANT, "weight": 0}, USER, ASSISTANT]})
    assert FORMATS["openai"].write(conversation)["messages"][1]["weight"] == 0
    for name in ("trl-sft", "sharegpt", "alpaca"):
        with pytest.raises(Unfit, match="weight"):
            FORMATS[name].write(conversation)


@pytest.mark.parametrize(
    ("name", "row", "expected"),
    [
        ("openai", [], "not a JSON object"),
        ("openai", {}, "no messages"),
        ("openai", {"messages": []}, "messages is empty"),
        ("openai", {"messages": "x"}, "messages is a text, not a list"),
        ("openai", {"messages": [USER, 3]}, "messages[1]: a number where a message was expected"),
        ("openai", {"messages": [USER]}, "no assistant message"),
        ("openai", {"messages": [{"role": "bot", "content": "x"}, ASSISTANT]}, "role 'bot'"),
        ("openai", {"messages": [{"content": "x"}, ASSISTANT]}, "messages[0]: no role"),
        ("openai", {"messages": [{"role": "user"}, ASSISTANT]}, "messages[0]: no content"),
        ("openai", {"messages": [{"role": "user", "content": " "}, ASSISTANT]}, "content is empty"),
        ("openai", {"messages": [{"role": "user", "content": 3}, ASSISTANT]}, "content is a number"),
        ("openai", {"messages": [{**USER, "mood": 1}, ASSISTANT]}, "messages[0]: unknown key 'mood'"),
        ("openai", {"messages": [USER, ASSISTANT], "metadata": {}}, "unknown key 'metadata'"),
        ("openai", {"messages": [USER, {**ASSISTANT, "weight": 0.5}]}, "weight is 0.5"),
        ("openai", {"messages": [USER, {**ASSISTANT, "weight": []}]}, "weight is []"),
        ("openai", {"messages": [{**USER, "weight": 1}, ASSISTANT]}, "weight on a message from user"),
        ("openai", {"messages": [USER, {**CALLING, "tool_calls": [{}]}]}, "without function.name"),
        ("together", {"messages": [USER, USER, ASSISTANT]}, "have to alternate"),
        ("together", {"messages": [ASSISTANT, USER, ASSISTANT]}, "assistant where user was expected"),
        ("together", {"messages": [USER, ASSISTANT], "id": "1"}, "unknown key 'id'"),
        ("together", {"messages": [USER, SYSTEM, ASSISTANT]}, "system where assistant was expected"),
        ("together", {"input": {"messages": [USER]}, "preferred_output": [USER], "non_preferred_output": [ASSISTANT]},
         "preferred_output"),
        ("mistral", {"messages": [USER, ASSISTANT, USER]}, "the last message is from user"),
        ("mistral", {"messages": [SYSTEM, SYSTEM, USER, ASSISTANT]}, "more than one system message"),
        ("mistral", {"messages": [USER, {**CALLING, "content": "x"}, RESULT, ASSISTANT]}, "both content and"),
        ("mistral", {"messages": [USER, CALLING, {**RESULT, "tool_call_id": "1"}, ASSISTANT]}, "tool_call_id '1'"),
        ("mistral", {"messages": [USER, RESULT, ASSISTANT]}, "tool after user"),
        ("mistral", {"messages": [ASSISTANT]}, "an assistant message alone"),
        ("mistral", {"messages": [USER, CALLING, ASSISTANT]}, "not as many tool messages"),
        ("mistral", {"messages": [USER, CALLING, RESULT, RESULT, ASSISTANT]}, "not as many tool messages"),
        ("trl-sft", {"messages": [USER]}, "no assistant message"),
        ("trl-sft", {"prompt": "Q", "completion": [ASSISTANT]}, "not of one kind"),
        ("trl-prompt-completion", {"prompt": [USER], "completion": []}, "completion is empty"),
        ("trl-dpo", {"prompt": [USER], "chosen": [ASSISTANT]}, "no rejected"),
        ("trl-dpo", {"prompt": "Q", "chosen": "A", "rejected": "A"}, "the same"),
        ("trl-dpo", {"prompt": "Q", "chosen": "A", "rejected": [ASSISTANT]}, "not of one kind"),
        ("sharegpt", {"conversations": [HUMAN]}, "ends with human"),
        ("sharegpt", {"conversations": [GPT, HUMAN]}, "'gpt' where human or observation"),
        ("sharegpt", {"conversations": [{"role": "user", "content": "Q"}, GPT]}, "conversations[0]: no from"),
        ("sharegpt", {"conversations": [HUMAN, {"from": "gpt", "value": ""}]}, "value is empty"),
        ("sharegpt", {"messages": [USER, ASSISTANT]}, "no conversations"),
        ("alpaca", {"instruction": "Q"}, "no output"),
        ("alpaca", {"instruction": "", "output": "A"}, "instruction is empty"),
        ("alpaca", {"instruction": "Q", "output": "A", "history": [["a"]]}, "history"),
        ("axolotl", {"messages": [{"role": "narrator", "content": "x"}, ASSISTANT]}, "role 'narrator'"),
        ("jsonl", {"messages": {}}, "not a list"),
    ],
)  # fmt: skip
def test_what_a_target_refuses_is_told(name: str, row: object, expected: str) -> None:
    """Each documented rule of a target has a row that breaks it."""
    assert any(expected in breach for breach in breaches(name, row)), breaches(name, row)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("openai", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, ASSISTANT]}),
        ("openai", {"messages": [USER, {"role": "assistant", "tool_calls": [CALL]}], "tools": []}),
        ("together", {"prompt": "Q", "completion": "A"}),
        ("trl-sft", {"text": "x"}),
        ("trl-dpo", {"chosen": [USER, ASSISTANT], "rejected": [USER, {**ASSISTANT, "content": "B"}]}),
        ("sharegpt", {"conversations": [HUMAN], "chosen": GPT, "rejected": {**GPT, "value": "B"}}),
        ("alpaca", {"instruction": "Q", "input": None, "output": "A"}),
        ("mistral", {"messages": [USER, CALLING, RESULT, ASSISTANT]}),
        ("mistral", {"messages": [USER, CALLING]}),
    ],
)
def test_what_a_target_takes_is_no_breach(name: str, row: object) -> None:
    """Documented shapes that the writers do not make are taken too."""
    assert breaches(name, row) == []
