"""Endpoints whose exchanges the workers carry out. All that decides about a request stays here, with the driver."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from synth_async.config import Config
from synth_async.config.models import Endpoint as EndpointConfig
from synth_async.distributed.fleet import Fleet
from synth_async.distributed.wire import Head
from synth_async.endpoint.client import HttpAnswer
from synth_async.endpoint.purse import Lease
from synth_async.endpoint.service import Endpoint
from synth_async.errors import SynthAsyncError
from synth_async.pipeline.frames import answer_frame
from synth_async.records import ChatRequest
from synth_async.store.frames import KEY_DIGITS, read_frame
from synth_async.store.segments import worker_lines

__all__ = ["RemoteEndpoint", "kept_answers", "remote_endpoints"]


class _Connections:
    """What stands for the connections of an endpoint: those of the workers."""

    def __init__(self, name: str, fleet: Fleet) -> None:
        self._name = name
        self._fleet = fleet

    async def post(self, body: bytes) -> HttpAnswer:
        """Nothing is asked without its head: see `RemoteEndpoint.post`."""
        raise AssertionError(f"a request of {len(body)} bytes to {self._name} without what it is journaled under")

    def renew(self) -> None:
        self._fleet.renew()

    async def aclose(self) -> None:
        """The workers close theirs."""


class RemoteEndpoint(Endpoint):
    """An endpoint with its limits, breaker, dialect, estimates and counts here, and its connections elsewhere."""

    def __init__(self, name: str, settings: EndpointConfig, fleet: Fleet, *, give_up_after_s: float) -> None:
        super().__init__(name, settings, _Connections(name, fleet), give_up_after_s=give_up_after_s)
        self._fleet = fleet

    async def post(self, request: ChatRequest, body: bytes, lease: Lease | None) -> HttpAnswer:
        """One exchange, by the worker that has the request's key; it journals the answer."""
        frame = answer_frame(request, request.attempt, self.name, b"", lease.number if lease is not None else None)
        return await self._fleet.exchange(self.name, body, Head(frame.key, frame.kind, frame.fields))


def kept_answers(folder: Path, worker: str, wanted: Collection[tuple[str, int]]) -> dict[tuple[str, int], bytes]:
    """Bodies that a lost worker has journaled in a run folder, by (key, attempt), of those that are `wanted`.

    Its process may outlive its node for a moment and journal what it receives, so its end is waited for. Raises
    `RunLocked` where it does not end.
    """
    found: dict[tuple[str, int], bytes] = {}
    keys = {key for key, _ in wanted}
    for line in worker_lines(folder, worker):
        if line[KEY_DIGITS].decode() not in keys:
            continue
        frame = read_frame(line)
        name = (frame.key, frame.fields.get("attempt", 0))
        if name in wanted:
            found[name] = frame.body or b""
    return found


@asynccontextmanager
async def remote_endpoints(
    config: Config, fleet: Fleet, names: Mapping[str, EndpointConfig]
) -> AsyncIterator[dict[str, Endpoint]]:
    """The endpoints by name, with all workers of the fleet hired; they are ended on leaving."""
    stopped_by: SynthAsyncError | None = None
    await fleet.start()
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(fleet.run)
            try:
                yield {
                    name: RemoteEndpoint(name, settings, fleet, give_up_after_s=config.give_up_after_s)
                    for name, settings in names.items()
                }
            except SynthAsyncError as error:
                stopped_by = error  # raised below: a task group would wrap it up
            group.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await fleet.aclose()
    if stopped_by is not None:
        raise stopped_by
