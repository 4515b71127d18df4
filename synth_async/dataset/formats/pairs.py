"""Formats that set the prompt apart from the answer: TRL's types, alpaca, ShareGPT."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from synth_async.dataset.formats.base import Format, Row, Unfit, turns_with
from synth_async.dataset.formats.rules import MessageRules, message_breaches, text_breaches
from synth_async.stages.conversations import Conversation, Turn

__all__ = ["ALPACA", "SHAREGPT", "TRL_DPO", "TRL_PROMPT_COMPLETION", "TRL_SFT"]

# --- TRL -----------------------------------------------------------------------------------------

_TRL_SOURCE = "huggingface.co/docs/trl/dataset_formats"
_TRL_KEYS = ("name", "tool_calls", "tool_call_id")
_PROMPT = MessageRules(has_assistant=False)
_ANSWER = MessageRules()
_TRL_SHAPES = {"prompt-completion": ("prompt", "completion"), "messages": ("messages",), "text": ("text",)}


def _with_tools(row: Row, conversation: Conversation) -> Row:
    if conversation.tools:
        row["tools"] = list(conversation.tools)
    return row


def _answered(conversation: Conversation) -> Conversation:
    if not conversation.prompt or not conversation.answer:
        raise Unfit("no assistant message at the end, so there is no answer to a prompt")
    return conversation


def _trl_sft(conversation: Conversation) -> Row:
    return _with_tools({"messages": turns_with(conversation.turns, *_TRL_KEYS)}, conversation)


def _trl_prompt_completion(conversation: Conversation) -> Row:
    _answered(conversation)
    sides = {"prompt": conversation.prompt, "completion": conversation.answer}
    return _with_tools({name: turns_with(turns, *_TRL_KEYS) for name, turns in sides.items()}, conversation)


def _trl_dpo(conversation: Conversation) -> Row:
    if conversation.rejected is None:
        raise Unfit("no rejected answer, so there is no preference in it")
    _answered(conversation)
    sides = {"prompt": conversation.prompt, "chosen": conversation.answer, "rejected": conversation.rejected}
    return _with_tools({name: turns_with(turns, *_TRL_KEYS) for name, turns in sides.items()}, conversation)


def _trl_sft_shape(row: Mapping[str, Any]) -> str | None:
    shape = next((name for name, keys in _TRL_SHAPES.items() if all(key in row for key in keys)), None)
    return shape if shape is None or shape == "text" else f"{shape} of {_kinds(row, _TRL_SHAPES[shape])}"


def _trl_sft_breaches(row: Mapping[str, Any]) -> Iterator[str]:
    if "prompt" in row and "completion" in row:
        yield from _sides(row, ("prompt", "completion"))
    elif "messages" in row:
        yield from message_breaches(row["messages"], _ANSWER)
    elif "text" in row:
        yield from text_breaches(row["text"], "text")
    else:
        yield "none of messages; prompt and completion; text"


def _trl_dpo_shape(row: Mapping[str, Any]) -> str | None:
    keys = [key for key in ("prompt", "chosen", "rejected") if key in row]
    return f"{', '.join(keys)} of {_kinds(row, keys)}" if "chosen" in keys and "rejected" in keys else None


def _trl_dpo_breaches(row: Mapping[str, Any]) -> Iterator[str]:
    missing = [key for key in ("chosen", "rejected") if key not in row]
    if missing:
        yield f"no {' and no '.join(missing)}"
        return
    yield from _sides(row, ("prompt", "chosen", "rejected") if "prompt" in row else ("chosen", "rejected"))
    if row["chosen"] == row["rejected"]:
        yield "chosen and rejected are the same"


def _sides(row: Mapping[str, Any], keys: Sequence[str]) -> Iterator[str]:
    """All sides are texts, or all are lists of messages."""
    kinds = {type(row[key]) for key in keys}
    if len(kinds) > 1:
        yield f"{', '.join(keys)} are not of one kind: all texts, or all lists of messages"
        return
    for key in keys:
        if isinstance(row[key], str):
            yield from text_breaches(row[key], key)
        else:
            yield from message_breaches(row[key], _PROMPT if key == "prompt" else _ANSWER, key)


def _kinds(row: Mapping[str, Any], keys: Sequence[str]) -> str:
    return "texts" if all(isinstance(row[key], str) for key in keys) else "messages"


TRL_SFT = Format(
    name="trl-sft",
    purpose="TRL SFTTrainer: messages",
    source=_TRL_SOURCE,
    write=_trl_sft,
    breaches=_trl_sft_breaches,
    shape=_trl_sft_shape,
)
TRL_PROMPT_COMPLETION = Format(
    name="trl-prompt-completion",
    purpose="TRL SFTTrainer: prompt and completion, with the loss on the completion",
    source=_TRL_SOURCE,
    write=_trl_prompt_completion,
    breaches=_trl_sft_breaches,
    shape=_trl_sft_shape,
)
TRL_DPO = Format(
    name="trl-dpo",
    purpose="TRL DPOTrainer: prompt, chosen, rejected",
    source=_TRL_SOURCE,
    write=_trl_dpo,
    breaches=_trl_dpo_breaches,
    shape=_trl_dpo_shape,
)

# --- alpaca --------------------------------------------------------------------------------------

_LLAMA_FACTORY = "github.com/hiyouga/LLaMA-Factory, data/README.md"


def _exchanges(conversation: Conversation) -> tuple[str, list[tuple[str, str]]]:
    """The system message and the pairs of question and answer; raises `Unfit` for any other order."""
    if conversation.has_tools:
        raise Unfit("tool calls, which this format cannot carry")
    turns = [dict(turn) for turn in turns_with(conversation.turns)]
    system = turns.pop(0)["content"] if turns[0]["role"] == "system" else ""
    expected = ["user", "assistant"] * (len(turns) // 2)
    if not turns or [turn["role"] for turn in turns] != expected:
        raise Unfit("user and assistant do not alternate, beginning with the user and ending with the assistant")
    return system, list(zip(*(iter(turn["content"] for turn in turns),) * 2, strict=True))


def _alpaca(conversation: Conversation) -> Row:
    # every row has every key: the loader asks for each column that dataset_info.json names
    system, (*history, (question, answer)) = _exchanges(conversation)
    pairs = [list(pair) for pair in history]
    return {"instruction": question, "input": "", "output": answer, "system": system, "history": pairs}


def _alpaca_shape(row: Mapping[str, Any]) -> str | None:
    if "chosen" in row and "rejected" in row:
        return "preference"
    return "instruction" if "output" in row else None


def _alpaca_breaches(row: Mapping[str, Any]) -> Iterator[str]:
    answers = ("chosen", "rejected") if _alpaca_shape(row) == "preference" else ("output",)
    for key in ("instruction", *answers):
        if key not in row:
            yield f"no {key}"
        else:
            yield from text_breaches(row[key], key)
    for key in ("input", "system"):
        if row.get(key) is not None:
            yield from text_breaches(row[key], key, may_be_empty=True)
    history = row.get("history")
    if history is not None and not (isinstance(history, list) and all(_is_pair(pair) for pair in history)):
        yield "history is not a list of pairs of texts"


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(text, str) for text in value)


ALPACA = Format(
    name="alpaca",
    purpose="instruction, input, output, with dataset_info.json for LLaMA-Factory",
    source=_LLAMA_FACTORY,
    write=_alpaca,
    breaches=_alpaca_breaches,
    shape=_alpaca_shape,
)

# --- ShareGPT ------------------------------------------------------------------------------------

_ODD = ("human", "observation")
_EVEN = ("gpt", "function_call")


def _sharegpt(conversation: Conversation) -> Row:
    turns = turns_with(conversation.turns, "tool_calls")
    row: Row = {"conversations": [_said(turn) for turn in turns]}
    if conversation.tools:
        row["tools"] = json.dumps(conversation.tools, ensure_ascii=False)
    return row


def _said(turn: Turn) -> dict[str, str]:
    calls = turn.get("tool_calls")
    if calls:
        if turn["content"].strip() or len(calls) != 1:
            raise Unfit("a turn with several tool calls, or with text beside one")
        return {"from": "function_call", "value": json.dumps(calls[0]["function"], ensure_ascii=False)}
    spoken = {"user": "human", "assistant": "gpt", "tool": "observation", "system": "system"}
    return {"from": spoken[turn["role"]], "value": turn["content"]}


def _sharegpt_shape(row: Mapping[str, Any]) -> str | None:
    if "conversations" not in row:
        return None
    return "preference" if "chosen" in row and "rejected" in row else "conversations"


def _sharegpt_breaches(row: Mapping[str, Any]) -> Iterator[str]:
    turns = row.get("conversations")
    if not isinstance(turns, list) or not turns:
        yield "no conversations" if "conversations" not in row else "conversations is not a list with turns in it"
        return
    for index, turn in enumerate(turns):
        yield from (f"conversations[{index}]: {breach}" for breach in _turn_breaches(turn))
    for key in ("system", "tools"):
        if row.get(key) is not None:
            yield from text_breaches(row[key], key, may_be_empty=True)
    is_preference = _sharegpt_shape(row) == "preference"
    speakers = [turn.get("from") if isinstance(turn, dict) else None for turn in turns]
    yield from _positions(speakers, is_preference=is_preference)
    for key in ("chosen", "rejected") if is_preference else ():
        yield from (f"{key}: {breach}" for breach in _turn_breaches(row[key]))
        if isinstance(row[key], dict) and row[key].get("from") not in _EVEN:
            yield f"{key}: from {row[key].get('from')!r}, not from gpt"


def _turn_breaches(turn: object) -> Iterator[str]:
    if not isinstance(turn, dict):
        yield "no object with from and value"
        return
    for key in ("from", "value"):
        if key not in turn:
            yield f"no {key}"
        else:
            yield from text_breaches(turn[key], key, may_be_empty=turn.get("from") == "observation")


def _positions(speakers: Sequence[object], *, is_preference: bool) -> Iterator[str]:
    """Human and observation stand at odd places, gpt and function_call at even ones; a system message before them."""
    spoken = speakers[1:] if speakers[0] == "system" else speakers
    for index, speaker in enumerate(spoken):
        if speaker not in (_ODD, _EVEN)[index % 2]:
            yield f"conversations: {speaker!r} where {' or '.join((_ODD, _EVEN)[index % 2])} was expected"
            return
    if len(spoken) % 2 != int(is_preference):
        yield f"conversations: ends with {speakers[-1]}, not with {'human' if is_preference else 'gpt'}"


SHAREGPT = Format(
    name="sharegpt",
    purpose="conversations of from and value, with dataset_info.json: LLaMA-Factory, Axolotl",
    source=f"{_LLAMA_FACTORY} and src/llamafactory/data/converter.py",
    write=_sharegpt,
    breaches=_sharegpt_breaches,
    shape=_sharegpt_shape,
)
