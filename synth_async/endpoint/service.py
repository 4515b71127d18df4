"""An endpoint as the stages see it: `await endpoint.ask(request, keep)` and the answer is there, or a clear error.

One owner per reason to wait: a 429 belongs to the limits (a pause for everybody, never an attempt), a broken exchange
to the retry policy, an endpoint that has gone away to the breaker, a bad answer to the stage that asked.
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import anyio

from synth_async.config.models import Endpoint as EndpointConfig
from synth_async.endpoint.accounting import Charge
from synth_async.endpoint.breaker import Breaker
from synth_async.endpoint.client import ChatClient, HttpAnswer
from synth_async.endpoint.failures import failure_of
from synth_async.endpoint.headers import read_limits
from synth_async.endpoint.limits import Limits, Permit
from synth_async.endpoint.negotiation import Negotiation
from synth_async.endpoint.purse import Lease, Purse, is_free
from synth_async.endpoint.retry import next_delay_s
from synth_async.endpoint.wire import Dialect, request_body
from synth_async.errors import EndpointRefused, RateLimited, RequestRejected, StoppedEarly, TransientFailure
from synth_async.records import ChatRequest, Completion, Stage, Usage
from synth_async.stages.measured import SECTIONS, StageWork
from synth_async.stages.parsing import MalformedBody, read_completion

__all__ = ["WORKER_LOST", "Endpoint", "EndpointCounts", "Exchange", "KeepAnswer", "TokenEstimate"]

KeepAnswer = Callable[[bytes], None]
"""Called with the raw body of an answer before anything looks at it: the journal."""

_PRIORITY: Mapping[Stage, int] = {
    Stage.JUDGE: 0, Stage.REVISE: 0, Stage.REPLY: 0, Stage.TOPICS: 1, Stage.GENERATE: 2,
}  # fmt: skip
_BYTES_PER_TOKEN = 4.0
"""First guess for the prompt; the running means that follow come from the server's own counts."""

_FEWEST_BYTES = 2.0
"""Bytes per token that hardly any prompt falls below, for a budget while nothing is known."""

_ENOUGH_ANSWERS = 20
_MARGIN = 0.7
"""Part of the mean bytes per token that a single prompt may have: scripts and stages differ."""

_MEAN_WEIGHT = 0.05

_BELIEVED_IN_A_200 = frozenset({400, 402, 413, 422, 429})
"""Statuses that an error in a 200 is taken at its word for; any other says no more than that something went wrong."""

_AFTER_SLEEP_S = 10.0
"""What was answered while this process stood still, and lies in a socket's buffer, is read within that."""

_SLEPT = "slept"
WORKER_LOST = "worker_lost"
_NOBODYS = frozenset({_SLEPT, WORKER_LOST})
"""Kinds of failures that say nothing of the endpoint, and are nobody's attempt."""

_BROKEN = ("reset", "timeout", "connect")
"""Kinds of failures that a sleep explains; a status or a body came from the server all the same."""


@dataclass(slots=True)
class EndpointCounts:
    """What was sent to one endpoint by this process."""

    attempts: int = 0
    answered: int = 0
    http_429: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    charged_tokens: float = 0.0
    """In the unit that the server charges, as far as that is known: what its token limit is used up by."""
    latency_sum_s: float = 0.0
    by_stage: dict[str, StageWork] = field(default_factory=dict)
    """What the answers came to, by the section of the config that asked for them."""

    def note_answered(self, stage: Stage | None, usage: Usage, charged: float = 0.0, latency_s: float = 0.0) -> None:
        """An answer came, for a stage where that is known. One of a batch is charged to no limit of ours."""
        self.answered += 1
        self.latency_sum_s += latency_s
        self.prompt_tokens += usage.prompt
        self.completion_tokens += usage.completion
        self.charged_tokens += charged
        if stage is not None:
            work = StageWork(1, usage.prompt, usage.completion, charged, latency_s)
            self.by_stage[SECTIONS[stage]] = self.by_stage.get(SECTIONS[stage], StageWork()) + work


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request that was sent, for a listener: what was asked, when, and what came of it.

    Times are seconds of the event loop's clock. `status` is `answered`, `http_429`, the kind of a `TransientFailure`,
    `http_400` and its like for a request refused for good, `refused` where the endpoint refuses everything,
    `respelt` where it did not understand the request and is asked in other words, `abandoned` where nobody waited.
    """

    request: ChatRequest
    asked_at: float
    sent_at: float
    ended_at: float
    status: str
    completion: Completion | None


def _status_of(error: BaseException | None, completion: Completion | None) -> str:
    if completion is not None:
        return "answered"
    match error:
        case None:
            return "respelt"
        case RateLimited():
            return "http_429"
        case TransientFailure():
            return error.kind
        case RequestRejected():
            return f"http_{error.status}"
        case EndpointRefused():
            return "refused"
    return "abandoned"


class TokenEstimate:
    """Expected tokens of a request: prompt bytes by a learnt ratio, plus the mean completion of its stage."""

    def __init__(self) -> None:
        self._bytes_per_token = _BYTES_PER_TOKEN
        self._completions: dict[Stage, float] = {}
        self._answers = 0

    def prompt(self, prompt_bytes: int) -> float:
        return prompt_bytes / self._bytes_per_token

    def most_prompt(self, prompt_bytes: int) -> int:
        """The most that a prompt can reasonably have: a budget is not to be passed."""
        least_bytes_per_token = _MARGIN * self._bytes_per_token if self._answers >= _ENOUGH_ANSWERS else _FEWEST_BYTES
        return math.ceil(prompt_bytes / least_bytes_per_token)

    def completion(self, request: ChatRequest) -> float:
        most = request.max_tokens or 512
        return min(most, self._completions.get(request.stage, most))

    def learn(self, request: ChatRequest, prompt_bytes: int, completion: Completion) -> None:
        usage = completion.usage
        self._answers += 1
        if usage.prompt > 0:
            self._bytes_per_token += _MEAN_WEIGHT * (prompt_bytes / usage.prompt - self._bytes_per_token)
        mean = self._completions.get(request.stage)
        if usage.completion > 0:
            gap = usage.completion - mean if mean is not None else 0.0
            self._completions[request.stage] = (mean or usage.completion) + _MEAN_WEIGHT * gap


class Endpoint:
    """One model behind one address: its limits, its breaker, its dialect, its counts."""

    def __init__(
        self,
        name: str,
        settings: EndpointConfig,
        client: ChatClient,
        *,
        give_up_after_s: float,
        seed: int | None = None,
    ) -> None:
        self.name = name
        self.settings = settings
        self.counts = EndpointCounts()
        self.on_exchange: Callable[[Exchange], None] | None = None
        self.purse: Purse | None = None
        self.on_note: Callable[[str], None] = lambda _: None
        self.breaker = Breaker(name, give_up_after_s=give_up_after_s)
        self.limits = Limits(
            rpm=settings.rpm,
            tpm=settings.tpm,
            max_in_flight=settings.max_in_flight,
            breaker=self.breaker,
            accounting=settings.token_accounting,
        )
        first = Dialect(response_format=settings.response_format)
        self.negotiation = Negotiation(first, on_change=self._tell_of_dialect)
        self._client = client
        self._estimate = TokenEstimate()
        self._chance = random.Random(seed)
        self._exchanges: set[anyio.CancelScope] = set()
        self._slept_through: set[anyio.CancelScope] = set()
        self._over: EndpointRefused | StoppedEarly | None = None

    def __repr__(self) -> str:
        return f"<Endpoint {self.name} {self.limits!r}>"

    async def ask(self, request: ChatRequest, keep: KeepAnswer, *, patient: bool = True) -> Completion:
        """The completion for a request, kept before it is read. Where it is not `patient`, see `Limits.admit`.

        Raises `TransientFailure` when the attempts are used up (the task stays undecided), `RequestRejected` when this
        one request is refused for good, `EndpointRefused` and `StoppedEarly` when the run cannot go on.
        """
        try:
            return await self._persist(request, keep, patient=patient)
        except (EndpointRefused, StoppedEarly) as over:
            self._over = over
            raise

    async def _persist(self, request: ChatRequest, keep: KeepAnswer, *, patient: bool) -> Completion:
        failed = 0
        while True:
            try:
                completion = await self._paid_attempt(request, keep, patient=patient)
                if completion is not None:
                    return completion
            except RateLimited as limited:
                self.counts.http_429 += 1
                self.breaker.note_limited(anyio.current_time(), str(limited))
            except RequestRejected as rejected:
                self.breaker.note_rejected(str(rejected))
                raise
            except TransientFailure as failure:
                if failure.kind in _NOBODYS:
                    # It is sent anew.
                    self.counts.failures[failure.kind] += 1
                    continue
                self._note_failure(failure)
                if self.breaker.is_probing:
                    # The endpoint is away: that is nobody's attempt, and the breaker spaces the probes.
                    continue
                failed += 1
                delay_s = next_delay_s(failure, failed, jitter=self._chance.random())
                if delay_s is None:
                    raise
                await anyio.sleep(delay_s)

    @property
    def mean_latency_s(self) -> float:
        """Mean seconds from sending a request to its answer; 0 before the first one."""
        return self.counts.latency_sum_s / self.counts.answered if self.counts.answered else 0.0

    @property
    def in_flight(self) -> int:
        """Requests that wait for their answers."""
        return self.limits.in_flight

    @property
    def load(self) -> float:
        """How full it is: 1 where no more can be in flight."""
        return self.limits.in_flight / self.limits.cap

    def holds(self, request: ChatRequest) -> bool:  # noqa: ARG002 - as an endpoint of batches is asked
        """Whether a request was sent here before, and its answer is still to come: never, online."""
        return False

    @property
    def takes_work(self) -> bool:
        """Whether a request would not stand idle here: the endpoint answers, or it is time to try whether it does."""
        return self.limits.away_s() <= 0 or not self.breaker.has_answered_or_failed

    @property
    def wait_s(self) -> float:
        """Seconds that a request which joins the line now will probably stand in it."""
        counts = self.counts
        mean_tokens = (counts.prompt_tokens + counts.completion_tokens) / max(1, counts.answered)
        per_second = self.limits.per_second(mean_tokens, self.mean_latency_s) or float(self.limits.cap)
        has_slot = self.limits.in_flight < self.limits.cap
        return self.limits.away_s() + (self.limits.waiting + (not has_slot)) / per_second

    def waiting_for(self) -> str:
        """Why this endpoint is not sent more, for the progress line; empty when nothing is wrong."""
        if self.breaker.is_probing and self.breaker.last_message:
            return f"{self.name} does not answer: {self.breaker.last_message}"
        if (left_s := self.limits.pause_left_s) > 1:
            return f"{self.name} asked for a pause, {left_s:.0f} s left"
        return ""

    def abandon(self) -> None:
        """Let a stop of the run cut off the requests in flight as well."""
        for exchange in self._exchanges:
            exchange.shield = False

    def note_slept(self) -> None:
        """This process stood still for long: its connections may be dead, on the other side or on the way.

        What is in flight may still bring an answer that came meanwhile; what does not within ten seconds is sent anew,
        over new connections, and counts as no failure.
        """
        self._client.renew()
        self.breaker.note_slept()
        for exchange in self._exchanges:
            exchange.deadline = anyio.current_time() + _AFTER_SLEEP_S
            self._slept_through.add(exchange)

    def batches(self) -> list[dict[str, object]]:
        """Batches under way: none, online."""
        return []

    async def finish(self) -> None:
        """The run has what it wanted: nothing is left behind here."""

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _note_failure(self, failure: TransientFailure) -> None:
        self.counts.failures[failure.kind] += 1
        if failure.kind == "body" and not self.breaker.has_answered:
            # Nothing but bodies that are no completions, from the first on: that is a wrong address, not bad luck.
            self.breaker.note_rejected(str(failure))
        self.breaker.note_failure(anyio.current_time(), str(failure), connected=failure.connected)
        if failure.kind in ("http_503", "timeout"):
            self.limits.shrink()

    async def _paid_attempt(self, request: ChatRequest, keep: KeepAnswer, *, patient: bool) -> Completion | None:
        """One attempt within the budget, where there is one."""
        if self.purse is None:
            return await self._attempt(request, keep, patient=patient)
        lease = await self.purse.lease(request, self._estimate.most_prompt(self._body_bytes(request)))
        completion: Completion | None = None
        try:
            completion = await self._attempt(request, keep, patient=patient, lease=lease)
            return completion
        finally:
            usage = completion.usage if completion is not None else None
            error = sys.exception()
            # Without an error and without a completion the server refused the spelling.
            self.purse.settle(request, lease, usage, is_free=error is None or is_free(error))

    async def _attempt(
        self, request: ChatRequest, keep: KeepAnswer, *, patient: bool, lease: Lease | None = None
    ) -> Completion | None:
        """One admitted exchange; None when the server did not understand us, and another spelling may help."""
        dialect = self.negotiation.dialect_for(request)
        body = self._body(request, dialect)
        asked_at, completion = anyio.current_time(), None
        permit = await self.limits.admit(
            lambda: self._expected_tokens(request, len(body)), _PRIORITY[request.stage], patient=patient
        )
        if self._over is not None:
            # Refused while this one stood in line: it is not sent as well.
            permit.settle(0.0)
            raise type(self._over)(str(self._over))
        if (now_spoken := self.negotiation.dialect_for(request)) != dialect:
            # What others found out while this one stood in line.
            dialect, body = now_spoken, self._body(request, now_spoken)
        used: float | None = None
        self.counts.attempts += 1
        if lease is not None:
            lease.is_sent = True
        try:
            answer = await self._exchange(request, body, lease, permit.sent_at)
            completion = self._read(answer, keep)
            self.negotiation.note_answered(request, dialect)
            self._note(request, answer, completion, permit, len(body))
            used = completion.usage.total or None
            return completion
        except RateLimited as limited:
            used = 0.0
            permit.settle(used)
            self.limits.note_limited(permit, str(limited), limited.hint_s)
            raise
        except RequestRejected as rejected:
            if rejected.status in (400, 422) and self.negotiation.takes(request, dialect, str(rejected)):
                return None
            raise
        except TransientFailure as failure:
            if failure.kind == "http_500":
                self.negotiation.note_bare_failure(request, dialect)
            raise
        finally:
            permit.settle(used)
            if self.on_exchange is not None:
                status, now = _status_of(sys.exception(), completion), anyio.current_time()
                self.on_exchange(Exchange(request, asked_at, permit.sent_at, now, status, completion))

    def _body_bytes(self, request: ChatRequest) -> int:
        return len(self._body(request, self.negotiation.dialect_for(request)))

    def _body(self, request: ChatRequest, dialect: Dialect) -> bytes:
        return request_body(request, model=self.settings.model, dialect=dialect, extra_body=self.settings.extra_body)

    def _tell_of_dialect(self, said: str) -> None:
        self.on_note(f"endpoint {self.name}: {said}")

    async def post(self, request: ChatRequest, body: bytes, lease: Lease | None) -> HttpAnswer:  # noqa: ARG002
        """One exchange, as this endpoint carries it out: for another one, what is asked and leased is of use."""
        return await self._client.post(body)

    async def _exchange(self, request: ChatRequest, body: bytes, lease: Lease | None, sent_at: float) -> HttpAnswer:
        """One request within the deadline. A stop of the run does not cut it off: it may be paid for already."""
        failure = TransientFailure(f"no answer within {self.settings.timeout_s:g} s", kind="timeout")
        with anyio.CancelScope(shield=True, deadline=sent_at + self.settings.timeout_s) as exchange:
            self._exchanges.add(exchange)
            try:
                return await self.post(request, body, lease)
            except TransientFailure as broken:
                failure = broken
            finally:
                self._exchanges.discard(exchange)
                slept = exchange in self._slept_through
                self._slept_through.discard(exchange)
        if slept and failure.kind in _BROKEN:
            raise TransientFailure("the connection did not outlive a sleep of the machine", kind=_SLEPT)
        raise failure

    def _read(self, answer: HttpAnswer, keep: KeepAnswer) -> Completion:
        if not answer.is_kept:
            keep(answer.body)
        try:
            return read_completion(answer.body, fallback_model=self.settings.model)
        except MalformedBody as error:
            malformed = error
        if malformed.status in _BELIEVED_IN_A_200:
            raise failure_of(malformed.status, answer.headers, answer.body, endpoint=self.name, now_s=time.time())
        raise TransientFailure(str(malformed), kind="body")

    def _note(
        self, request: ChatRequest, answer: HttpAnswer, completion: Completion, permit: Permit, prompt_bytes: int
    ) -> None:
        self._estimate.learn(request, prompt_bytes, completion)
        self.breaker.note_answered()
        usage = completion.usage
        charge = Charge(used=usage.total, reserved=usage.prompt + (request.max_tokens or usage.completion))
        self.limits.note_answered(permit, charge, read_limits(answer.headers.raw, now_s=time.time()))
        charged = charge.reserved if self.limits.accounting.found == "reserved" else charge.used
        self.counts.note_answered(request.stage, usage, charged, answer.latency_s)

    def _expected_tokens(self, request: ChatRequest, prompt_bytes: int) -> float:
        """What the server is expected to charge: at admission for prompt + max_tokens, or for what is really used."""
        prompt = self._estimate.prompt(prompt_bytes)
        if self.limits.charges_reserved and request.max_tokens is not None:
            return prompt + request.max_tokens
        return prompt + self._estimate.completion(request)
