"""The embedded endpoint over HTTP: OpenAI's chat completions on loopback, with limits, latency and faults.

    POST /v1/chat/completions    GET /v1/models    GET /_simulator/stats    files and batches: see `batch_http`

A chat request passes, in this order: key, body, model, faults of HTTP that cost nothing (429), limits, latency,
faults of HTTP that cost (5xx, resets, hangs, cut bodies), answer. `Bearer invalid` gets 401 and `Bearer no-quota`
the 429 of an account without money; any other key, or none, will do.
"""

from __future__ import annotations

import asyncio
import math
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable
from statistics import NormalDist

import orjson
from aiohttp import web

from synth_async.config.models import SIMULATOR, Simulation
from synth_async.endpoint.simulator.answers import DEFAULT_MAX_TOKENS, Draws, another_sample, draws_for
from synth_async.endpoint.simulator.batch_http import BatchRoutes
from synth_async.endpoint.simulator.batches import BatchDesk
from synth_async.endpoint.simulator.chat import InvalidRequest, parse_chat
from synth_async.endpoint.simulator.completion import completion_body
from synth_async.endpoint.simulator.faults import (
    TransportFault,
    arrival_draw,
    error_body,
    rate_limited,
    server_error,
    transport_fault,
    truncated,
)
from synth_async.endpoint.simulator.ledger import Ledger
from synth_async.endpoint.simulator.limits import RateLimits, Refusal
from synth_async.endpoint.simulator.replies import faulty_reply, json_reply, refuse_key, reset_connection
from synth_async.endpoint.simulator.tokens import count_prompt_tokens

__all__ = ["DESK", "application", "drawn_latency_s", "listening", "refusal_parts", "run_until", "serve"]

_LARGEST_BODY_BYTES = 32 * 1024 * 1024
# Long enough that a client's idle connection is never closed under its hands within a run.
_KEEPALIVE_S = 3600.0
_BACKLOG = 4096
_NORMAL = NormalDist()
# A reset in the middle of a body must not overtake the bytes before it.
_BEFORE_RESET_S = 0.01


class _Endpoint:
    """The state of one server, and what it does with a request."""

    def __init__(self, simulation: Simulation, *, any_model: bool) -> None:
        self._simulation = simulation
        self._any_model = any_model
        self._turns: Counter[TransportFault] = Counter()
        self._limits = RateLimits(simulation.rpm, simulation.tpm, burst_s=simulation.burst_s, now=time.monotonic())
        self._ledger = Ledger()
        self.batches = BatchRoutes(simulation)

    async def models(self, _: web.Request) -> web.Response:
        model = {"id": SIMULATOR, "object": "model", "created": 0, "owned_by": "synth-async"}
        return json_reply(200, orjson.dumps({"object": "list", "data": [model]}))

    async def stats(self, _: web.Request) -> web.Response:
        return json_reply(200, orjson.dumps(self._ledger.as_json()))

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Answer one chat request, and write its end into the ledger however it ends."""
        started = time.perf_counter()
        body = await request.read()
        draws = draws_for(self._simulation.seed, body)
        arrival, times_asked = self._ledger.arrive(draws.body_hash)
        status = "abandoned"
        try:
            response = await self._respond(request, body, draws, arrival, times_asked)
            status = "reset" if response is None else str(response.status)
        finally:
            self._ledger.close(status)
        if response is None:  # the connection is gone; aiohttp still wants something to throw away
            return web.Response()
        if not response.prepared:
            response.headers["x-request-id"] = f"req_{draws.body_hash:016x}{arrival:x}"
            response.headers["openai-processing-ms"] = str(int((time.perf_counter() - started) * 1000))
        return response

    async def _respond(
        self, request: web.Request, body: bytes, draws: Draws, arrival: int, times_asked: int
    ) -> web.StreamResponse | None:
        if (refused := refuse_key(request.headers.get("Authorization", ""))) is not None:
            return refused
        try:
            chat = parse_chat(body)
        except InvalidRequest as problem:
            return json_reply(400, error_body(str(problem), kind="invalid_request_error", param=problem.param))
        if chat.model != SIMULATOR and not self._any_model:
            return _no_such_model(chat.model)
        fault, turn = self._fault(arrival)
        if fault is TransportFault.RATE_LIMITED:
            return faulty_reply(rate_limited(turn, unix_time=time.time()))
        prompt_tokens = count_prompt_tokens(chat.texts)
        charged = prompt_tokens + (chat.max_tokens or DEFAULT_MAX_TOKENS) * chat.n
        if (refusal := self._limits.admit(charged, time.monotonic())) is not None:
            return _over_limit(refusal, self._limits.headers())
        headers = self._limits.headers()
        self._ledger.accept(charged, time.time())
        if (latency_s := drawn_latency_s(self._simulation, draws.latency)) > 0:
            await asyncio.sleep(latency_s)
        if chat.samples:
            draws = another_sample(draws, times_asked)
        whole, tokens = completion_body(chat, self._simulation, draws, prompt_tokens)
        if fault is not None:
            return await _fail(fault, turn, request, whole)
        self._ledger.answer(draws.body_hash, tokens)
        return json_reply(200, whole, headers)

    def _fault(self, arrival: int) -> tuple[TransportFault | None, int]:
        fault = transport_fault(self._simulation.faults, arrival_draw(self._simulation.seed, arrival))
        if fault is None:
            return None, 0
        turn = self._turns[fault]
        self._turns[fault] += 1
        self._ledger.faults[fault.value] += 1
        return fault, turn


def drawn_latency_s(simulation: Simulation, draw: float) -> float:
    """The latency that a draw (0-1) stands for: lognormal around the median."""
    median, sigma = simulation.latency_s, simulation.latency_sigma
    if median == 0 or sigma == 0:
        return median
    return median * math.exp(sigma * _NORMAL.inv_cdf(min(max(draw, 1e-9), 1 - 1e-9)))


async def _fail(fault: TransportFault, turn: int, request: web.Request, whole: bytes) -> web.StreamResponse | None:
    """Act out a failure of HTTP; None where the connection was reset."""
    match fault:
        case TransportFault.SERVER_ERROR:
            return faulty_reply(server_error(turn))
        case TransportFault.TRUNCATED_BODY:
            return faulty_reply(truncated(turn, whole))
        case TransportFault.HANG:
            await asyncio.Event().wait()  # until the client leaves: the handler is cancelled then
        case TransportFault.RESET if turn % 2:
            response = web.StreamResponse(
                headers={"Content-Length": str(len(whole)), "Content-Type": "application/json"}
            )
            await response.prepare(request)
            await response.write(whole[: len(whole) // 2])
            await asyncio.sleep(_BEFORE_RESET_S)
    reset_connection(request)
    return None


def _over_limit(refusal: Refusal, headers: dict[str, str]) -> web.Response:
    body, hints = refusal_parts(refusal)
    return json_reply(429, body, {**headers, **hints})


def refusal_parts(refusal: Refusal) -> tuple[bytes, dict[str, str]]:
    """The body and the further headers of a 429."""
    hints = {}
    if refusal.wait_s is not None:
        hints["retry-after"] = str(math.ceil(refusal.wait_s))
        hints["retry-after-ms"] = str(math.ceil(refusal.wait_s * 1000))
    return error_body(refusal.message, kind=refusal.unit, code="rate_limit_exceeded"), hints


def _no_such_model(name: str) -> web.Response:
    message = f"The model `{name}` does not exist or you do not have access to it. There is only `{SIMULATOR}`."
    return json_reply(404, error_body(message, kind="invalid_request_error", code="model_not_found", param="model"))


# --- running it ----------------------------------------------------------------------------------


DESK = web.AppKey("DESK", BatchDesk)
"""Under which an application holds its files and batches."""


def application(simulation: Simulation, *, any_model: bool = False) -> web.Application:
    """All routes of a server."""
    endpoint = _Endpoint(simulation, any_model=any_model)
    app = web.Application(client_max_size=_LARGEST_BODY_BYTES)
    app.router.add_post("/v1/chat/completions", endpoint.chat)
    app.router.add_get("/v1/models", endpoint.models)
    app.router.add_get("/_simulator/stats", endpoint.stats)
    app[DESK] = endpoint.batches.desk
    endpoint.batches.add_to(app)

    async def close(_: web.Application) -> None:
        await endpoint.batches.desk.aclose()

    app.on_cleanup.append(close)
    return app


async def listening(simulation: Simulation, *, port: int, any_model: bool = False) -> tuple[web.AppRunner, str]:
    """A server that listens on loopback, and its base URL. Port 0 takes any free one; end it with `cleanup()`."""
    runner = web.AppRunner(
        application(simulation, any_model=any_model),
        access_log=None,
        handler_cancellation=True,
        keepalive_timeout=_KEEPALIVE_S,
        shutdown_timeout=0.1,
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=_BACKLOG).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/v1"


async def run_until(
    stop: asyncio.Event, simulation: Simulation, *, port: int, any_model: bool, on_ready: Callable[[str], None]
) -> None:
    """Serve until `stop` is set; `on_ready` gets the base URL as soon as the server listens."""
    runner, base_url = await listening(simulation, port=port, any_model=any_model)
    try:
        on_ready(base_url)
        await stop.wait()
    finally:
        await runner.cleanup()


def serve(simulation: Simulation, *, port: int, any_model: bool = False, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM, then return. Raises `OSError` where the port is taken."""
    asyncio.run(_serve(simulation, port=port, any_model=any_model, on_ready=on_ready))


async def _serve(simulation: Simulation, *, port: int, any_model: bool, on_ready: Callable[[str], None]) -> None:
    allow_many_connections()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await run_until(stop, simulation, port=port, any_model=any_model, on_ready=on_ready)


def allow_many_connections() -> None:
    """Raise this process's soft limit of open files to its hard one: a thousand connections need as many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else hard
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
