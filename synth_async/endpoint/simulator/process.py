"""The embedded endpoint in a child process of its own, so that its CPU and memory are not the client's.

The child holds the read end of a pipe whose write end only this process has. When this process ends, by SIGKILL too,
the pipe closes and the child leaves: no server outlives its client. The child has a session of its own, so that an
interrupt at the terminal reaches the client alone, and what is in flight can still be answered.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import IO

import anyio
import anyio.to_thread
import orjson

from synth_async.config.models import Simulation
from synth_async.errors import EndpointRefused

__all__ = ["RunningSimulator", "simulator_process", "start_simulator"]

_STOP_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class RunningSimulator:
    """A server that listens. `base_url` ends with `/v1`; the stats are at `stats_url`."""

    base_url: str
    child: subprocess.Popen[bytes]

    @property
    def stats_url(self) -> str:
        return f"{self.base_url.removesuffix('/v1')}/_simulator/stats"

    @property
    def pid(self) -> int:
        return self.child.pid

    def stop(self) -> None:
        """End the server; may be called twice."""
        for pipe in (self.child.stdin, self.child.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self.child.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


def start_simulator(simulation: Simulation, *, any_model: bool = False) -> RunningSimulator:
    """Start a server on a free port and wait until it listens. Raises `EndpointRefused` where it does not start."""
    command = [sys.executable, "-m", "synth_async.endpoint.simulator", "--port", "0", "--until-stdin-closes"]
    command += ["--simulation", simulation.model_dump_json()]
    command += ["--any-model"] if any_model else []
    with tempfile.TemporaryFile() as complaints:
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and module, no shell
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, start_new_session=True
        )
        return RunningSimulator(_first_line(child, complaints), child)


def _first_line(child: subprocess.Popen[bytes], complaints: IO[bytes]) -> str:
    """The base URL, which the child prints when it listens."""
    line = child.stdout.readline() if child.stdout is not None else b""
    if line:
        return str(orjson.loads(line)["base_url"])
    RunningSimulator("", child).stop()
    complaints.seek(0)
    told = complaints.read().decode(errors="replace").strip().splitlines()
    raise EndpointRefused(
        f"the simulator did not start (exit {child.returncode}): {told[-1] if told else 'no message'}"
    )


@asynccontextmanager
async def simulator_process(simulation: Simulation, *, any_model: bool = False) -> AsyncIterator[str]:
    """The base URL of a server that runs as long as the block; it has ended when the block is left."""
    running: list[RunningSimulator] = []

    def start() -> None:
        running.append(start_simulator(simulation, any_model=any_model))

    try:
        await anyio.to_thread.run_sync(start)
        yield running[0].base_url
    finally:
        with anyio.CancelScope(shield=True):
            for one in running:
                await anyio.to_thread.run_sync(one.stop)
