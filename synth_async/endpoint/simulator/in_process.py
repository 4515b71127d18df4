"""The embedded endpoint without a network, on the event loop's clock: hours of a run in the time that its work takes.

Limits, latencies, faults and answers are those of the server. Neither connections nor keys are: what they would end in
is raised as the client would raise it.
"""

from __future__ import annotations

import time
from collections import Counter

import anyio
import httpx2

from synth_async.config.models import Simulation
from synth_async.endpoint.client import HttpAnswer
from synth_async.endpoint.failures import failure_of
from synth_async.endpoint.simulator.answers import DEFAULT_MAX_TOKENS, another_sample, draws_for
from synth_async.endpoint.simulator.chat import InvalidRequest, parse_chat
from synth_async.endpoint.simulator.completion import completion_body
from synth_async.endpoint.simulator.faults import (
    FaultyResponse,
    TransportFault,
    arrival_draw,
    error_body,
    rate_limited,
    server_error,
    transport_fault,
    truncated,
)
from synth_async.endpoint.simulator.ledger import Ledger
from synth_async.endpoint.simulator.limits import RateLimits
from synth_async.endpoint.simulator.server import drawn_latency_s, refusal_parts
from synth_async.endpoint.simulator.tokens import count_prompt_tokens
from synth_async.errors import TransientFailure

__all__ = ["InProcessClient"]


class InProcessClient:
    """A `ChatClient` that answers itself. `ledger` is what the server's log would hold; `name` is the endpoint's."""

    def __init__(self, name: str, simulation: Simulation) -> None:
        self.ledger = Ledger()
        self._name = name
        self._simulation = simulation
        self._limits: RateLimits | None = None
        self._turns: Counter[TransportFault] = Counter()

    def __repr__(self) -> str:
        return f"<InProcessClient {self._name} arrivals={self.ledger.arrivals}>"

    async def post(self, body: bytes) -> HttpAnswer:
        """The answer, after its latency."""
        draws = draws_for(self._simulation.seed, body)
        arrival, times_asked = self.ledger.arrive(draws.body_hash)
        try:
            chat = parse_chat(body)
        except InvalidRequest as problem:
            refused = error_body(str(problem), kind="invalid_request_error", param=problem.param)
            raise self._error(FaultyResponse(400, refused)) from None
        fault = transport_fault(self._simulation.faults, arrival_draw(self._simulation.seed, arrival))
        turn = self._turns[fault] if fault is not None else 0
        if fault is not None:
            self._turns[fault] += 1
        if fault is TransportFault.RATE_LIMITED:
            raise self._error(rate_limited(turn, unix_time=time.time()))
        prompt_tokens = count_prompt_tokens(chat.texts)
        headers = self._admitted(prompt_tokens + (chat.max_tokens or DEFAULT_MAX_TOKENS) * chat.n)
        latency_s = drawn_latency_s(self._simulation, draws.latency)
        await anyio.sleep(latency_s)
        if chat.samples:
            draws = another_sample(draws, times_asked)
        whole, tokens = completion_body(chat, self._simulation, draws, prompt_tokens)
        if fault is not None:
            return HttpAnswer(await self._fail(fault, turn, whole), headers, latency_s)
        self.ledger.answer(draws.body_hash, tokens)
        return HttpAnswer(whole, headers, latency_s)

    def renew(self) -> None:
        """There are no connections."""

    async def aclose(self) -> None:
        """Nothing is open."""

    def _admitted(self, charged: int) -> httpx2.Headers:
        """The headers of an admitted request; raises the refusal of one that is not."""
        now, simulation = anyio.current_time(), self._simulation
        if self._limits is None:
            self._limits = RateLimits(simulation.rpm, simulation.tpm, burst_s=simulation.burst_s, now=now)
        if (refusal := self._limits.admit(charged, now)) is not None:
            body, hints = refusal_parts(refusal)
            raise self._error(FaultyResponse(429, body, headers={**self._limits.headers(), **hints}))
        self.ledger.accept(charged, now)
        return httpx2.Headers(self._limits.headers())

    async def _fail(self, fault: TransportFault, turn: int, whole: bytes) -> bytes:
        match fault:
            case TransportFault.SERVER_ERROR:
                raise self._error(server_error(turn))
            case TransportFault.HANG:
                await anyio.sleep_forever()
            case TransportFault.RESET:
                raise TransientFailure("the connection was reset", kind="reset")
        return truncated(turn, whole).body

    def _error(self, response: FaultyResponse) -> Exception:
        headers = {name.lower(): value for name, value in response.headers.items()}
        return failure_of(response.status, headers, response.body, endpoint=self._name, now_s=time.time())
