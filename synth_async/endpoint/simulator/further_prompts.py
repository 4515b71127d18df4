"""Prompts that bring a conversation along: to be written again, to be replied to, or with two replies to compare."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

__all__ = [
    "ComparisonPrompt",
    "ReplyPrompt",
    "Said",
    "conversation_to_rewrite",
    "read_comparison_prompt",
    "read_reply_prompt",
]

Said = tuple[tuple[str, str], ...]
"""Role and text of each turn."""


@dataclass(frozen=True, slots=True)
class ReplyPrompt:
    """Asks for the next reply of a conversation, as plain text. `turns` end with what is to be replied to."""

    instructions: str
    turns: Said


@dataclass(frozen=True, slots=True)
class ComparisonPrompt:
    """Asks which of two replies to a conversation is better."""

    user: str
    replies: tuple[str, str]


_REWRITES = re.compile(
    r"^[ \t]*(?:please )?(?:rewrite|revise|improve) (?:the|this|that) (?:conversation|example|exchange|draft)\b",
    re.IGNORECASE | re.MULTILINE,
)
_REPLIES = re.compile(r"\b(?:reply to|answer) the (?:user|customer|conversation|last message)\b", re.IGNORECASE)
_PAIRS = (("reply_a", "reply_b"), ("response_a", "response_b"), ("answer_a", "answer_b"), ("a", "b"))


def conversation_to_rewrite(text: str) -> Said | None:
    """The conversation that a text brings along and asks to be written again, as JSON on a line of its own."""
    asked = _REWRITES.search(text)
    if asked is None:
        return None
    for line in text[asked.end() :].split("\n"):
        value = _json_in(line)
        turns = _turns(value.get("messages") if isinstance(value, dict) else value)
        if turns:
            return turns
    return None


def read_reply_prompt(messages: Sequence[tuple[str, str]]) -> ReplyPrompt | None:
    """A system message that says to reply, and a conversation that ends with the user; None for anything else."""
    (role, instructions), turns = messages[0], tuple(messages[1:])
    if role not in {"system", "developer"} or not turns or turns[-1][0] != "user" or not _REPLIES.search(instructions):
        return None
    return ReplyPrompt(instructions, turns)


def read_comparison_prompt(text: str) -> ComparisonPrompt | None:
    """The question and both replies, from JSON on a line of its own, where a text asks for a winner."""
    if '"winner"' not in text:
        return None
    for line in text.split("\n"):
        value = _json_in(line)
        if not isinstance(value, dict):
            continue
        for one, two in _PAIRS:
            if isinstance(value.get(one), str) and isinstance(value.get(two), str):
                said = _turns(value.get("conversation")) or (("user", str(value.get("prompt", ""))),)
                user = "\n".join(content for role, content in said if role == "user")
                return ComparisonPrompt(user, (value[one], value[two]))
    return None


def _json_in(line: str) -> Any:
    if not line.startswith(("{", "[")):
        return None
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None


def _turns(value: object) -> Said:
    """Roles and texts of a list of messages; empty where it is none."""
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        return ()
    return tuple((str(turn.get("role")), str(turn.get("content"))) for turn in value)
