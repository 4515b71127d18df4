"""The request body, in the spelling that the endpoint understands.

Servers differ in how they want the same thing said. What one refuses in so many words is said otherwise from then on,
and remembered in a `Dialect` (`endpoint.negotiation`); keys of answers do not depend on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from synth_async.records import ChatRequest, ResponseFormat

__all__ = ["LADDER", "Dialect", "adapted", "format_sent", "request_body"]

LADDER: tuple[ResponseFormat, ...] = ("json_schema", "json_object", "text")
"""Ways to ask for JSON, each for servers that refuse the one before. The prompts ask for it in words in any case."""

_IN_WORDS: Mapping[ResponseFormat, str] = {
    "json_schema": "JSON is asked for by its schema",
    "json_object": "no schema is understood, JSON is asked for as an object of any kind",
    "text": "response_format is not understood, JSON is asked for in words only",
}
_FORMAT_WORDS = ("response_format", "json_object", "json_schema", "json schema", "structured output", "grammar")
_ABOUT_THE_ANSWER = ("json_validate_failed", "failed_generation")
"""Groq's words for an answer that did not come out as JSON: the next one may."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What the endpoint has been found to accept. `response_format` is the most that is sent where JSON is wanted."""

    response_format: ResponseFormat = "json_schema"
    max_tokens_name: str = "max_tokens"
    temperature: bool = True

    def plainer(self) -> Dialect | None:
        """The dialect that asks for JSON in the next plainer way; None where it is asked for in words already."""
        below = LADDER[LADDER.index(self.response_format) + 1 :]
        return replace(self, response_format=below[0]) if below else None

    def describe(self, before: Dialect) -> str:
        """What is said otherwise than `before`, for the log; empty when nothing is."""
        found = []
        if self.response_format != before.response_format:
            found.append(_IN_WORDS[self.response_format])
        if self.max_tokens_name != before.max_tokens_name:
            found.append(f"max_tokens is spelt {self.max_tokens_name}")
        if self.temperature != before.temperature:
            found.append("temperature is refused, the model's own is used")
        return "; ".join(found)


def format_sent(request: ChatRequest, dialect: Dialect) -> ResponseFormat:
    """The `response_format` of a request in a dialect; `text` is sent by leaving it out."""
    if request.response_format == "text":
        return "text"
    if dialect.response_format == "json_schema" and request.schema is None:
        return "json_object"
    return dialect.response_format


def request_body(request: ChatRequest, *, model: str, dialect: Dialect, extra_body: Mapping[str, Any]) -> bytes:
    """The JSON body of a chat completion request."""
    body: dict[str, Any] = {"model": model, "messages": request.messages}
    if request.temperature is not None and dialect.temperature:
        body["temperature"] = request.temperature
    if request.max_tokens is not None:
        body[dialect.max_tokens_name] = request.max_tokens
    match format_sent(request, dialect):
        case "json_schema" if request.schema is not None:
            schema = {"name": request.schema.name, "strict": True, "schema": request.schema.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        case "json_object":
            body["response_format"] = {"type": "json_object"}
    return orjson.dumps({**body, **extra_body})


def adapted(dialect: Dialect, message: str) -> Dialect | None:
    """The dialect that takes a refusal's words into account, or None when they name nothing that we can change."""
    words = message.lower()
    if any(mark in words for mark in _ABOUT_THE_ANSWER):
        return None
    # vLLM names both spellings when the amount is too large for the model: another spelling does not help that.
    if "max_completion_tokens" in words and "too large" not in words and dialect.max_tokens_name == "max_tokens":
        return replace(dialect, max_tokens_name="max_completion_tokens")
    if any(name in words for name in _FORMAT_WORDS) and (plainer := dialect.plainer()) is not None:
        return plainer
    if "temperature" in words and dialect.temperature:
        return replace(dialect, temperature=False)
    return None
