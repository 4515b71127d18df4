"""A row of any chat shape as one conversation: what every export starts from.

Shapes: `messages`; ShareGPT's `conversations` (from / value) with `system` and `tools`; `prompt` with `completion`,
`response`, or `chosen` and `rejected`, as texts or as messages; `chosen` and `rejected` alone, whose common beginning
is the prompt; alpaca's `instruction`, `input`, `output`, `history`, `system`; OpenAI's `input`, `preferred_output`,
`non_preferred_output`. Text only: a row with an image is not read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

__all__ = ["Conversation", "Turn", "UnreadableRow", "conversation_of_row"]

Turn = Mapping[str, Any]
"""`role` (system, user, assistant, tool) and `content`, a text; `tool_calls`, `tool_call_id`, `name`, `weight`."""

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
_CARRIED = ("name", "tool_call_id", "weight")


class UnreadableRow(ValueError):
    """A row that holds no conversation, or no text to compare; the message says why."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """The turns of an example. From `answer_start` on they are the answer; `rejected` is what was worse than it."""

    turns: tuple[Turn, ...]
    answer_start: int
    rejected: tuple[Turn, ...] | None = None
    tools: Sequence[Any] = ()
    id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prompt(self) -> tuple[Turn, ...]:
        return self.turns[: self.answer_start]

    @property
    def answer(self) -> tuple[Turn, ...]:
        return self.turns[self.answer_start :]

    @property
    def has_tools(self) -> bool:
        """Whether anything in it is said to a tool or by one."""
        return bool(self.tools) or any(turn["role"] == "tool" or turn.get("tool_calls") for turn in self.turns)

    def texts(self, *roles: str) -> tuple[str, ...]:
        """The contents that are not empty, of these roles; without any, of all but the system message."""
        wanted = roles or ("user", "assistant", "tool")
        return tuple(turn["content"] for turn in self.turns if turn["role"] in wanted and turn["content"].strip())


def conversation_of_row(row: object) -> Conversation:
    """The conversation in a row; raises `UnreadableRow`, which says what is missing or cannot be read."""
    if not isinstance(row, dict):
        raise UnreadableRow("not a JSON object")
    prompt, answer, rejected = _sides(row)
    turns = [*prompt, *answer]
    if not any(turn["role"] != "system" for turn in turns):
        raise UnreadableRow("no turns in it")
    system = row.get("system")
    if isinstance(system, str) and system.strip() and turns[0]["role"] != "system":
        turns.insert(0, {"role": "system", "content": system})
    metadata = row.get("metadata")
    identity = row.get("id")
    return Conversation(
        turns=tuple(turns),
        answer_start=len(turns) - len(answer) if answer else _answer_start(turns),
        rejected=tuple(rejected) or None,
        tools=_tools(row.get("tools")),
        id=str(identity) if isinstance(identity, str | int) else None,
        metadata=metadata if isinstance(metadata, dict) else {},
    )


Sides = tuple[list[Turn], list[Turn], list[Turn]]
"""Prompt, answer, rejected answer; an empty answer where the prompt holds the whole conversation."""


def _sides(row: dict[str, Any]) -> Sides:
    for key in ("messages", "conversations"):
        if row.get(key) is not None:
            return _turns(row[key], "user"), _answer_of(row, "chosen"), _answer_of(row, "rejected")
    if row.get("preferred_output") is not None and isinstance(row.get("input"), dict):
        asked = _turns(row["input"].get("messages"), "user")
        return asked, _answer_of(row, "preferred_output"), _answer_of(row, "non_preferred_output")
    if row.get("instruction") is not None:
        return _alpaca(row)
    for key in ("chosen", "completion", "response"):
        if row.get(key) is not None:
            return _pair(row, key)
    if row.get("prompt") is not None:
        raise UnreadableRow("a prompt without completion, chosen or response")
    raise UnreadableRow("none of messages, conversations, instruction, prompt, chosen")


def _pair(row: dict[str, Any], key: str) -> Sides:
    answer, rejected = _answer_of(row, key), _answer_of(row, "rejected")
    if row.get("prompt") is not None:
        return _turns(row["prompt"], "user"), answer, rejected
    if not isinstance(row[key], list):
        raise UnreadableRow(f"{key} without a prompt")
    # the prompt is implicit: what both begin with, and in any case what comes before the last turn
    pairs = zip(answer[:-1], rejected[:-1] or answer[:-1], strict=False)
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return answer[:common], answer[common:], rejected[common:]


def _alpaca(row: dict[str, Any]) -> Sides:
    history = row.get("history") or []
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise UnreadableRow("history is not a list of pairs")
    before = [turn for asked, said in history for turn in (_text_turn(asked, "user"), _text_turn(said, "assistant"))]
    asked = [_text(row["instruction"]), _text(row.get("input"))]
    question = _text_turn("\n".join(filter(None, asked)), "user")
    key = "chosen" if row.get("chosen") is not None else "output" if row.get("output") is not None else "response"
    if row.get(key) is None:
        raise UnreadableRow("an instruction without an output")
    return [*before, question], _answer_of(row, key), _answer_of(row, "rejected")


def _answer_of(row: dict[str, Any], key: str) -> list[Turn]:
    value = row.get(key)
    return _turns([value] if isinstance(value, dict) else value, "assistant")


def _answer_start(turns: Sequence[Turn]) -> int:
    """Where the last answer begins: at the assistant's last turn, or after the end where somebody else speaks last."""
    return len(turns) - 1 if turns[-1]["role"] == "assistant" else len(turns)


# --- turns ---------------------------------------------------------------------------------------


def _turns(value: object, role: str) -> list[Turn]:
    if value is None:
        return []
    if isinstance(value, str):
        return [_text_turn(value, role)]
    if not isinstance(value, list):
        raise UnreadableRow(f"{type(value).__name__} where a text or a list of messages was expected")
    return [_turn(message) for message in value]


def _text_turn(text: object, role: str) -> Turn:
    return {"role": role, "content": _text(text)}


def _turn(message: object) -> Turn:
    if not isinstance(message, dict):
        raise UnreadableRow(f"{type(message).__name__} where a message was expected")
    named = message.get("role", message.get("from"))
    if not isinstance(named, str):
        raise UnreadableRow("a message without a role")
    if named not in _ROLES:
        raise UnreadableRow(f"a message of the role {named!r}")
    content = _text(message.get("content", message.get("value")))
    if named == "function_call":
        return {"role": "assistant", "content": "", "tool_calls": _calls_of_text(content)}
    turn: dict[str, Any] = {"role": _ROLES[named], "content": content}
    turn |= {key: message[key] for key in _CARRIED if message.get(key) is not None}
    calls = message.get("tool_calls") or ([message["function_call"]] if message.get("function_call") else [])
    if calls:
        turn["tool_calls"] = [call if "function" in call else {"type": "function", "function": call} for call in calls]
    return turn


def _calls_of_text(text: str) -> list[Any]:
    """ShareGPT's `function_call`: the JSON of a call, or of a list of calls."""
    try:
        found = json.loads(text)
    except ValueError:
        raise UnreadableRow("a function_call that is not JSON") from None
    calls = found if isinstance(found, list) else [found]
    if not all(isinstance(call, dict) for call in calls):
        raise UnreadableRow("a function_call that is not a JSON object")
    return [{"type": "function", "function": call} for call in calls]


def _text(content: object) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return _checked(content)
    if not isinstance(content, list):
        raise UnreadableRow(f"content is {type(content).__name__}, neither a text nor a list of parts")
    for part in content:
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise UnreadableRow(f"content holds {kind}; only text can be exported")
    return _checked("\n".join(part["text"] for part in content))


def _checked(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UnreadableRow("a lone surrogate in a text; no trainer can read that") from None
    return text


def _tools(value: object) -> Sequence[Any]:
    """The tools on offer; ShareGPT keeps them as JSON text."""
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except ValueError:
            raise UnreadableRow("tools is not JSON") from None
    return value if isinstance(value, list) else ()
