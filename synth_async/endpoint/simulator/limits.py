"""Rate limits as a server keeps them: buckets that refill continuously, one of requests and one of tokens.

A bucket of limit L per minute refills at L / 60 a second and holds `burst_s` seconds of it, full at the start. With the
default of 60 s its capacity is the limit itself, as OpenAI's headers show it: an idle minute can be spent at once. With
less, short bursts are refused although the minute as a whole has room, as servers do that count by the second.

Tokens are charged OpenAI's way: prompt + max_tokens when the request is admitted, nothing given back. A refused request
is charged nothing. A request above the limit itself can never pass, and is told so. One between the capacity and the
limit passes when the bucket is full, and leaves it in debt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

# Levels are sums of floats: without slack, a client that waits exactly as long as it was told could miss by one ulp.
_SLACK = 1e-6


@dataclass(slots=True)
class Bucket:
    """What is left of one limit. Times are seconds of any clock that does not run backwards."""

    limit: float
    burst_s: float = 60.0
    smallest: float = 1.0
    updated_at: float = 0.0
    level: float = field(init=False)
    capacity: float = field(init=False)

    def __post_init__(self) -> None:
        self.capacity = max(self.limit * self.burst_s / 60.0, self.smallest)
        self.level = self.capacity

    def refill(self, now: float) -> None:
        """Add what has flowed in since the last call."""
        if now > self.updated_at:
            self.level = min(self.capacity, self.level + (now - self.updated_at) * self.limit / 60.0)
            self.updated_at = now

    def wait_s(self, amount: float) -> float:
        """Seconds until `amount` can be taken; 0 when it can now. Call `refill` first."""
        missing = min(amount, self.capacity) - self.level
        return 0.0 if missing <= _SLACK else missing * 60.0 / self.limit

    def take(self, amount: float) -> None:
        """Charge `amount`."""
        self.level -= amount

    @property
    def remaining(self) -> int:
        """Whole units left, never below 0."""
        return max(0, math.floor(self.level + _SLACK))

    @property
    def reset_s(self) -> float:
        """Seconds until the bucket is full."""
        return max(0.0, (self.capacity - self.level) * 60.0 / self.limit)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request was not admitted. `wait_s` is None where no waiting helps."""

    unit: str
    limit: float
    used: float
    requested: float
    wait_s: float | None

    @property
    def message(self) -> str:
        """OpenAI's words for it."""
        short = {"requests": "RPM", "tokens": "TPM"}[self.unit]
        where = f"for simulator in organization org-simulator on {self.unit} per min ({short}): Limit {self.limit:.0f}"
        if self.wait_s is None:
            return (
                f"Request too large {where}, Requested {self.requested:.0f}. "
                "The input or output tokens must be reduced in order to run successfully."
            )
        return (
            f"Rate limit reached {where}, Used {self.used:.0f}, Requested {self.requested:.0f}. "
            f"Please try again in {format_duration(self.wait_s)}."
        )


class RateLimits:
    """Both limits of the server; None stands for no limit."""

    def __init__(self, rpm: float | None, tpm: float | None, *, burst_s: float = 60.0, now: float = 0.0) -> None:
        # A whole request must fit, or a limit below one per burst would refuse for ever.
        self.requests = None if rpm is None else Bucket(rpm, burst_s, smallest=1.0, updated_at=now)
        self.tokens = None if tpm is None else Bucket(tpm, burst_s, smallest=0.0, updated_at=now)

    def admit(self, tokens: int, now: float) -> Refusal | None:
        """Charge one request of `tokens` tokens, or say why not. Both limits must have room; then both are charged."""
        wanted = [
            (unit, bucket, amount)
            for unit, bucket, amount in (("requests", self.requests, 1.0), ("tokens", self.tokens, float(tokens)))
            if bucket is not None
        ]
        for unit, bucket, amount in wanted:
            bucket.refill(now)
            if refusal := _refusal(unit, bucket, amount):
                return refusal
        for _, bucket, amount in wanted:
            bucket.take(amount)
        return None

    def headers(self) -> dict[str, str]:
        """OpenAI's `x-ratelimit-*` headers, for the limits that are on."""
        headers: dict[str, str] = {}
        for unit, bucket in (("requests", self.requests), ("tokens", self.tokens)):
            if bucket is not None:
                headers[f"x-ratelimit-limit-{unit}"] = f"{bucket.limit:.0f}"
                headers[f"x-ratelimit-remaining-{unit}"] = str(bucket.remaining)
                headers[f"x-ratelimit-reset-{unit}"] = format_duration(bucket.reset_s)
        return headers


def _refusal(unit: str, bucket: Bucket, amount: float) -> Refusal | None:
    if amount > max(bucket.limit, bucket.capacity):
        return Refusal(unit, bucket.limit, 0, amount, None)
    wait_s = bucket.wait_s(amount)
    return Refusal(unit, bucket.limit, bucket.capacity - bucket.level, amount, wait_s) if wait_s > 0 else None


def format_duration(seconds: float) -> str:
    """A duration as OpenAI's headers write it, rounded up to the millisecond: `17ms`, `1.2s`, `6m0s`, `1h0m5s`."""
    total_ms = math.ceil(seconds * 1000 - _SLACK)
    if total_ms < 1000:
        return f"{max(total_ms, 0)}ms"
    minutes, rest_ms = divmod(total_ms, 60_000)
    rest = f"{rest_ms / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if minutes == 0:
        return rest
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}" if hours else f"{minutes}m{rest}"
