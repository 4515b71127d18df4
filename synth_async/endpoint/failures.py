"""Every way in which an exchange can fail, mapped once: from statuses, headers and bodies to who must act.

Messages are built from the status and the server's own error text only. No header and no `repr` of a transport error goes
into them, because those can hold the Authorization header.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from synth_async.errors import EndpointRefused, RateLimited, RequestRejected, SynthAsyncError, TransientFailure

__all__ = ["error_text", "failure_of", "retry_hint_s"]

LONGEST_HINT_S = 24 * 3600.0
_QUOTA = ("insufficient_quota", "billing_hard_limit", "exceeded your current quota", "insufficient credits")
_IN_TEXT = re.compile(r"(?:try again|retry) (?:in|after) (?:(\d+)m(?!s))? ?(?:(\d+(?:\.\d+)?) ?(ms|s))?", re.IGNORECASE)
_REQUESTED = re.compile(r"limit:? ([\d,]+).{0,40}?requested:? ([\d,]+)", re.IGNORECASE | re.DOTALL)


def error_text(body: bytes) -> str:
    """The server's own words, in one line of at most 300 characters; empty when there are none."""
    try:
        found: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        # A proxy's HTML page says nothing that helps.
        return "" if b"<" in body[:200] else _one_line(body.decode("utf-8", "replace"))
    if isinstance(found, list) and found:
        found = found[0]
    while isinstance(found, dict) and isinstance(found.get("error"), dict):
        found = found["error"]
    if isinstance(found, dict):
        parts = [found.get("code"), found.get("type"), found.get("message") or found.get("error") or found.get("detail")]
        return _one_line(": ".join(str(part) for part in dict.fromkeys(parts) if part))
    return _one_line(str(found))


def _one_line(text: str) -> str:
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:300]


def failure_of(status: int, headers: Mapping[str, str], body: bytes, *, endpoint: str, now_s: float) -> SynthAsyncError:
    """The error that a response which is not a 2xx stands for. `now_s` is the wall clock, for hints that are dates."""
    text = error_text(body)
    said = f"HTTP {status}" + (f": {text}" if text else "")
    hint_s = retry_hint_s(headers, text, now_s=now_s)
    if any(mark in text.lower() for mark in _QUOTA) and status in (402, 403, 429):
        return EndpointRefused(f"endpoint {endpoint}: the quota is used up ({said})")
    if status == 429:
        if _is_larger_than_the_limit(text):
            return RequestRejected(said, status=status)
        return RateLimited(said, hint_s=hint_s)
    if status in (401, 402, 403):
        return EndpointRefused(f"endpoint {endpoint}: access refused ({said}); check the key and what it may use")
    if status in (404, 405):
        return EndpointRefused(f"endpoint {endpoint}: no such model or address ({said}); check model and base_url")
    if 300 <= status < 400:
        return EndpointRefused(f"endpoint {endpoint}: redirects elsewhere ({said}); set base_url to the final address")
    if status >= 500 or status in (408, 409, 425):
        return TransientFailure(said, kind=f"http_{status}", hint_s=hint_s)
    return RequestRejected(said, status=status)


def _is_larger_than_the_limit(text: str) -> bool:
    """Whether the one request asks for more than the whole limit, so that no waiting helps."""
    amounts = _REQUESTED.search(text)
    if amounts is None:
        return "request too large" in text.lower()
    limit, requested = (int(amount.replace(",", "")) for amount in amounts.groups())
    return requested > limit


def retry_hint_s(headers: Mapping[str, str], text: str, *, now_s: float) -> float | None:
    """How long the server asks us to wait, in seconds; from `retry-after-ms`, `retry-after`, or its words."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        if (value := headers.get(name)) is not None:
            seconds = _number(value)
            wait = seconds * scale if seconds is not None else _until_date(value, now_s)
            if wait is not None:
                return _sane(wait)
    found = _IN_TEXT.search(text)
    if found is None or not any(found.groups()):
        return None
    minutes, amount, unit = found.groups()
    return _sane(60.0 * int(minutes or 0) + float(amount or 0) * (0.001 if unit == "ms" else 1.0))


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _until_date(value: str, now_s: float) -> float | None:
    try:
        return parsedate_to_datetime(value).timestamp() - now_s
    except (ValueError, TypeError, OverflowError):
        return None


def _sane(wait_s: float) -> float:
    return min(LONGEST_HINT_S, max(0.0, wait_s))
