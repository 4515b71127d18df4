"""What is checked in more than one format: lists of messages, and the words for what is wrong with them.

A check yields breaches, each a sentence that stands after `file:line: `. It takes whatever JSON can hold.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["MessageRules", "key_breaches", "message_breaches", "text_breaches"]

CHAT_ROLES = frozenset({"system", "user", "assistant"})
TOOL_ROLES = CHAT_ROLES | {"tool"}


@dataclass(frozen=True, slots=True)
class MessageRules:
    """What a target asks of a list of messages.

    `keys`: the only ones allowed in a message; None allows any. `alternating`: an optional system message, then user
    and assistant in turn. `last`: the role of the last message. `parts`: the user's content may be a list of parts.
    """

    roles: Collection[str] = TOOL_ROLES
    keys: Collection[str] | None = None
    alternating: bool = False
    last: str | None = None
    has_assistant: bool = True
    parts: bool = False
    weights: bool = True
    call_id: re.Pattern[str] | None = None


def text_breaches(value: object, name: str, *, may_be_empty: bool = False) -> Iterator[str]:
    """What keeps a value from being a text."""
    if not isinstance(value, str):
        yield f"{name} is {_kind(value)}, not a text"
    elif not may_be_empty and not value.strip():
        yield f"{name} is empty"


def key_breaches(row: Mapping[str, Any], allowed: Collection[str]) -> Iterator[str]:
    """The keys that a target does not know."""
    for key in row:
        if key not in allowed:
            yield f"unknown key {key!r}"


def message_breaches(messages: object, rules: MessageRules, name: str = "messages") -> Iterator[str]:
    """Everything that is wrong with a list of messages."""
    if not isinstance(messages, list):
        yield f"{name} is {_kind(messages)}, not a list"
        return
    if not messages:
        yield f"{name} is empty"
        return
    for index, message in enumerate(messages):
        for breach in _one_message(message, rules):
            yield f"{name}[{index}]: {breach}"
    roles = [message.get("role") if isinstance(message, dict) else None for message in messages]
    yield from _order(roles, rules, name)


def _order(roles: Sequence[Any], rules: MessageRules, name: str) -> Iterator[str]:
    if rules.has_assistant and "assistant" not in roles:
        yield f"{name}: no assistant message"
    if rules.alternating:
        spoken = roles[1:] if roles[0] == "system" else roles
        for index, role in enumerate(spoken):
            expected = ("user", "assistant")[index % 2]
            if role != expected and not (role == "tool" and expected == "user"):
                yield f"{name}: {role} where {expected} was expected: user and assistant have to alternate"
                break
    if rules.last is not None and roles[-1] != rules.last:
        yield f"{name}: the last message is from {roles[-1]}, not from {rules.last}"


def _one_message(message: object, rules: MessageRules) -> Iterator[str]:
    if not isinstance(message, dict):
        yield f"{_kind(message)} where a message was expected"
        return
    role = message.get("role")
    if "role" not in message:
        yield "no role"
    elif not isinstance(role, str) or role not in rules.roles:
        yield f"role {role!r} is not one of {', '.join(sorted(rules.roles))}"
    if rules.keys is not None:
        yield from key_breaches(message, rules.keys)
    yield from _content(message, rules)
    if rules.weights and message.get("weight") is not None:
        yield from _weight(message)
    yield from _calls(message, rules)


def _content(message: Mapping[str, Any], rules: MessageRules) -> Iterator[str]:
    content = message.get("content")
    if message.get("tool_calls") or message.get("function_call"):
        if content is not None:
            yield from text_breaches(content, "content", may_be_empty=True)
    elif "content" not in message:
        yield "no content"
    elif rules.parts and message.get("role") == "user" and isinstance(content, list):
        if not content or not all(isinstance(part, dict) and isinstance(part.get("type"), str) for part in content):
            yield "content is a list of something else than parts with a type"
    else:
        yield from text_breaches(content, "content", may_be_empty=message.get("role") == "tool")


def _weight(message: Mapping[str, Any]) -> Iterator[str]:
    weight = message["weight"]
    if type(weight) is not int or weight not in {0, 1}:
        yield f"weight is {weight!r}, neither 0 nor 1"
    elif message.get("role") != "assistant":
        yield f"weight on a message from {message.get('role')}; only the assistant's have one"


def _calls(message: Mapping[str, Any], rules: MessageRules) -> Iterator[str]:
    calls = message.get("tool_calls")
    if calls is None:
        return
    if message.get("role") != "assistant":
        yield f"tool_calls on a message from {message.get('role')}"
    if not isinstance(calls, list):
        yield f"tool_calls is {_kind(calls)}, not a list"
        return
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            yield "a tool call without function.name"
        elif rules.call_id is not None and not rules.call_id.fullmatch(str(call.get("id", ""))):
            yield f"tool call id {call.get('id')!r} is not {rules.call_id.pattern}"


def _kind(value: object) -> str:
    """What JSON calls the type of a value."""
    kinds = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a text", list: "a list"}
    return kinds.get(type(value), "an object")
