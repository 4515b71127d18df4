"""What of a line is compared: the texts of a chat row of any of the common shapes, and the row's own id."""

from __future__ import annotations

import json
from typing import Any

import orjson

from synth_async.stages.conversations import UnreadableRow
from synth_async.stages.dedup import Fields

__all__ = ["id_of_row", "parsed_json", "parsed_row", "parts_of_row"]

_ROLES = {"human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant", "chatgpt": "assistant"}
_INSTRUCTIONS = frozenset({"system", "developer"})
_ANY_ROLE = "text"


def parsed_row(line: bytes) -> dict[str, Any]:
    """The JSON object of a line; raises `UnreadableRow`."""
    row = parsed_json(line)
    if not isinstance(row, dict):
        raise UnreadableRow("not a JSON object")
    return row


def id_of_row(row: dict[str, Any]) -> str | None:
    """The row's `id` as text; None where it has none. Nothing relies on ids: they need not differ."""
    found = row.get("id")
    return str(found) if isinstance(found, str | int) else None


def parts_of_row(row: dict[str, Any], fields: Fields = "both", field: str | None = None) -> tuple[str, ...]:
    """The texts of a row that are compared, without system messages; raises `UnreadableRow` where there are none.

    Shapes: `messages`; ShareGPT's `conversations` (from / value); `prompt` with `completion`, `chosen` or `response`;
    alpaca's `instruction`, `input`, `output`; plain `text`. `field` names one key instead, whatever it holds.
    """
    turns = _turns_of_row(row) if field is None else _turns(_value(row, field), _ANY_ROLE)
    parts = tuple(
        text for role, text in turns if role == _ANY_ROLE or (role not in _INSTRUCTIONS and fields in {"both", role})
    )
    if not parts:
        raise UnreadableRow("no turns to compare" if fields == "both" else f"no {fields} turn to compare")
    return parts


def _turns_of_row(row: dict[str, Any]) -> list[tuple[str, str]]:
    for key in ("messages", "conversations"):
        if row.get(key) is not None:
            return _turns(row[key], _ANY_ROLE)
    if row.get("instruction") is not None:
        # An empty input is how alpaca says that there is none.
        asked = [*_turns(row["instruction"], "user"), *_turns(row.get("input") or None, "user")]
        return asked + _turns(row.get("output", row.get("response")), "assistant")
    answers = [row[key] for key in ("completion", "chosen", "response") if row.get(key) is not None]
    if row.get("prompt") is not None or answers:
        return _turns(row.get("prompt"), "user") + (_turns(answers[0], "assistant") if answers else [])
    if row.get("text") is not None:
        return _turns(row["text"], _ANY_ROLE)
    raise UnreadableRow("none of messages, conversations, instruction, prompt, chosen, text; name the key with --field")


def _value(row: dict[str, Any], field: str) -> object:
    if row.get(field) is None:
        raise UnreadableRow(f"no {field!r}")
    return row[field]


def _turns(value: object, role: str) -> list[tuple[str, str]]:
    """(role, text) of a string, or of a list of messages of either spelling; nothing for None."""
    if value is None:
        return []
    if isinstance(value, str):
        return [(role, value)]
    if not isinstance(value, list):
        raise UnreadableRow(f"{type(value).__name__} where a text or a list of messages was expected")
    return [_turn(message) for message in value]


def _turn(message: object) -> tuple[str, str]:
    if not isinstance(message, dict):
        raise UnreadableRow(f"{type(message).__name__} where a message was expected")
    role = message.get("role", message.get("from"))
    if not isinstance(role, str):
        raise UnreadableRow("a message without a role")
    texts = [_content(message.get("content", message.get("value")))]
    # A call is what such an assistant turn says: without it, all calls after the same question would be equal.
    texts += [json.dumps(message[key], sort_keys=True) for key in ("tool_calls", "function_call") if message.get(key)]
    return _ROLES.get(role, role), " ".join(filter(None, texts))


def _content(content: object) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return " ".join(str(part["text"]) for part in content if isinstance(part, dict) and part.get("text"))
    raise UnreadableRow(f"content is {type(content).__name__}, neither a text nor a list of parts")


def parsed_json(line: bytes) -> object:
    """The JSON of a line, as other tools write it too; raises `UnreadableRow`."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        problem = error
    try:
        # The standard parser takes what orjson refuses and other tools write: a byte order mark, lone surrogates, NaN.
        return json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise UnreadableRow("not UTF-8") from None
    except (ValueError, RecursionError):
        raise UnreadableRow(f"not JSON: {problem.msg} (character {problem.pos + 1})") from None
