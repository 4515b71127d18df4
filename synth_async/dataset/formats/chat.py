"""Formats whose rows are a list of `messages`: OpenAI, TRL, Axolotl, Together, Mistral, plain JSON Lines, Parquet."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from synth_async.dataset.formats.base import Format, Row, Unfit, turns_with
from synth_async.dataset.formats.rules import (
    CHAT_ROLES,
    TOOL_ROLES,
    MessageRules,
    key_breaches,
    message_breaches,
    text_breaches,
)
from synth_async.stages.conversations import Conversation

__all__ = ["AXOLOTL", "JSONL", "MISTRAL", "OPENAI", "PARQUET", "TOGETHER", "messages_shape"]

MIB = 1 << 20
GB = 10**9


def messages_shape(row: Mapping[str, Any]) -> str | None:
    """The one shape of these formats."""
    return "messages" if "messages" in row else None


def _chat(conversation: Conversation, *keys: str) -> Row:
    row: Row = {"messages": turns_with(conversation.turns, *keys)}
    if conversation.tools:
        row["tools"] = list(conversation.tools)
    return row


def _plain(conversation: Conversation) -> Row:
    """A row of text alone, for targets that know no tools."""
    if conversation.has_tools:
        raise Unfit("tool calls, which this format cannot carry")
    return {"messages": turns_with(conversation.turns)}


def _messages_of(row: Mapping[str, Any], rules: MessageRules) -> Iterator[str]:
    if "messages" not in row:
        yield "no messages"
    else:
        yield from message_breaches(row["messages"], rules)


# --- OpenAI --------------------------------------------------------------------------------------

_OPENAI_RULES = MessageRules(
    roles=TOOL_ROLES | {"function"},
    keys={"role", "content", "name", "function_call", "weight", "tool_calls", "tool_call_id", "refusal"},
    parts=True,
)


def _openai(conversation: Conversation) -> Row:
    return _chat(conversation, "name", "tool_calls", "tool_call_id", "weight")


def _openai_breaches(row: Mapping[str, Any]) -> Iterator[str]:
    yield from _messages_of(row, _OPENAI_RULES)
    for key in ("tools", "functions"):
        if key in row and not isinstance(row[key], list):
            yield f"{key} is not a list"


OPENAI = Format(
    name="openai",
    purpose="OpenAI fine-tuning, and what takes its files (Azure, Fireworks)",
    source="developers.openai.com/api/docs/guides/supervised-fine-tuning (at least 10 examples);"
    " openai-cookbook, Chat_finetuning_data_prep.ipynb (the checks); FineTuneChatRequestInput of the API reference"
    " (the keys); files of at most 512 MB",
    write=_openai,
    breaches=_openai_breaches,
    shape=messages_shape,
    keys=frozenset({"messages", "tools", "parallel_tool_calls", "functions"}),
    min_rows=10,
    max_bytes=512 * MIB,
)

# --- Axolotl -------------------------------------------------------------------------------------

_AXOLOTL_RULES = MessageRules(roles=TOOL_ROLES | {"human", "gpt"})


def _axolotl(conversation: Conversation) -> Row:
    return _chat(conversation, "name", "tool_calls", "tool_call_id")


def _axolotl_breaches(row: Mapping[str, Any]) -> Iterator[str]:
    yield from _messages_of(row, _AXOLOTL_RULES)


AXOLOTL = Format(
    name="axolotl",
    purpose="Axolotl, type chat_template; axolotl.yaml beside it is the part of the config",
    source="docs.axolotl.ai/docs/dataset-formats/conversation.html",
    write=_axolotl,
    breaches=_axolotl_breaches,
    shape=messages_shape,
)

# --- Together ------------------------------------------------------------------------------------

_TOGETHER_RULES = MessageRules(roles=CHAT_ROLES, alternating=True)
_TOGETHER_SHAPES = {
    "messages": ("messages",),
    "instruction": ("prompt", "completion"),
    "preference": ("input", "preferred_output", "non_preferred_output"),
    "text": ("text",),
}


def _together(conversation: Conversation) -> Row:
    if conversation.has_tools:
        raise Unfit("tool calls, which this format cannot carry")
    return {"messages": turns_with(conversation.turns, "weight")}


def _together_shape(row: Mapping[str, Any]) -> str | None:
    return next((name for name, keys in _TOGETHER_SHAPES.items() if all(key in row for key in keys)), None)


def _together_breaches(row: Mapping[str, Any]) -> Iterator[str]:
    shape = _together_shape(row)
    if shape is None:
        yield "none of messages; prompt and completion; input, preferred_output and non_preferred_output; text"
        return
    yield from key_breaches(row, _TOGETHER_SHAPES[shape])
    if shape == "messages":
        yield from message_breaches(row["messages"], _TOGETHER_RULES)
    elif shape == "preference":
        yield from _together_preference(row)
    else:
        for key in _TOGETHER_SHAPES[shape]:
            yield from text_breaches(row[key], key)


def _together_preference(row: Mapping[str, Any]) -> Iterator[str]:
    asked = row["input"].get("messages") if isinstance(row["input"], dict) else None
    yield from message_breaches(asked, MessageRules(roles=CHAT_ROLES, has_assistant=False), "input.messages")
    for key in ("preferred_output", "non_preferred_output"):
        yield from message_breaches(row[key], MessageRules(roles={"assistant"}), key)
        if isinstance(row[key], list) and len(row[key]) > 1:
            yield f"{key}: more than one message"


TOGETHER = Format(
    name="together",
    purpose="Together fine-tuning",
    source="docs.together.ai/docs/fine-tuning/data-preparation; together-python, utils/files.py (refuses further keys)",
    write=_together,
    breaches=_together_breaches,
    shape=_together_shape,
    max_bytes=100 * GB,
)

# --- Mistral -------------------------------------------------------------------------------------

_CALL_ID = re.compile("[a-zA-Z0-9]{9}")
_MISTRAL_RULES = MessageRules(last="assistant", call_id=_CALL_ID)
_AFTER = {
    "system": {"user", "assistant", "system"},
    "user": {"assistant", "system", "user"},
    "assistant": {"assistant", "user", "tool"},
    "tool": {"assistant", "tool", "user"},
}


def _mistral(conversation: Conversation) -> Row:
    return _chat(conversation, "name", "tool_calls", "tool_call_id", "weight")


def _mistral_breaches(row: Mapping[str, Any]) -> Iterator[str]:
    yield from _messages_of(row, _MISTRAL_RULES)
    messages = row.get("messages")
    if not isinstance(messages, list):
        return
    turns = [message for message in messages if isinstance(message, dict) and isinstance(message.get("role"), str)]
    for before, after in pairwise(turns):
        if before["role"] in _AFTER and after["role"] not in _AFTER[before["role"]]:
            yield f"messages: {after['role']} after {before['role']}"
    if [turn["role"] for turn in turns] == ["assistant"]:
        yield "messages: an assistant message alone; a conversation starts with the user or the system"
    if not _are_calls_answered(turns):
        yield "messages: not as many tool messages as tool calls before them"
    if sum(turn["role"] == "system" for turn in turns) > 1:
        yield "messages: more than one system message"
    for turn in turns:
        if turn["role"] == "assistant" and turn.get("content") and turn.get("tool_calls"):
            yield "messages: an assistant message with both content and tool_calls"
        if turn["role"] == "tool" and not _CALL_ID.fullmatch(str(turn.get("tool_call_id", ""))):
            yield f"messages: tool_call_id {turn.get('tool_call_id')!r} is not {_CALL_ID.pattern}"


def _are_calls_answered(turns: Sequence[Mapping[str, Any]]) -> bool:
    """Whether each call has its tool message before the assistant speaks again; calls at the very end may wait."""
    waiting = 0
    for turn in turns[1:]:
        if turn["role"] == "tool":
            waiting -= 1
        elif turn["role"] == "assistant":
            if waiting:
                return False
            calls = turn.get("tool_calls")
            waiting = len(calls) if isinstance(calls, list) else 0
    return waiting >= 0


MISTRAL = Format(
    name="mistral",
    purpose="Mistral fine-tuning (La Plateforme, mistral-finetune)",
    source="docs.mistral.ai/capabilities/finetuning/text_vision_finetuning; mistral-finetune, data/tokenize.py, and"
    " mistral-common, instruct/validator.py in mode finetuning; files of at most 512 MB",
    write=_mistral,
    breaches=_mistral_breaches,
    shape=messages_shape,
    keys=frozenset({"messages", "tools", "available_tools", "system_prompt", "only_last"}),
    max_bytes=512 * MIB,
)

# --- plain ---------------------------------------------------------------------------------------

_JSONL_RULES = MessageRules()


def _jsonl_breaches(row: Mapping[str, Any]) -> Iterator[str]:
    yield from _messages_of(row, _JSONL_RULES)


JSONL = Format(
    name="jsonl",
    purpose="plain chat JSON Lines, as dataset.jsonl has them",
    source="the lines of dataset.jsonl",
    write=_openai,
    breaches=_jsonl_breaches,
    shape=messages_shape,
)

PARQUET = Format(
    name="parquet",
    purpose="Parquet with a column of messages, for datasets and the hub (extra parquet)",
    source="huggingface.co/docs/datasets: list of struct role, content",
    write=_plain,
    breaches=_jsonl_breaches,
    shape=messages_shape,
    suffix=".parquet",
)
