"""What a request costs the client: CPU milliseconds, user and system apart, and requests per second.

    python benchmarks/client.py [--in-flight 32,1000] [--rounds 5] [--requests N] [--json]

Against the embedded endpoint in another process, without limits: a fixed latency (50 ms at up to 100 in flight, 500 ms
above), replies of about 1.1 KB. Each way of asking gets several short rounds, in turn with the others; each
round has connections of its own, and the requests that open them are not counted. The bodies are made beforehand.

    bare aiohttp                 session.post and read: no check of anything
    OpenAIClient                 our client: bytes in, bytes out, failures told apart
    Endpoint.ask, limits off     all of ours: body, admission, client, deadline, reading the completion
    openai low-level post        the openai package with its aiohttp transport, `post` of ready bytes, no retries
    openai create                the openai package as it comes: `chat.completions.create`

System time is mostly the kernel's work on loopback sockets, and waking a server that sleeps is part of it: it varies
with the machine, and user time is what code can change. Requests per second stop at what one server process answers.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import resource
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import Any

import aiohttp
import httpx2
import openai
import orjson

from synth_async.bench.plan import embedded_config
from synth_async.config.models import Endpoint as EndpointConfig
from synth_async.config.models import Simulation
from synth_async.endpoint.client import OpenAIClient
from synth_async.endpoint.service import Endpoint
from synth_async.endpoint.simulator.process import start_simulator
from synth_async.endpoint.simulator.server import allow_many_connections
from synth_async.endpoint.wire import Dialect, request_body
from synth_async.records import ChatRequest, Topic
from synth_async.stages.generation import generation_request
from synth_async.stages.task_plan import TaskPlan

MODEL = "simulator"
BODIES = 200
MAX_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Prepared:
    """One request in every form that a variant sends."""

    request: ChatRequest
    body: bytes
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Setting:
    """Where the requests go, and how many are open at once."""

    base_url: str
    in_flight: int


@dataclass(frozen=True, slots=True)
class Round:
    """One measured round, per request in milliseconds."""

    user_ms: float
    system_ms: float
    per_second: float


@dataclass(frozen=True, slots=True)
class Row:
    """All rounds of one variant."""

    variant: str
    in_flight: int
    requests_a_round: int
    user_ms_min: float
    user_ms_median: float
    system_ms_min: float
    system_ms_median: float
    per_second_median: float
    per_second_max: float


Send = Callable[[Prepared], Awaitable[object]]


# --- the ways of asking --------------------------------------------------------------------------


@asynccontextmanager
async def bare_aiohttp(setting: Setting) -> AsyncIterator[Send]:
    """Nothing but the transport."""
    url = f"{setting.base_url}/chat/completions"
    headers = {"Content-Type": "application/json", "Authorization": "Bearer none"}
    connector = aiohttp.TCPConnector(limit=setting.in_flight)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def send(prepared: Prepared) -> bytes:
            async with session.post(url, data=prepared.body) as response:
                return await response.read()

        yield send


@asynccontextmanager
async def our_client(setting: Setting) -> AsyncIterator[Send]:
    """`OpenAIClient.post`."""
    client = OpenAIClient("bench", _settings(setting), base_url=setting.base_url, api_key="none")
    try:
        yield lambda prepared: client.post(prepared.body)
    finally:
        await client.aclose()


@asynccontextmanager
async def our_endpoint(setting: Setting) -> AsyncIterator[Send]:
    """`Endpoint.ask` without limits; the answer is kept nowhere."""
    settings = _settings(setting)
    client = OpenAIClient("bench", settings, base_url=setting.base_url, api_key="none")
    endpoint = Endpoint("bench", settings, client, give_up_after_s=60)
    try:
        yield lambda prepared: endpoint.ask(prepared.request, _keep_nothing)
    finally:
        await endpoint.aclose()


@asynccontextmanager
async def low_level_post(setting: Setting) -> AsyncIterator[Send]:
    """The openai package's `post`, with its aiohttp transport and a pool that is large enough."""
    limits = httpx2.Limits(max_connections=setting.in_flight, max_keepalive_connections=setting.in_flight)
    async with openai.AsyncOpenAI(
        api_key="none",
        base_url=setting.base_url,
        max_retries=0,
        http_client=openai.DefaultAioHttpClient(limits=limits),
    ) as client:
        options: Any = {"headers": {"Content-Type": "application/json"}}
        yield lambda prepared: client.post(
            "/chat/completions", content=prepared.body, cast_to=httpx2.Response, options=options
        )


@asynccontextmanager
async def plain_create(setting: Setting) -> AsyncIterator[Send]:
    """The openai package with every default."""
    async with openai.AsyncOpenAI(api_key="none", base_url=setting.base_url) as client:
        yield lambda prepared: client.chat.completions.create(**prepared.arguments)


VARIANTS = {
    "bare aiohttp": bare_aiohttp,
    "OpenAIClient": our_client,
    "Endpoint.ask, limits off": our_endpoint,
    "openai low-level post": low_level_post,
    "openai create": plain_create,
}


def _settings(setting: Setting) -> EndpointConfig:
    return EndpointConfig(base_url=setting.base_url, model=MODEL, max_in_flight=setting.in_flight)


def _keep_nothing(_: bytes) -> None:
    pass


# --- measuring -----------------------------------------------------------------------------------


def prepared_requests() -> list[Prepared]:
    """Generation prompts about as many topics, encoded."""
    config = embedded_config(Simulation(), max_tokens=MAX_TOKENS, max_in_flight=1).config
    plan = TaskPlan(config, "")
    made = []
    for number in range(BODIES):
        topic = Topic(number, f"Synthetic question number {number}")
        request = generation_request(config, plan.write(topic, 0))
        body = request_body(request, model=MODEL, dialect=Dialect(), extra_body={})
        made.append(Prepared(request, body, orjson.loads(body)))
    return made


async def send_all(send: Send, requests: Iterator[Prepared], number: int, in_flight: int) -> None:
    """Send `number` requests, `in_flight` of them open at once."""
    left = iter(range(number))

    async def worker() -> None:
        for _ in left:
            await send(next(requests))

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(worker())


async def one_round(variant: str, setting: Setting, requests: Iterator[Prepared], number: int) -> Round:
    """Open connections, warm up, measure, close."""
    async with VARIANTS[variant](setting) as send:
        await send_all(send, requests, 1, 1)  # ours sends its first request alone
        await send_all(send, requests, 2 * setting.in_flight, setting.in_flight)
        gc.collect()
        usage, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        await send_all(send, requests, number, setting.in_flight)
        after, elapsed_s = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - started
    return Round(
        1000 * (after.ru_utime - usage.ru_utime) / number,
        1000 * (after.ru_stime - usage.ru_stime) / number,
        number / elapsed_s,
    )


async def reply_bytes(base_url: str, requests: list[Prepared]) -> float:
    """Mean size of a reply body."""
    async with aiohttp.ClientSession() as session:
        sizes = []
        for prepared in requests[:50]:
            async with session.post(f"{base_url}/chat/completions", data=prepared.body) as response:
                sizes.append(len(await response.read()))
    return statistics.mean(sizes)


async def measure(setting: Setting, rounds: int, number: int, requests: list[Prepared]) -> list[Row]:
    """The rounds of every variant, in turn."""
    endless = cycle(requests)
    found: dict[str, list[Round]] = {variant: [] for variant in VARIANTS}
    for _ in range(rounds):
        for variant in VARIANTS:
            found[variant].append(await one_round(variant, setting, endless, number))
    return [_row(variant, setting.in_flight, number, all_rounds) for variant, all_rounds in found.items()]


def _row(variant: str, in_flight: int, number: int, rounds: list[Round]) -> Row:
    user, system = [one.user_ms for one in rounds], [one.system_ms for one in rounds]
    rates = [one.per_second for one in rounds]
    return Row(
        variant,
        in_flight,
        number,
        min(user),
        statistics.median(user),
        min(system),
        statistics.median(system),
        statistics.median(rates),
        max(rates),
    )


def measured(in_flight: int, rounds: int, number: int | None) -> dict[str, Any]:
    """All variants at one number in flight, against a server of their own."""
    latency_s = 0.05 if in_flight <= 100 else 0.5
    server = start_simulator(Simulation(latency_s=latency_s, latency_sigma=0, weak_share=0, duplicate_share=0))
    try:
        requests = prepared_requests()
        size = asyncio.run(reply_bytes(server.base_url, requests))
        setting = Setting(server.base_url, in_flight)
        rows = asyncio.run(measure(setting, rounds, number or max(1000, 2 * in_flight), requests))
    finally:
        server.stop()
    return {"in_flight": in_flight, "latency_s": latency_s, "reply_bytes": size, "rows": [asdict(row) for row in rows]}


def table(found: list[dict[str, Any]]) -> str:
    """All of it as text."""
    lines = []
    for one in found:
        number, size = one["rows"][0]["requests_a_round"], one["reply_bytes"]
        lines.append(
            f"{one['in_flight']:,} in flight, latency {one['latency_s']:g} s, replies of {size:,.0f} bytes,"
            f" {number:,} requests a round"
        )
        lines.append(
            f"  {'CPU-ms per request':<26} {'user min':>9} {'median':>7} {'sys min':>9} {'median':>7}"
            f" {'req/s median':>14} {'max':>6}"
        )
        lines += [
            f"  {row['variant']:<26} {row['user_ms_min']:>9.2f} {row['user_ms_median']:>7.2f}"
            f" {row['system_ms_min']:>9.2f} {row['system_ms_median']:>7.2f}"
            f" {row['per_second_median']:>14.0f} {row['per_second_max']:>6.0f}"
            for row in one["rows"]
        ]
        lines.append("")
    return "\n".join(lines).rstrip()


def main() -> None:
    """Run the benchmark."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--in-flight", default="32,1000", help="requests open at once, a table each")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--requests", type=int, help="requests a round; default: 1,000, or twice those in flight")
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    allow_many_connections()
    found = [measured(int(number), chosen.rounds, chosen.requests) for number in chosen.in_flight.split(",")]
    print(json.dumps(found, indent=2) if chosen.json else table(found))


if __name__ == "__main__":
    main()
