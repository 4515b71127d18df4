"""What the stages, the pool and the run know of an endpoint, online or in batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from synth_async.config.models import Endpoint as EndpointConfig
from synth_async.endpoint.limits import Limits
from synth_async.endpoint.purse import Purse
from synth_async.endpoint.service import EndpointCounts, Exchange, KeepAnswer
from synth_async.records import ChatRequest, Completion

__all__ = ["ServingEndpoint"]


class ServingEndpoint(Protocol):
    """One model behind one address; see `service.Endpoint` and `batch.service.BatchEndpoint`."""

    name: str
    counts: EndpointCounts
    on_exchange: Callable[[Exchange], None] | None
    on_note: Callable[[str], None]
    purse: Purse | None

    @property
    def settings(self) -> EndpointConfig: ...
    @property
    def limits(self) -> Limits: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def load(self) -> float: ...
    @property
    def wait_s(self) -> float: ...
    @property
    def takes_work(self) -> bool: ...
    @property
    def mean_latency_s(self) -> float: ...

    async def ask(self, request: ChatRequest, keep: KeepAnswer, *, patient: bool = True) -> Completion: ...
    def holds(self, request: ChatRequest) -> bool: ...
    def waiting_for(self) -> str: ...
    def batches(self) -> list[dict[str, object]]: ...
    def abandon(self) -> None: ...
    def note_slept(self) -> None: ...
    async def finish(self) -> None: ...
