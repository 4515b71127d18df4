"""Every way in which an exchange can fail, mapped once: from statuses, headers and bodies to who must act.

Messages are built from the status and the server's own error text only. No header and no `repr` of a transport error
goes into them, because those can hold the Authorization header.
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
_SHOWN = 300
_QUOTA = ("insufficient_quota", "billing_hard_limit", "insufficient credits")
_QUOTA_UNLESS_HINTED = "exceeded your current quota"
"""OpenAI's words for an empty account; Gemini's for a limit per minute as well, but then it says how long to wait."""

_REFUSED_INPUT = ("flagged", "moderation")
_DURATION = (
    r"(?:(?P<h>\d+)\s*h(?:ours?)?)?\s*(?:(?P<m>\d+)\s*m(?:in(?:ute)?s?)?(?![a-z]))?\s*"
    r"(?:(?P<s>\d+(?:\.\d+)?)\s*(?P<unit>ms|milliseconds?|s(?:ec(?:ond)?s?)?)(?![a-z]))?"
)
_IN_TEXT = re.compile(rf"(?:try again|retry) (?:in|after) {_DURATION}", re.IGNORECASE)
_ALONE = re.compile(_DURATION, re.IGNORECASE)
_RETRY_DELAY = re.compile(rb'"retryDelay"\s*:\s*"(\d+(?:\.\d+)?)s"')
_REQUESTED = re.compile(r"limit:? (\d[\d,]*).{0,40}?requested:? (\d[\d,]*)", re.IGNORECASE | re.DOTALL)


def error_text(body: bytes) -> str:
    """The server's own words, in one line of at most 300 characters; empty when there are none."""
    return _words(body)[:_SHOWN]


def _words(body: bytes) -> str:
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
        said = found.get("message") or found.get("error") or found.get("detail")
        parts = [found.get("code"), found.get("type"), found.get("param"), said]
        return _one_line(": ".join(dict.fromkeys(str(part) for part in parts if part)))
    return _one_line(str(found))


def _one_line(text: str) -> str:
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def failure_of(status: int, headers: Mapping[str, str], body: bytes, *, endpoint: str, now_s: float) -> SynthAsyncError:
    """The error that a response which is not a 2xx stands for. `now_s` is the wall clock, for hints that are dates."""
    text = _words(body)
    said = f"HTTP {status}" + (f": {text[:_SHOWN]}" if text else "")
    hint_s = retry_hint_s(headers, text, now_s=now_s)
    if hint_s is None and (delay := _RETRY_DELAY.search(body)):
        hint_s = _sane(float(delay[1]))
    if status in (402, 403, 429) and _is_out_of_quota(text.lower(), hint_s):
        return EndpointRefused(f"endpoint {endpoint}: the quota is used up ({said})")
    if status == 429:
        if _is_larger_than_the_limit(text):
            return RequestRejected(said, status=status)
        return RateLimited(said, hint_s=hint_s)
    if status == 403 and any(mark in text.lower() for mark in _REFUSED_INPUT):
        return RequestRejected(said, status=status)
    if status in (401, 402, 403):
        return EndpointRefused(f"endpoint {endpoint}: access refused ({said}); check the key and what it may use")
    if status in (404, 405):
        return EndpointRefused(
            f"endpoint {endpoint}: no such model or address ({said}); check model and base_url (most end in /v1)"
        )
    if 300 <= status < 400:
        return EndpointRefused(f"endpoint {endpoint}: redirects elsewhere ({said}); set base_url to the final address")
    if status >= 500 or status in (408, 409, 425, 498, 499):
        return TransientFailure(said, kind=f"http_{status}", hint_s=hint_s)
    return RequestRejected(said, status=status)


def _is_out_of_quota(text: str, hint_s: float | None) -> bool:
    return any(mark in text for mark in _QUOTA) or (hint_s is None and _QUOTA_UNLESS_HINTED in text)


def _is_larger_than_the_limit(text: str) -> bool:
    """Whether the one request asks for more than the whole limit, so that no waiting helps."""
    amounts = _REQUESTED.search(text)
    if amounts is None:
        return "request too large" in text.lower()
    limit, requested = (int(amount.replace(",", "")) for amount in amounts.groups())
    return requested > limit


def retry_hint_s(headers: Mapping[str, str], text: str, *, now_s: float) -> float | None:
    """How long the server asks us to wait, in seconds; from `retry-after-ms`, `retry-after`, or its words.

    None where it gave no span that lies ahead: 0, negative and past ones would mean asking again at once, for ever.
    """
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        if (value := headers.get(name)) is not None:
            number = _number(value)
            wait_s = number * scale if number is not None else _duration_s(_ALONE.fullmatch(value.strip()))
            wait_s = _sane(_until_date(value, now_s) if wait_s is None else wait_s)
            if wait_s is not None:
                return wait_s
    return _sane(_duration_s(_IN_TEXT.search(text)))


def _duration_s(found: re.Match[str] | None) -> float | None:
    """Seconds of `1h2m`, `6m0s`, `17ms`, `2 minutes`; None for anything else."""
    if found is None or not any(found.groups()):
        return None
    scale = 0.001 if (found["unit"] or "s").lower().startswith("m") else 1.0
    return 3600.0 * int(found["h"] or 0) + 60.0 * int(found["m"] or 0) + scale * float(found["s"] or 0)


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


def _sane(wait_s: float | None) -> float | None:
    return min(LONGEST_HINT_S, wait_s) if wait_s is not None and wait_s > 0 else None
