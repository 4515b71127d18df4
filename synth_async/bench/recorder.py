"""Listens to the exchanges of one endpoint: latencies, statuses, and what was accepted second by second.

Memory: two histograms, and one row a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import anyio

from synth_async.bench.latency import LatencyHistogram
from synth_async.bench.measures import Second
from synth_async.endpoint.service import Exchange
from synth_async.endpoint.serving import ServingEndpoint

__all__ = ["Recorder"]

_NOT_ACCEPTED = frozenset({"http_429", "connect", "refused", "respelt", "http_400", "http_404", "http_413", "http_422"})
"""Statuses of requests that a rate limit was not charged for, as far as a client can tell."""


@dataclass(slots=True)
class _Counts:
    requests: int = 0
    used_tokens: int = 0
    reserved_tokens: int = 0


class Recorder:
    """What one endpoint was asked and answered since `started_at`, in seconds of the event loop's clock."""

    def __init__(
        self, endpoint: ServingEndpoint, started_at: float, on_exchange: Callable[[], None] = lambda: None
    ) -> None:
        self.endpoint = endpoint
        self.statuses: Counter[str] = Counter()
        self.latency = LatencyHistogram()
        self.latency_with_wait = LatencyHistogram()
        self.last_answer_s = 0.0
        self._started_at = started_at
        self._on_exchange = on_exchange
        self._seconds: dict[int, _Counts] = {}
        endpoint.on_exchange = self.note

    def note(self, exchange: Exchange) -> None:
        """An exchange has ended."""
        self.statuses[exchange.status] += 1
        if exchange.status == "answered":
            self.latency.add(exchange.ended_at - exchange.sent_at)
            self.latency_with_wait.add(exchange.ended_at - exchange.asked_at)
            self.last_answer_s = exchange.ended_at - self._started_at
        if exchange.status not in _NOT_ACCEPTED:
            self._count(exchange)
        self._on_exchange()

    def _count(self, exchange: Exchange) -> None:
        counts = self._seconds.setdefault(int(exchange.sent_at - self._started_at), _Counts())
        counts.requests += 1
        if exchange.completion is not None:
            usage = exchange.completion.usage
            counts.used_tokens += usage.total
            counts.reserved_tokens += usage.prompt + (exchange.request.max_tokens or usage.completion)

    @property
    def charges_reserved(self) -> bool:
        """Whether the endpoint was found to charge prompt + max_tokens, and not what was used."""
        return self.endpoint.limits.accounting.found == "reserved"

    def seconds(self) -> list[Second]:
        """What was accepted, by the second in which it was sent; tokens in the unit that the server charges."""
        reserved = self.charges_reserved
        return [
            Second(float(number), counts.requests, counts.reserved_tokens if reserved else counts.used_tokens)
            for number, counts in sorted(self._seconds.items())
        ]

    def elapsed_s(self) -> float:
        """Seconds since the begin."""
        return anyio.current_time() - self._started_at
