"""Opening and closing the endpoints of a run: online or in batches, the embedded one included."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
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

__all__ = ["BatchExport", "open_endpoints"]


@dataclass(frozen=True, slots=True)
class BatchExport:
    """Where requests are written that somebody else runs; `on_file` gets the path of each file."""

    folder: Path
    on_file: Callable[[Path], None]


@asynccontextmanager
async def open_endpoints(
    config: Config,
    resolved: Mapping[str, ResolvedEndpoint],
    book: BatchBook,
    *,
    export: BatchExport | None = None,
) -> AsyncIterator[dict[str, ServingEndpoint]]:
    """The endpoints by name; connections and simulators are closed on leaving. Batches are written into `book`.

    With `export` they are files, for somebody else to run.
    """
    async with AsyncExitStack() as stack:
        endpoints: dict[str, ServingEndpoint] = {}
        runs: list[Callable[[], Coroutine[Any, Any, None]]] = []
        for name, found in resolved.items():
            base_url = found.base_url
            if found.is_simulator:
                base_url = await stack.enter_async_context(simulator_process(found.settings.simulation or Simulation()))
            client = OpenAIClient(name, found.settings, base_url=base_url, api_key=found.api_key.reveal())
            stack.push_async_callback(client.aclose)
            online = Endpoint(name, found.settings, client, give_up_after_s=config.give_up_after_s)
            endpoints[name] = online
            if found.settings.mode == "batch":
                files: BatchClient = OpenAIBatchClient(
                    name, found.settings, base_url=base_url, api_key=found.api_key.reveal()
                )
                if export is not None:
                    quiet_s = 2 * found.settings.batch.gather_s
                    files = FolderClient(export.folder, name, quiet_s=quiet_s, on_file=export.on_file)
                stack.push_async_callback(files.aclose)
                batched = BatchEndpoint(
                    online, files, book, give_up_after_s=config.give_up_after_s, address=batch_address(found)
                )
                endpoints[name] = batched
                runs.append(batched.run)
        await stack.enter_async_context(_beside(runs))
        yield endpoints


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
