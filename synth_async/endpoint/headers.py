"""What an endpoint says about its limits, in every form that providers use: in headers, and in the words of a 429.

    OpenAI, Azure, Groq, Together   x-ratelimit-{limit,remaining,reset}-{requests,tokens}
    Cerebras                        x-ratelimit-{limit,remaining,reset}-{requests-day,tokens-minute}
    Anthropic                       anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}

    OpenAI, Azure, Groq, in the words of a 429: on tokens per min (TPM): Limit 30000, Used 29500, Requested 562

Resets are durations (`6m0s`, `17ms`, `1.5`), RFC 3339 or HTTP dates, or Unix times; limits may be -1 for none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["LimitWindow", "RefusedLimit", "SeenLimits", "read_limits", "read_refusal", "seconds_until"]

DAY_S = 86_400.0
MINUTE_S = 60.0
_PERIOD_S = {"day": DAY_S, "hour": 3600.0, "minute": MINUTE_S}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": DAY_S}
_EARLIEST_UNIX_TIME = 1e9
_NAME = re.compile(
    rb"(?:x-ratelimit-(limit|remaining|reset)-(requests|tokens)(?:-(day|hour|minute))?"
    rb"|anthropic-ratelimit-(requests|tokens)-(limit|remaining|reset))$"
)

_IN_WORDS = re.compile(
    r"\b(?P<kind>requests|tokens) per min(?:ute)?\b.{0,12}?limit:? (?P<limit>\d[\d,]*)"
    r"(?:.{0,40}?requested:? (?P<requested>\d[\d,]*))?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class LimitWindow:
    """One limit as the server described it. `period_s` is known only where the header's name says it."""

    limit: float
    remaining: float | None = None
    reset_s: float | None = None
    period_s: float | None = None


@dataclass(frozen=True, slots=True)
class SeenLimits:
    """The limits that one answer told; None where it told none."""

    requests: LimitWindow | None = None
    tokens: LimitWindow | None = None


@dataclass(frozen=True, slots=True)
class RefusedLimit:
    """What a 429 says in words: the limit per minute that was met, and how much of it the request asked for."""

    kind: str
    limit: float
    requested: float | None

    @property
    def as_seen(self) -> SeenLimits:
        """The limit as headers would tell it."""
        window = LimitWindow(self.limit, period_s=MINUTE_S)
        return SeenLimits(window, None) if self.kind == "requests" else SeenLimits(None, window)


def read_refusal(message: str) -> RefusedLimit | None:
    """The figures in the words of a 429; None where they tell none, or none that are per minute."""
    if (found := _IN_WORDS.search(message)) is None:
        return None
    limit, requested = (float(group.replace(",", "")) if group else None for group in found.group("limit", "requested"))
    return RefusedLimit(found["kind"].lower(), limit, requested) if limit else None


def read_limits(raw_headers: Iterable[tuple[bytes, bytes]], *, now_s: float) -> SeenLimits:
    """The limits in the headers of an answer; what cannot be read is passed over. `now_s` is the wall clock."""
    found: dict[tuple[str, float | None], dict[str, float]] = {}
    for name, value in raw_headers:
        if b"ratelimit" not in name.lower() or (match := _NAME.match(name.lower())) is None:
            continue
        part, kind, period, other_kind, other_part = (group.decode() if group else "" for group in match.groups())
        number = _read(part or other_part, value.decode("latin-1").strip(), now_s)
        if number is not None:
            found.setdefault((kind or other_kind, _PERIOD_S.get(period)), {})[part or other_part] = number
    return SeenLimits(_shortest(found, "requests"), _shortest(found, "tokens"))


def _shortest(found: dict[tuple[str, float | None], dict[str, float]], kind: str) -> LimitWindow | None:
    """Some servers tell a limit per minute and one per day: requests are paced by the shorter period."""
    windows = (_window(parts, period_s) for (its_kind, period_s), parts in found.items() if its_kind == kind)
    return min((one for one in windows if one is not None), key=lambda one: one.period_s or MINUTE_S, default=None)


def _window(parts: dict[str, float], period_s: float | None) -> LimitWindow | None:
    if parts.get("limit", 0.0) <= 0:
        return None
    remaining = parts.get("remaining")
    known = None if remaining is None or remaining < 0 else remaining
    return LimitWindow(parts["limit"], known, parts.get("reset"), period_s)


def _read(part: str, value: str, now_s: float) -> float | None:
    if part == "reset":
        return seconds_until(value, now_s=now_s)
    try:
        number = float(value.replace(",", ""))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def seconds_until(value: str, *, now_s: float) -> float | None:
    """Seconds that a reset leaves, never negative; None when it cannot be read."""
    compact = value.replace(" ", "")
    if (parts := _PART.findall(compact)) and "".join(map("".join, parts)) == compact:
        span_s = float(sum(float(amount) * _UNIT_S[unit] for amount, unit in parts))
        return span_s if math.isfinite(span_s) else None
    try:
        number = float(compact)
    except ValueError:
        return _until_date(value, now_s)
    if not math.isfinite(number) or number < 0:
        return None
    if number > _EARLIEST_UNIX_TIME * 1000:
        number /= 1000
    return max(0.0, number - now_s) if number > _EARLIEST_UNIX_TIME else number


def _until_date(value: str, now_s: float) -> float | None:
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = read(value)
        except (ValueError, TypeError, OverflowError):
            continue
        return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now_s)
    return None
