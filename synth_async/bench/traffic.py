"""Drives the client or a whole run for the time of a measurement, and notes what it took."""

from __future__ import annotations

import asyncio
import itertools
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from synth_async.bench.plan import BenchPlan
from synth_async.bench.recorder import Recorder
from synth_async.bench.servers import ServerLog, read_log, running_servers, server_log
from synth_async.config.secrets import ResolvedEndpoint
from synth_async.endpoint.client import OpenAIClient
from synth_async.endpoint.service import Endpoint
from synth_async.endpoint.serving import ServingEndpoint
from synth_async.errors import EndpointRefused, RequestRejected, StoppedEarly, SynthAsyncError, TransientFailure
from synth_async.pipeline.run import Run
from synth_async.records import ChatRequest, Topic
from synth_async.stages.generation import generation_request
from synth_async.stages.task_plan import task_plan
from synth_async.store.run_folder import RunFolder

__all__ = ["Traffic", "drive"]


@dataclass(slots=True)
class Traffic:
    """What was driven: a recorder and, where the endpoint is simulated, the server's log by name of the endpoint.

    `sending_s` is how long requests were sent, without the wait for the last answers. CPU seconds are of this process:
    `start_cpu_s` until the first answer (connections, templates, files), the others from there to the last one.
    """

    recorders: dict[str, Recorder] = field(default_factory=dict)
    logs: dict[str, ServerLog] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    sending_s: float = 0.0
    start_cpu_s: float = 0.0
    user_cpu_s: float = 0.0
    system_cpu_s: float = 0.0
    max_rss_bytes: int = 0
    interrupted: bool = False
    stopped_early: str = ""


class _Stop:
    """The end of sending: time is over, enough was sent, or somebody interrupts."""

    def __init__(self, plan: BenchPlan, traffic: Traffic) -> None:
        self.enough = StoppedEarly("the measurement is over")
        self.event = asyncio.Event()
        self.started_at = anyio.current_time()
        self.usage_at_start = _usage()
        self.usage_at_first_answer: resource.struct_rusage | None = None
        self._requests = plan.requests
        self._traffic = traffic

    def interrupt(self) -> None:
        self._traffic.interrupted = True
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)  # a second one ends the process
        self.event.set()

    def look(self) -> None:
        """After each exchange: enough requests may have been sent."""
        if self.usage_at_first_answer is None:
            self.usage_at_first_answer = _usage()
        if self._requests is not None:
            sent = sum(one.endpoint.counts.attempts for one in self._traffic.recorders.values())
            if sent >= self._requests:
                self.event.set()

    async def wait(self, seconds: float | None) -> None:
        """Until the end of sending; notes when that was."""
        with anyio.move_on_after(seconds):
            await self.event.wait()
        self._traffic.sending_s = anyio.current_time() - self.started_at


async def drive(plan: BenchPlan) -> Traffic:
    """Send until the plan's end, wait for the last answers, and read the logs. The first SIGINT ends it early.

    Raises `EndpointRefused` and `StoppedEarly` where the endpoint does not serve.
    """
    traffic = Traffic()
    async with running_servers(plan.used) as endpoints:
        before = {name: await read_log(endpoint.base_url) for name, endpoint in endpoints.items()}
        stop = _Stop(plan, traffic)
        started_unix_s = time.time()
        with _interruptible(stop):
            if plan.client_only:
                await _drive_client(plan, endpoints, traffic, stop)
            else:
                await _drive_run(plan, endpoints, traffic, stop)
        _note_cost(traffic, stop)
        for name, endpoint in endpoints.items():
            was = before[name]
            if was is not None and (now := await read_log(endpoint.base_url)) is not None:
                traffic.logs[name] = server_log(was, now, started_unix_s=started_unix_s)
    return traffic


@contextmanager
def _interruptible(stop: _Stop) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, stop.interrupt)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _usage() -> resource.struct_rusage:
    return resource.getrusage(resource.RUSAGE_SELF)


def _note_cost(traffic: Traffic, stop: _Stop) -> None:
    usage, start = _usage(), stop.usage_at_start
    first = stop.usage_at_first_answer or usage
    traffic.start_cpu_s = first.ru_utime - start.ru_utime + first.ru_stime - start.ru_stime
    traffic.user_cpu_s = usage.ru_utime - first.ru_utime
    traffic.system_cpu_s = usage.ru_stime - first.ru_stime
    # macOS counts bytes, Linux kibibytes
    traffic.max_rss_bytes = usage.ru_maxrss if sys.platform == "darwin" else usage.ru_maxrss * 1024


# --- the client alone ----------------------------------------------------------------------------


async def _drive_client(
    plan: BenchPlan, endpoints: Mapping[str, ResolvedEndpoint], traffic: Traffic, stop: _Stop
) -> None:
    """As many workers as may be in flight ask one synthetic request after another; nothing is journaled."""
    config = plan.loaded.config
    ((name, resolved),) = endpoints.items()
    client = OpenAIClient(name, resolved.settings, base_url=resolved.base_url, api_key=resolved.api_key.reveal())
    endpoint = Endpoint(name, resolved.settings, client, give_up_after_s=config.give_up_after_s)
    traffic.recorders[name] = Recorder(endpoint, stop.started_at, stop.look)
    requests = itertools.islice(_synthetic_requests(plan), plan.requests)
    failure: list[EndpointRefused | StoppedEarly] = []

    async def worker() -> None:
        for request in requests:
            # A worker whose turn is at once never pauses in between, so this is where the end of sending reaches it.
            await checkpoint_if_cancelled()
            try:
                await endpoint.ask(request, _keep_nothing)
            except (TransientFailure, RequestRejected):
                continue  # counted by its status
            except (EndpointRefused, StoppedEarly) as error:
                failure.append(error)
                stop.event.set()
                return

    async def workers() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(resolved.settings.max_in_flight):
                group.start_soon(worker)
        stop.event.set()

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(workers)
            await stop.wait(plan.seconds)
            group.cancel_scope.cancel()  # requests in flight are shielded: they are answered
    finally:
        await endpoint.aclose()
    if failure:
        raise failure[0]


def _synthetic_requests(plan: BenchPlan) -> Iterator[ChatRequest]:
    """The config's generation prompt about numbered topics: no two bodies are the same."""
    config = plan.loaded.config
    tasks = task_plan(plan.loaded)
    for number in itertools.count():
        topic = Topic(number, f"Synthetic question number {number}")
        yield generation_request(config, tasks.write(topic, 0))


def _keep_nothing(_: bytes) -> None:
    pass


# --- a whole run ---------------------------------------------------------------------------------


async def _drive_run(plan: BenchPlan, endpoints: Mapping[str, ResolvedEndpoint], traffic: Traffic, stop: _Stop) -> None:
    """A real run in a folder that is thrown away, interrupted when the time is over."""

    def listen(opened: Mapping[str, ServingEndpoint]) -> None:
        for name, endpoint in opened.items():
            traffic.recorders[name] = Recorder(endpoint, stop.started_at, stop.look)

    failure: SynthAsyncError | None = None
    with tempfile.TemporaryDirectory(prefix="synth-async-bench-") as scratch:
        run = Run(plan.tireless(), RunFolder(Path(scratch)), endpoints, on_endpoints=listen)
        async with anyio.create_task_group() as group:
            group.start_soon(_interrupt_at_the_end, run, stop, plan.seconds)
            try:
                await run.drive()
            except SynthAsyncError as error:
                failure = error
            finally:
                stop.event.set()
        traffic.metrics = run.metrics
    if failure is not None and failure is not stop.enough:
        # Raised out here and not within the task group, which would wrap it up.
        if not isinstance(failure, StoppedEarly) or not run.metrics.get("answered"):
            raise failure
        traffic.stopped_early = str(failure)


async def _interrupt_at_the_end(run: Run, stop: _Stop, seconds: float | None) -> None:
    await stop.wait(seconds)
    run.interrupt(stop.enough)
