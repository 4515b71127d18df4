"""Which fault befalls which request: pure draws.

Failures of HTTP depend on the arrival (the n-th request), so that sending the same request again can succeed. Faults of
content depend on the request body, so that the same request always gets the same content. Where a fault has several
kinds they come in turn, so that a handful shows them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from enum import StrEnum

import orjson

from synth_async.config.models import FaultMix

_MASK = (1 << 64) - 1


class TransportFault(StrEnum):
    """A failure of HTTP."""

    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    RESET = "reset"
    HANG = "hang"
    TRUNCATED_BODY = "truncated_body"


class ContentFault(StrEnum):
    """An answer that came well, and is of no use."""

    INVALID_JSON = "invalid_json"
    EMPTY = "empty"
    REFUSAL = "refusal"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class FaultyResponse:
    """A whole response that reports a failure."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def arrival_draw(seed: int, arrival: int) -> float:
    """A number in [0, 1) for the n-th request: splitmix64 (Steele, Lea, Flood 2014) of seed and arrival."""
    state = (seed * 0xD1342543DE82EF95 + (arrival + 1) * 0x9E3779B97F4A7C15) & _MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
    return (state ^ (state >> 31)) / (1 << 64)


def transport_fault(mix: FaultMix, draw: float) -> TransportFault | None:
    """The failure of HTTP that `draw` in [0, 1) falls on, if any."""
    for fault in TransportFault:
        draw -= getattr(mix, fault)
        if draw < 0:
            return fault
    return None


def content_fault(mix: FaultMix, draw: float) -> ContentFault | None:
    """The fault of content that `draw` in [0, 1) falls on, if any."""
    for fault in ContentFault:
        draw -= getattr(mix, fault)
        if draw < 0:
            return fault
    return None


def error_body(message: str, *, kind: str, code: str | None = None, param: str | None = None) -> bytes:
    """A body in OpenAI's error form."""
    return orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})


def rate_limited(turn: int, *, unix_time: float) -> FaultyResponse:
    """A 429 with, in turn: no hint, seconds, an HTTP date, milliseconds, the wait in the text. Waits are <= 2 s."""
    message, headers = "Rate limit reached for simulator.", {}
    match turn % 5:
        case 1:
            headers = {"retry-after": "1"}
        case 2:
            headers = {"retry-after": formatdate(unix_time + 2, usegmt=True)}
        case 3:
            headers = {"retry-after-ms": "350"}
        case 4:
            message += " Please try again in 1.2s."
    body = error_body(message, kind="requests", code="rate_limit_exceeded")
    return FaultyResponse(429, body, headers=headers)


def server_error(turn: int) -> FaultyResponse:
    """In turn: 500 and 502 with HTML bodies, 503 and 529 with JSON."""
    match turn % 4:
        case 0:
            return FaultyResponse(500, _html("500 Internal Server Error"), "text/html")
        case 1:
            return FaultyResponse(502, _html("502 Bad Gateway"), "text/html")
        case 2:
            body = error_body("The server is overloaded or not ready yet.", kind="server_error")
            return FaultyResponse(503, body)
        case _:
            body = orjson.dumps({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
            return FaultyResponse(529, body)


def truncated(turn: int, whole: bytes) -> FaultyResponse:
    """A 200 whose JSON is cut in the middle or, every third time, a 200 that is HTML."""
    if turn % 3 == 2:
        return FaultyResponse(200, _html("Checking your connection"), "text/html")
    return FaultyResponse(200, whole[: max(1, len(whole) * (2 + turn % 3) // 5)])


def _html(title: str) -> bytes:
    return f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>".encode()
