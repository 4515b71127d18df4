"""Opening and closing the endpoints of a run: online or in batches, the embedded one included."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio

from synth_async.config import Config, ResolvedEndpoint
from synth_async.config.models import Simulation
from synth_async.endpoint.batch.record import BatchBook
from synth_async.endpoint.client import OpenAIClient
from synth_async.endpoint.service import Endpoint
from synth_async.endpoint.serving import ServingEndpoint
from synth_async.endpoint.simulator.process import simulator_process
from synth_async.errors import SynthAsyncError

__all__ = ["open_endpoints"]


@asynccontextmanager
async def open_endpoints(
    config: Config, resolved: Mapping[str, ResolvedEndpoint], book: BatchBook
) -> AsyncIterator[dict[str, ServingEndpoint]]:
    """The endpoints by name; connections and simulators are closed on leaving. Batches are written into `book`."""
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
                from synth_async.endpoint.batch.client import OpenAIBatchClient  # noqa: PLC0415 - few runs need it
                from synth_async.endpoint.batch.service import BatchEndpoint  # noqa: PLC0415

                files = OpenAIBatchClient(name, found.settings, base_url=base_url, api_key=found.api_key.reveal())
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
    variable = settings.api_key_env or "OPENAI_API_KEY"
    return {
        "base_url": found.base_url,
        "api_key_env": variable,
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
