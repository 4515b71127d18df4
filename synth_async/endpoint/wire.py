"""The request body, in the spelling that the endpoint understands.

Servers differ in how they want the same thing said. What a server refuses is decided once per endpoint, from its own
words in a 400 or 422, and remembered in a `Dialect`; keys of answers do not depend on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from synth_async.records import ChatRequest

__all__ = ["Dialect", "adapted", "request_body"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """What the endpoint has been found to accept."""

    response_format: bool = True
    max_tokens_name: str = "max_tokens"
    temperature: bool = True

    def describe(self) -> str:
        """The differences from the plain dialect, for the log; empty when there are none."""
        found = []
        if not self.response_format:
            found.append("response_format is not understood, JSON is asked for in words only")
        if self.max_tokens_name != "max_tokens":
            found.append(f"max_tokens is spelt {self.max_tokens_name}")
        if not self.temperature:
            found.append("temperature is refused, the model's own is used")
        return "; ".join(found)


def request_body(request: ChatRequest, *, model: str, dialect: Dialect, extra_body: Mapping[str, Any]) -> bytes:
    """The JSON body of a chat completion request."""
    body: dict[str, Any] = {"model": model, "messages": request.messages}
    if request.temperature is not None and dialect.temperature:
        body["temperature"] = request.temperature
    if request.max_tokens is not None:
        body[dialect.max_tokens_name] = request.max_tokens
    if request.response_format != "text" and dialect.response_format:
        body["response_format"] = {"type": request.response_format}
    return orjson.dumps({**body, **extra_body})


def adapted(dialect: Dialect, message: str) -> Dialect | None:
    """The dialect that takes a refusal's words into account, or None when they name nothing that we can leave out."""
    words = message.lower()
    # vLLM names both spellings when the amount is too large for the model: another spelling does not help that.
    if "max_completion_tokens" in words and "too large" not in words and dialect.max_tokens_name == "max_tokens":
        return replace(dialect, max_tokens_name="max_completion_tokens")
    if ("response_format" in words or "json_object" in words) and dialect.response_format:
        return replace(dialect, response_format=False)
    if "temperature" in words and dialect.temperature:
        return replace(dialect, temperature=False)
    return None
