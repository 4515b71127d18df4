"""Opening and closing the endpoints of a run, the embedded one included."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from synth_async.config import Config, ResolvedEndpoint
from synth_async.config.models import Simulation
from synth_async.endpoint.client import OpenAIClient
from synth_async.endpoint.service import Endpoint
from synth_async.endpoint.simulator.process import simulator_process

__all__ = ["open_endpoints"]


@asynccontextmanager
async def open_endpoints(
    config: Config, resolved: Mapping[str, ResolvedEndpoint]
) -> AsyncIterator[dict[str, Endpoint]]:
    """The endpoints by name; connections and simulators are closed on leaving."""
    async with AsyncExitStack() as stack:
        endpoints = {}
        for name, found in resolved.items():
            base_url = found.base_url
            if found.is_simulator:
                base_url = await stack.enter_async_context(simulator_process(found.settings.simulation or Simulation()))
            client = OpenAIClient(name, found.settings, base_url=base_url, api_key=found.api_key.reveal())
            stack.push_async_callback(client.aclose)
            endpoints[name] = Endpoint(name, found.settings, client, give_up_after_s=config.give_up_after_s)
        yield endpoints
