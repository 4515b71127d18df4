"""A chat request as the embedded endpoint understands it, or the 400 that OpenAI would send."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_FORMATS = frozenset({"text", "json_object", "json_schema"})


class InvalidRequest(ValueError):
    """The body breaks the protocol; `param` names the key."""

    def __init__(self, message: str, param: str | None = None) -> None:
        self.param = param
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class ChatBody:
    """The parts of a chat request that shape the answer. `messages` are pairs of role and text."""

    model: str
    messages: tuple[tuple[str, str], ...]
    max_tokens: int | None = None
    n: int = 1
    response_format: str = "text"
    schema: Mapping[str, Any] | None = None
    samples: bool = True
    """Whether the temperature leaves room for chance: then the same body asked again gets another answer."""

    @property
    def texts(self) -> list[str]:
        """The text of every message."""
        return [text for _, text in self.messages]


def parse_chat(body: bytes) -> ChatBody:
    """Read a request body; keys that it does not know are ignored. Raises `InvalidRequest`."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidRequest("We could not parse the JSON body of your request.") from None
    if not isinstance(fields, dict):
        raise InvalidRequest("The body must be a JSON object.")
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("you must provide a model parameter", "model")
    if fields.get("stream"):
        raise InvalidRequest("The simulator does not stream: leave out 'stream'.", "stream")
    _check_number(fields, "temperature", 0, 2)
    _check_number(fields, "top_p", 0, 1)
    messages = _messages(fields.get("messages"))
    kind, schema = _response_format(fields.get("response_format"))
    if kind == "json_object" and not any("json" in text.lower() for _, text in messages):
        raise InvalidRequest(
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
            "messages",
        )
    return ChatBody(
        model,
        messages,
        _max_tokens(fields),
        _whole(fields, "n", 1, 128) or 1,
        response_format=kind,
        schema=schema,
        samples=fields.get("temperature") != 0,
    )


def _messages(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, list) or not value:
        raise InvalidRequest("'messages' must be an array with at least one message.", "messages")
    return tuple(_message(message, f"messages[{index}]") for index, message in enumerate(value))


def _message(value: object, where: str) -> tuple[str, str]:
    if not isinstance(value, dict):
        raise InvalidRequest(f"{where} must be an object.", where)
    role, content = value.get("role"), value.get("content")
    if not isinstance(role, str) or role not in _ROLES:
        raise InvalidRequest(f"Invalid value for {where}.role: {role!r}.", f"{where}.role")
    if isinstance(content, str):
        return role, content
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        return role, "".join(part["text"] for part in content if isinstance(part.get("text"), str))
    if content is None and role == "assistant":
        return role, ""
    raise InvalidRequest(f"Invalid type for {where}.content: expected a string or an array.", f"{where}.content")


def _response_format(value: object) -> tuple[str, Mapping[str, Any] | None]:
    if value is None:
        return "text", None
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(value, dict) or kind not in _FORMATS:
        raise InvalidRequest("Invalid value for 'response_format.type'.", "response_format")
    if kind != "json_schema":
        return str(kind), None
    wrapped = value.get("json_schema")
    schema = wrapped.get("schema") if isinstance(wrapped, dict) else None
    if not isinstance(schema, dict):
        raise InvalidRequest("'response_format.json_schema.schema' is missing.", "response_format.json_schema")
    return "json_schema", schema


def _max_tokens(fields: Mapping[str, Any]) -> int | None:
    old = _whole(fields, "max_tokens", 1, 1_000_000)
    new = _whole(fields, "max_completion_tokens", 1, 1_000_000)
    if old is not None and new is not None:
        raise InvalidRequest(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.", "max_tokens"
        )
    return new if old is None else old


def _whole(fields: Mapping[str, Any], key: str, low: int, high: int) -> int | None:
    value = fields.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidRequest(f"Invalid value for '{key}': expected an integer from {low} to {high}.", key)
    return value


def _check_number(fields: Mapping[str, Any], key: str, low: float, high: float) -> None:
    value = fields.get(key)
    if value is None:
        return
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidRequest(f"Invalid value for '{key}': expected a number from {low} to {high}.", key)
