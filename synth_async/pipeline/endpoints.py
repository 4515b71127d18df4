"""Opening and closing the endpoints of a run: online or in batches, the embedded one included."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from synth_async.config import Config, ResolvedEndpoint
from synth_async.config.models import Simulation
from synth_async.endpoint.batch.client import BatchClient, OpenAIBatchClient
from synth_async.endpoint.batch.exporting import FolderClient
from synth_async.endpoint.batch.record import BatchBook
from synth_async.endpoint.batch.service import BatchEndpoint
from synth_async.endpoint.client import OpenAIClient
from synth_async.endpoint.service import Endpoint
from synth_async.endpoint.serving import ServingEndpoint
from synth_async.endpoint.simulator.process import simulator_process
from synth_async.errors import SynthAsyncError

__all__ = ["BatchExport", "Connect", "Reached", "connected_here", "open_endpoints"]


@dataclass(frozen=True, slots=True)
class BatchExport:
    """Where requests are written that somebody else runs; `on_file` gets the path of each file."""

    folder: Path
    on_file: Callable[[Path], None]


@dataclass(frozen=True, slots=True)
class Reached:
    """An endpoint, and the URL at which it listens: where it is embedded, that of a process that has been started."""

    found: ResolvedEndpoint
    base_url: str


Connect = Callable[[Config, Mapping[str, Reached]], AbstractAsyncContextManager[Mapping[str, Endpoint]]]
"""Makes the connections to endpoints, by name, and closes them when the block is left."""


@asynccontextmanager
async def connected_here(config: Config, reached: Mapping[str, Reached]) -> AsyncIterator[dict[str, Endpoint]]:
    """Endpoints whose connections are this process's own."""
    async with AsyncExitStack() as stack:
        endpoints = {}
        for name, one in reached.items():
            settings = one.found.settings
            client = OpenAIClient(name, settings, base_url=one.base_url, api_key=one.found.api_key.reveal())
            stack.push_async_callback(client.aclose)
            endpoints[name] = Endpoint(name, settings, client, give_up_after_s=config.give_up_after_s)
        yield endpoints


@asynccontextmanager
async def open_endpoints(
    config: Config,
    resolved: Mapping[str, ResolvedEndpoint],
    book: BatchBook,
    *,
    export: BatchExport | None = None,
    connect: Connect = connected_here,
) -> AsyncIterator[dict[str, ServingEndpoint]]:
    """The endpoints by name; connections and simulators are closed on leaving. Batches are written into `book`.

    With `export` they are files, for somebody else to run.
    """
    async with AsyncExitStack() as stack:
        reached = {name: await _reached(stack, found) for name, found in resolved.items()}
        online = await stack.enter_async_context(connect(config, reached))
        endpoints: dict[str, ServingEndpoint] = {}
        runs: list[Callable[[], Coroutine[Any, Any, None]]] = []
        for name, found in resolved.items():
            endpoints[name] = online[name]
            if found.settings.mode == "batch":
                files: BatchClient = OpenAIBatchClient(
                    name, found.settings, base_url=reached[name].base_url, api_key=found.api_key.reveal()
                )
                if export is not None:
                    quiet_s = 2 * found.settings.batch.gather_s
                    files = FolderClient(export.folder, name, quiet_s=quiet_s, on_file=export.on_file)
                stack.push_async_callback(files.aclose)
                batched = BatchEndpoint(
                    online[name], files, book, give_up_after_s=config.give_up_after_s, address=batch_address(found)
                )
                endpoints[name] = batched
                runs.append(batched.run)
        await stack.enter_async_context(_beside(runs))
        yield endpoints


async def _reached(stack: AsyncExitStack, found: ResolvedEndpoint) -> Reached:
    if not found.is_simulator:
        return Reached(found, found.base_url)
    simulation = found.settings.simulation or Simulation()
    return Reached(found, await stack.enter_async_context(simulator_process(simulation)))


def batch_address(found: ResolvedEndpoint) -> dict[str, object]:
    """Where batches of an endpoint are, so that they can be cancelled without the config; never a key."""
    settings = found.settings
    return {
        "base_url": found.base_url,
        "api_key_env": settings.api_key_env,
        "headers": settings.headers,
        "query": settings.query,
        "model": settings.model,
    }


@asynccontextmanager
async def _beside(runs: Sequence[Callable[[], Coroutine[Any, Any, None]]]) -> AsyncIterator[None]:
    """Run functions beside the block, and cancel them when it is left; its own error leaves as it is, in no group."""
    error: SynthAsyncError | None = None
    async with anyio.create_task_group() as group:
        for run in runs:
            group.start_soon(run)
        try:
            yield
        except SynthAsyncError as raised:
            error = raised
        finally:
            group.cancel_scope.cancel()
    if error is not None:
        raise error
