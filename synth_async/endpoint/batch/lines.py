"""The lines of batch files: OpenAI's format, which vLLM's `run-batch` reads and writes as well.

    input     {"custom_id": "...", "method": "POST", "url": "/v1/chat/completions", "body": {...}}
    result    {"custom_id": "...", "response": {"status_code": 200, "body": {...}} | null, "error": {...} | null}

A request goes by its key; where it is asked once more under the same key, by the key and the number of the attempt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from synth_async.endpoint.failures import error_text, failure_of
from synth_async.errors import SynthAsyncError, TransientFailure
from synth_async.records import ChatRequest

__all__ = [
    "CHAT_URL",
    "ResultLine",
    "custom_id_of",
    "failure_of_line",
    "key_and_attempt",
    "line_id",
    "read_result",
    "request_line",
]

CHAT_URL: Final = "/v1/chat/completions"
NOT_EXECUTED = 0
"""Stands for a status where a line was never sent to the model."""

_CUSTOM_ID = re.compile(r"([0-9a-f]{32})(?:-([1-9][0-9]{0,3}))?")


@dataclass(frozen=True, slots=True)
class ResultLine:
    """What became of one line: the HTTP status and the body, or `NOT_EXECUTED` with the code of the error."""

    custom_id: str
    status: int
    body: bytes
    code: str = ""


def custom_id_of(request: ChatRequest) -> str:
    """The name of a request within a batch: 32 to 37 characters of [0-9a-f-], where OpenAI allows 64."""
    return line_id(request.key, request.attempt)


def line_id(key: str, attempt: int) -> str:
    """The name of the answer number `attempt` under a key."""
    return key if attempt == 1 else f"{key}-{attempt}"


def key_and_attempt(custom_id: str) -> tuple[str, int] | None:
    """What `custom_id_of` was made from; None for what it did not make."""
    found = _CUSTOM_ID.fullmatch(custom_id)
    return (found[1], int(found[2] or 1)) if found is not None else None


def request_line(custom_id: str, body: bytes) -> bytes:
    """One line of an input file, its LF included. `body` is JSON on one line."""
    return b'{"custom_id":"%b","method":"POST","url":"%b","body":%b}\n' % (custom_id.encode(), CHAT_URL.encode(), body)


def read_result(line: bytes) -> ResultLine | None:
    """One line of an output or error file; None for one that names no request: its request counts as not answered."""
    try:
        fields = _parsed(line)
    except ValueError:
        return None
    custom_id = fields.get("custom_id") if isinstance(fields, dict) else None
    if not isinstance(custom_id, str):
        return None
    response, error = fields.get("response"), fields.get("error")
    if isinstance(response, dict):
        return _executed(custom_id, response, error)
    return ResultLine(custom_id, NOT_EXECUTED, _dumped({"error": error}), _code(error))


def _executed(custom_id: str, response: Mapping[str, Any], error: Any) -> ResultLine:
    status, body = response.get("status_code"), response.get("body")
    if status is None and body is None and "choices" in response:
        return ResultLine(custom_id, 200, _dumped(response))  # the completion itself, without what OpenAI puts around
    if isinstance(body, str):
        raw = body.encode("utf-8", "surrogatepass")
    elif body is not None:
        raw = _dumped(body)
    else:
        raw = _dumped({"error": error})
    if not isinstance(status, int) or isinstance(status, bool):
        status = NOT_EXECUTED if error else 200
    if 200 <= status < 300 and body is None:
        status = NOT_EXECUTED
    return ResultLine(custom_id, status, raw, _code(error))


def failure_of_line(line: ResultLine, *, endpoint: str, now_s: float) -> SynthAsyncError | None:
    """The error that a line stands for, as it would have been online; None for an answer."""
    if 200 <= line.status < 300:
        return None
    if line.status != NOT_EXECUTED:
        return failure_of(line.status, {}, line.body, endpoint=endpoint, now_s=now_s)
    said = error_text(line.body)
    return TransientFailure(f"not answered in the batch{f': {said}' if said else ''}", kind=line.code or "batch_line")


def _code(error: Any) -> str:
    """The code of an error, in [a-z0-9_]; empty where there is none."""
    code = error.get("code") if isinstance(error, dict) else None
    return re.sub(r"[^a-z0-9_]", "_", str(code).lower())[:40] if code else ""


def _parsed(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return json.loads(line)  # takes lone surrogates and NaN, as the journal does; raises ValueError


def _dumped(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value).encode()
