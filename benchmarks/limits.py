"""How much of a rate limit is used, against servers that enforce it in different ways, in virtual time.

    python benchmarks/limits.py [--only NAME] [--json]

Each row is an endpoint of ours (limits, breaker, retries: the real code) against a simulated server on a clock that
jumps. Nothing sleeps and nothing is sent, so a row takes seconds for minutes of traffic, and is the same every time.

    used      what the server accepted per second in the steady part, as a share of its limit, in the unit it charges
    429       share of requests that it refused in the steady part
    attempts  requests sent per request answered, over the whole time
    ramp      seconds until a second brought 90 % of the limit
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace

import anyio
import httpx2

from synth_async.config.models import Endpoint as EndpointConfig
from synth_async.endpoint.client import HttpAnswer
from synth_async.endpoint.service import Endpoint
from synth_async.errors import RateLimited, TransientFailure
from synth_async.records import ChatRequest, Message, Stage
from synth_async.testing import chat_body, run_in_virtual_time

PROMPT_TOKENS = 50
MAX_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Scenario:
    """A server, and what the client is told. Limits are per minute; `declared` scales what the client is told.

    `charges` tokens: `actual` (the completion when it is there), `reserved` (prompt + max_tokens when it admits), or
    `refunded` (reserved, and what was not used given back). `changes` is (when, to what share of its limits).
    `strays` is the share of requests that are refused at random, whatever the rate.
    """

    name: str
    kind: str = "bucket"
    period_s: float = 60.0
    rpm: float | None = 3000.0
    tpm: float | None = 600_000.0
    charges: str = "reserved"
    counts_rejected: bool = False
    headers: bool = True
    declared: float | None = 1.0
    hint: float | None = 1.0
    names_limit: bool = True
    phase_s: float = 0.0
    latency_s: float = 1.0
    refusal_s: float = 0.02
    completion_tokens: int = 150
    max_in_flight: int = 512
    away: tuple[float, float] | None = None
    changes: tuple[float, float] | None = None
    slots: int | None = None
    strays: float = 0.0
    span: tuple[float, float] = (300.0, 120.0)
    """(seconds, from when on it is taken to be steady)."""


class Counter:
    """One limit of a server: bucket (refilled all the time), fixed window, or sliding window."""

    def __init__(self, limit: float, period_s: float, kind: str, phase_s: float = 0.0) -> None:
        self.limit, self.period_s, self.kind, self.phase_s = limit, period_s, kind, phase_s
        self.level, self.as_of = limit, 0.0
        self.events: deque[tuple[float, float]] = deque()

    def room(self, now: float) -> float:
        """What can be charged now."""
        if self.kind == "bucket":
            self.level = min(self.limit, self.level + (now - self.as_of) * self.limit / self.period_s)
        elif self.kind == "fixed" and self._window(now) != self._window(self.as_of):
            self.level = self.limit
        elif self.kind == "sliding":
            while self.events and self.events[0][0] <= now - self.period_s:
                self.level += self.events.popleft()[1]
        self.as_of = now
        return self.level

    def _window(self, now: float) -> int:
        return int((now + self.phase_s) / self.period_s)

    def window_left_s(self, now: float) -> float:
        """Seconds until a fixed window ends."""
        return self.period_s - (now + self.phase_s) % self.period_s

    def scale(self, share: float, now: float) -> None:
        """Go on with another limit."""
        self.level = self.room(now) + (share - 1) * self.limit
        self.limit *= share

    def charge(self, amount: float, now: float) -> None:
        """Take `amount`, even below zero; less than nothing gives it back."""
        self.room(now)
        self.level -= amount
        if self.kind == "sliding":
            self.events.append((now, amount))

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until `amount` can be charged."""
        missing = amount - self.room(now)
        if missing <= 0:
            return 0.0
        if self.kind == "bucket":
            return missing * self.period_s / self.limit
        if self.kind == "fixed":
            return self.window_left_s(now)
        freed = 0.0
        for when, charged in self.events:
            freed += charged
            if freed >= missing:
                return when + self.period_s - now
        return self.period_s


@dataclass(slots=True)
class Server:
    """A simulated server: keeps the contract of `ChatClient`, enforces a scenario's limits, remembers what it did."""

    scenario: Scenario
    accepted: list[tuple[float, float]] = field(default_factory=list)
    rejected: list[float] = field(default_factory=list)
    failed: int = 0
    answered: int = 0
    open: int = 0
    has_changed: bool = False
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    strays: random.Random = field(default_factory=lambda: random.Random(8))
    requests: Counter | None = None
    tokens: Counter | None = None

    def __post_init__(self) -> None:
        one = self.scenario
        scale = one.period_s / 60
        self.requests = Counter(one.rpm * scale, one.period_s, one.kind, one.phase_s) if one.rpm else None
        self.tokens = Counter(one.tpm * scale, one.period_s, one.kind, one.phase_s) if one.tpm else None

    async def post(self, body: bytes) -> HttpAnswer:  # noqa: ARG002 - what is asked does not matter here
        """Admit or refuse on arrival; answer after the latency."""
        one, now = self.scenario, asyncio.get_running_loop().time()
        if one.away and one.away[0] <= now < one.away[1]:
            self.failed += 1
            raise TransientFailure("connection refused", kind="connect", connected=False)
        completion = max(1, round(self.chance.gauss(one.completion_tokens, one.completion_tokens / 5)))
        reserved = PROMPT_TOKENS if one.charges == "actual" else PROMPT_TOKENS + MAX_TOKENS
        self._change(now)
        if (refusal := self._refusal(reserved, now)) is not None:
            self.rejected.append(now)
            await anyio.sleep(one.refusal_s)
            raise refusal
        used = PROMPT_TOKENS + completion
        self.accepted.append((now, reserved if one.charges == "reserved" else used))
        headers = self._headers(now)
        self.open += 1
        try:
            await anyio.sleep(one.latency_s * self.chance.uniform(0.8, 1.2))
        finally:
            self.open -= 1
        if one.charges != "reserved" and self.tokens:
            self.tokens.charge(used - reserved, asyncio.get_running_loop().time())
        self.answered += 1
        return HttpAnswer(
            chat_body("{}", prompt_tokens=PROMPT_TOKENS, completion_tokens=completion), headers, one.latency_s
        )

    def renew(self) -> None:
        """There are no connections."""

    async def aclose(self) -> None:
        """Nothing is held."""

    def _change(self, now: float) -> None:
        if self.scenario.changes and not self.has_changed and now >= self.scenario.changes[0]:
            self.has_changed = True
            for counter in (self.requests, self.tokens):
                if counter is not None:
                    counter.scale(self.scenario.changes[1], now)

    def _refusal(self, tokens: float, now: float) -> RateLimited | None:
        """Why a request is not admitted; None when it is, and charged."""
        one = self.scenario
        if one.strays and self.strays.random() < one.strays:
            return RateLimited("HTTP 429: Too Many Requests", hint_s=self._hint(1.0))
        if one.slots is not None and self.open >= one.slots:
            words = "too many concurrent requests" if one.names_limit else "Too Many Requests"
            return RateLimited(f"HTTP 429: {words}", hint_s=self._hint(1.0))
        waits = [
            (counter.wait_s(amount, now), kind)
            for counter, amount, kind in ((self.requests, 1.0, "requests"), (self.tokens, tokens, "tokens"))
            if counter is not None
        ]
        wait_s, kind = max(waits, default=(0.0, ""))
        if wait_s > 0:
            if one.counts_rejected and self.requests:
                self.requests.charge(1.0, now)
            words = f"Rate limit reached for {kind}" if one.names_limit else "Too Many Requests"
            return RateLimited(f"HTTP 429: {words}", hint_s=self._hint(wait_s))
        if self.requests:
            self.requests.charge(1.0, now)
        if self.tokens:
            self.tokens.charge(tokens, now)
        return None

    def _hint(self, wait_s: float) -> float | None:
        return None if self.scenario.hint is None else wait_s * self.scenario.hint

    def _headers(self, now: float) -> httpx2.Headers:
        fields: dict[str, str] = {}
        for counter, name in ((self.requests, "requests"), (self.tokens, "tokens")):
            if self.scenario.headers and counter is not None:
                room = counter.room(now)
                fields[f"x-ratelimit-limit-{name}"] = f"{counter.limit * 60 / counter.period_s:.0f}"
                fields[f"x-ratelimit-remaining-{name}"] = f"{max(0.0, room) * 60 / counter.period_s:.0f}"
                reset_s = (
                    counter.window_left_s(now)
                    if counter.kind == "fixed"
                    else (counter.limit - room) * counter.period_s / counter.limit
                )
                fields[f"x-ratelimit-reset-{name}"] = f"{reset_s:.3f}s"
        return httpx2.Headers(fields)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a scenario; shares are 0-1."""

    name: str
    used: float
    refused: float
    attempts: float
    ramp_s: float | None
    lost: int


def binding(one: Scenario) -> tuple[float, bool]:
    """(limit per second in its unit, whether that unit is tokens): the limit that is met first."""
    per_request = PROMPT_TOKENS + (MAX_TOKENS if one.charges == "reserved" else one.completion_tokens)
    if one.rpm is None and one.tpm is None:
        return (one.slots or one.max_in_flight) / one.latency_s, False
    if one.tpm is not None and (one.rpm is None or one.tpm / per_request < one.rpm):
        return one.tpm / 60, True
    return (one.rpm or 0.0) / 60, False


def simulate(one: Scenario, seconds: float, steady_from: float) -> Result:
    """Run a scenario for so many virtual seconds."""
    server = Server(one)
    settings = EndpointConfig(
        base_url="http://simulated/v1",
        model="simulated",
        rpm=one.rpm * one.declared if one.rpm and one.declared else None,
        tpm=one.tpm * one.declared if one.tpm and one.declared else None,
        max_in_flight=one.max_in_flight,
        timeout_s=60,
    )
    endpoint = Endpoint("simulated", settings, server, give_up_after_s=3600, seed=1)
    lost = run_in_virtual_time(_drive, endpoint, one, seconds)
    limit, in_tokens = binding(one)
    if one.changes and one.changes[0] <= steady_from:
        limit *= one.changes[1]
    amounts = [(when, amount if in_tokens else 1.0) for when, amount in server.accepted]
    steady = sum(amount for when, amount in amounts if steady_from <= when < seconds)
    late = sum(steady_from <= when < seconds for when in server.rejected)
    taken = sum(steady_from <= when < seconds for when, _ in server.accepted)
    return Result(
        one.name,
        steady / (seconds - steady_from) / limit,
        late / max(1, late + taken),
        (len(server.accepted) + len(server.rejected) + server.failed) / max(1, server.answered),
        _ramp(amounts, limit),
        lost,
    )


def _ramp(amounts: Iterable[tuple[float, float]], limit: float) -> float | None:
    by_second: dict[int, float] = {}
    for when, amount in amounts:
        by_second[int(when)] = by_second.get(int(when), 0.0) + amount
    return next((float(second) for second, amount in sorted(by_second.items()) if amount >= 0.9 * limit), None)


async def _drive(endpoint: Endpoint, one: Scenario, seconds: float) -> int:
    messages = (Message(role="user", content="x" * PROMPT_TOKENS * 4),)
    lost = 0

    async def worker() -> None:
        nonlocal lost
        while True:
            request = ChatRequest("0" * 32, Stage.GENERATE, messages, 0.8, MAX_TOKENS, "json_object")
            try:
                await endpoint.ask(request, lambda _: None)
            except TransientFailure:
                lost += 1

    async with anyio.create_task_group() as workers:
        for _ in range(one.max_in_flight + one.max_in_flight // 4):
            workers.start_soon(worker)
        await anyio.sleep(seconds)
        workers.cancel_scope.cancel()
        endpoint.abandon()
    return lost


def matrix() -> list[Scenario]:
    """The servers of the table."""
    rows = []
    for charges in ("reserved", "actual"):
        for name, kind, period_s in (
            ("bucket 60 s", "bucket", 60.0),
            ("bucket 1 s", "bucket", 1.0),
            ("fixed 60 s", "fixed", 60.0),
            ("sliding 60 s", "sliding", 60.0),
            ("per second", "fixed", 1.0),
        ):
            # What a limit per second would say in headers about minutes is anybody's guess.
            one = Scenario("", kind, period_s, charges=charges, headers=period_s > 1)
            rows.append(replace(one, name=f"{name}, tokens {charges}"))
            rows.append(replace(one, name=f"{name}, requests, {charges}", tpm=None))
    told = Scenario("", tpm=None)
    rows += [
        replace(told, name="slow server, 8 s", latency_s=8.0),
        replace(told, name="rejected calls count", counts_rejected=True),
        replace(told, name="told, no headers", headers=False),
        Scenario("told, no headers, tokens actual", charges="actual", headers=False),
        *_charging_unseen(),
        *_declared_too_high(),
        *_not_told(),
        Scenario("no limits, 512 slots", rpm=None, tpm=None, declared=None, headers=False),
        Scenario("64 slots, 429 above", rpm=None, tpm=None, declared=None, headers=False, slots=64),
        Scenario("64 slots, plain 429", rpm=None, tpm=None, declared=None, headers=False, slots=64, names_limit=False),
        replace(told, name="away for 30 s", away=(60.0, 90.0)),
        *_refused_at_random(),
    ]
    return rows


def _refused_at_random() -> list[Scenario]:
    """One request in a hundred, or in five hundred, is refused whatever the rate."""
    told = Scenario("", tpm=None, rpm=1200.0, headers=False, span=(400.0, 200.0))
    free = replace(told, rpm=None, declared=None, max_in_flight=64)
    return [
        replace(told, name="1 % refused at random", strays=0.01),
        replace(told, name="1 % refused at random, no hint", strays=0.01, hint=None),
        replace(told, name="0.2 % refused at random", strays=0.002),
        replace(told, name="1 % refused at random, not told", strays=0.01, declared=None),
        replace(free, name="1 % refused at random, no limits", strays=0.01),
    ]


def _charging_unseen() -> list[Scenario]:
    """Limits that are told; that tokens are charged as prompt + max_tokens is not."""
    one = Scenario("", headers=False, span=(300.0, 60.0))
    return [
        replace(one, name="reserved unseen, bucket"),
        replace(one, name="reserved unseen, fixed, off phase", kind="fixed", phase_s=45.0),
        replace(one, name="reserved unseen, sliding", kind="sliding"),
        replace(one, name="reserved unseen, bucket 10 s", period_s=10.0),
        replace(one, name="reserved unseen, plain 429", names_limit=False),
        replace(one, name="reserved unseen, plain 429, 1 s", names_limit=False, period_s=1.0),
        replace(one, name="reserved unseen, 8 s latency", latency_s=8.0),
        replace(one, name="refunded unseen, bucket", charges="refunded"),
        replace(one, name="refunded unseen, bucket 10 s", charges="refunded", period_s=10.0),
    ]


def _declared_too_high() -> list[Scenario]:
    """By 20 %, in requests and in tokens; a bucket of a minute takes five to run dry."""
    one = Scenario("", declared=1.2, headers=False, tpm=None, span=(700.0, 420.0))
    tokens = replace(one, charges="actual", rpm=None, tpm=600_000.0)
    rows = []
    for name, base in (("requests", one), ("tokens", tokens)):
        rows += [
            replace(base, name=f"{name} told 20 % high, bucket"),
            replace(base, name=f"{name} told 20 % high, sliding", kind="sliding"),
            replace(base, name=f"{name} told 20 % high, fixed", kind="fixed", phase_s=20.0),
            replace(base, name=f"{name} told 20 % high, bucket 5 s", period_s=5.0, span=(420.0, 60.0)),
            replace(base, name=f"{name} told 20 % high, bucket 1 s", period_s=1.0, span=(420.0, 60.0)),
            replace(base, name=f"{name} told 20 % high, second", kind="fixed", period_s=1.0, span=(420.0, 60.0)),
        ]
    rows.append(replace(tokens, name="tokens told 20 % high, reserved", charges="reserved"))
    return rows


def _not_told() -> list[Scenario]:
    """Nothing is declared: the headers tell it, or refusals alone."""
    seen = Scenario("", declared=None, span=(300.0, 10.0))
    told_by_429 = replace(seen, headers=False, tpm=None, span=(300.0, 60.0))
    rows = [
        replace(seen, name="not told, headers, reserved"),
        replace(seen, name="not told, headers, actual", charges="actual"),
        replace(seen, name="not told, headers, fixed", kind="fixed", phase_s=30.0),
        replace(seen, name="not told, headers, sliding", kind="sliding"),
        replace(told_by_429, name="not told, tokens reserved", tpm=600_000.0),
        replace(told_by_429, name="not told, tokens actual", tpm=300_000.0, charges="actual"),
        replace(told_by_429, name="not told, 8 s latency", latency_s=8.0),
        replace(told_by_429, name="not told, plain 429", names_limit=False),
        replace(told_by_429, name="not told, rejected calls count", counts_rejected=True),
        replace(told_by_429, name="not told, limit doubles", changes=(120.0, 2.0), span=(600.0, 420.0)),
        replace(told_by_429, name="not told, limit halves", changes=(120.0, 0.5), span=(600.0, 240.0)),
    ]
    for name, kind, period_s in (
        ("bucket 60 s", "bucket", 60.0),
        ("bucket 10 s", "bucket", 10.0),
        ("bucket 1 s", "bucket", 1.0),
        ("fixed 60 s", "fixed", 60.0),
        ("sliding 60 s", "sliding", 60.0),
        ("per second", "fixed", 1.0),
    ):
        one = replace(told_by_429, kind=kind, period_s=period_s)
        rows += [replace(one, name=f"not told, {name}"), replace(one, name=f"not told, no hint, {name}", hint=None)]
    for kind in ("bucket", "fixed", "sliding"):
        small = replace(told_by_429, kind=kind, rpm=300.0, phase_s=20.0, span=(600.0, 60.0))
        rows += [
            replace(small, name=f"300 RPM {kind}, no hint", hint=None),
            replace(small, name=f"300 RPM {kind}, hint / 100", hint=0.01),
            replace(small, name=f"300 RPM {kind}, hint x 100", hint=100.0),
        ]
    return rows


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", default="")
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    results = []
    if not chosen.json:
        print(f"{'server':<34} {'used':>7} {'429':>8} {'attempts':>9} {'ramp':>6} {'lost':>5}")
    for one in matrix():
        if chosen.only not in one.name:
            continue
        result = simulate(one, *one.span)
        results.append(asdict(result))
        if not chosen.json:
            ramp = f"{result.ramp_s:.0f} s" if result.ramp_s is not None else "-"
            print(
                f"{result.name:<34} {result.used:>7.1%} {result.refused:>8.2%} {result.attempts:>9.3f}"
                f" {ramp:>6} {result.lost:>5}",
                flush=True,
            )
    if chosen.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
