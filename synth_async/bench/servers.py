"""The embedded endpoints of a measurement, and the log of a simulated one: what it accepted, and what it took."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import anyio.to_thread

from synth_async.bench.measures import Second
from synth_async.bench.plan import is_loopback
from synth_async.config.models import Simulation
from synth_async.config.secrets import ResolvedEndpoint
from synth_async.endpoint.simulator.process import simulator_process

__all__ = ["ServerLog", "read_log", "running_servers", "server_log"]

_TIMEOUT_S = 10.0
# The log is on this machine, whatever proxy the environment names.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class ServerLog:
    """What a simulated endpoint logged of a measurement. Tokens are those it charged: prompt + max_tokens."""

    seconds: tuple[Second, ...]
    requests: int
    cpu_s: float
    max_rss_bytes: int


@asynccontextmanager
async def running_servers(endpoints: Mapping[str, ResolvedEndpoint]) -> AsyncIterator[dict[str, ResolvedEndpoint]]:
    """The endpoints with an address each: those of `base_url: simulator` are started, and end with the block."""
    async with AsyncExitStack() as stack:
        found = {}
        for name, endpoint in endpoints.items():
            found[name] = endpoint
            if endpoint.is_simulator:
                server = simulator_process(endpoint.settings.simulation or Simulation())
                found[name] = replace(endpoint, base_url=await stack.enter_async_context(server))
        yield found


async def read_log(base_url: str) -> dict[str, Any] | None:
    """The stats of an endpoint on this machine, if it is a simulated one; None for any other."""
    if not is_loopback(base_url) or not base_url.endswith("/v1"):
        return None
    return await anyio.to_thread.run_sync(_read, f"{base_url.removesuffix('/v1')}/_simulator/stats")


def _read(url: str) -> dict[str, Any] | None:
    try:
        with _OPENER.open(url, timeout=_TIMEOUT_S) as response:
            found = json.load(response)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("simulated") is True else None


def server_log(before: Mapping[str, Any], after: Mapping[str, Any], *, started_unix_s: float) -> ServerLog:
    """What lies between two readings of the stats; `started_unix_s` is the begin of the measurement."""
    earlier = {second: (requests, tokens) for second, requests, tokens in before["accepted_per_second"]}
    seconds = []
    for second, requests, tokens in after["accepted_per_second"]:
        was = earlier.get(second, (0, 0))
        if requests > was[0]:
            seconds.append(Second(second - started_unix_s, requests - was[0], tokens - was[1]))
    return ServerLog(
        tuple(seconds),
        after["requests"] - before["requests"],
        after["cpu_s"] - before["cpu_s"],
        after["max_rss_bytes"],
    )
