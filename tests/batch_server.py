"""The embedded endpoint in a thread of the test, its batches in view, and processes that it kills at a given call."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import orjson
from aiohttp import web
from scripted_endpoint import prepared_run

from synth_async.config.models import Simulation
from synth_async.endpoint.batch.lines import line_id
from synth_async.endpoint.simulator.batches import BatchDesk
from synth_async.endpoint.simulator.server import DESK, application
from synth_async.errors import ExitCode, StoppedEarly, SynthAsyncError
from synth_async.pipeline.run import Run

QUICK = {"gather_s": 0.1, "poll_s": 0.05, "settle_s": 0.3}
_OF_BATCHES = ("/v1/files", "/v1/batches")


@dataclass
class BatchServer:
    """A server on loopback. `kill` is (number of the call from 1, whether its effect comes first)."""

    desk: BatchDesk
    base_url: str = ""
    calls: list[str] = field(default_factory=list)
    kill: tuple[int, bool] | None = None
    victim: int | None = None
    holds: bool = False
    """Whether every batch is said to be in progress, whatever has become of it."""

    def created(self) -> list[dict[str, Any]]:
        """Every batch that was created, in order."""
        found: list[dict[str, Any]] = self.desk.as_json()["created"]
        return found

    async def hook(self, request: web.Request, reply: Any) -> web.StreamResponse:
        """Count a call for files and batches, and kill whoever makes it when it is its turn."""
        if not request.path.startswith(_OF_BATCHES):
            return await reply(request)  # type: ignore[no-any-return]
        self.calls.append(f"{request.method} {request.path}")
        is_turn = self.kill is not None and len(self.calls) == self.kill[0]
        if is_turn and self.kill is not None and not self.kill[1]:
            return self._strike()
        answer: web.StreamResponse = await reply(request)
        if self.holds and request.path.startswith("/v1/batches/") and isinstance(answer, web.Response):
            answer.body = orjson.dumps({**orjson.loads(answer.text or ""), "status": "in_progress"})
        return self._strike() if is_turn else answer

    def _strike(self) -> web.Response:
        if self.victim is not None:
            os.kill(self.victim, signal.SIGKILL)
        return web.Response(status=500)


@contextmanager
def batch_server(simulation: dict[str, Any] | None = None) -> Iterator[BatchServer]:
    """A server in a thread; it is gone on leaving."""
    loop = asyncio.new_event_loop()
    app = application(Simulation.model_validate({"latency_s": 0.0, **(simulation or {})}))
    server = BatchServer(app[DESK])

    @web.middleware
    async def hook(request: web.Request, handler: Any) -> web.StreamResponse:
        return await server.hook(request, handler)

    app.middlewares.append(hook)
    runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)

    async def listen() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"

    loop.run_until_complete(listen())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def batch_config(server: BatchServer, folder: Path, *, target: int, topics: int = 40, **changes: Any) -> dict[str, Any]:
    """A config whose examples and verdicts go to the server in batches; topics come from a file."""
    listed = folder / "topics.txt"
    listed.write_text("\n".join(f"Question number {number} about an invoice" for number in range(topics)))
    batch = {**QUICK, **changes.pop("batch", {})}
    endpoint = {"base_url": server.base_url, "model": "simulator", "mode": "batch", "batch": batch}
    return {
        "name": "batched",
        "domain": "a shop",
        "system_prompt": "You help customers of a shop.",
        "target": target,
        "fsync": "never",
        "endpoints": {"only": {**endpoint, **changes.pop("endpoint", {})}},
        "topics": {"file": "topics.txt"},
        "judge": {"criteria": ["quality"]},
        "coverage": None,
        **changes,
    }


def driven(folder: Path, tree: dict[str, Any], **options: bool) -> tuple[Run, SynthAsyncError | None, list[str]]:
    """A run driven in this process: itself, what stopped it, and what it said."""
    run, notes = prepared_run(folder, tree, **options), list[str]()
    run.on_note = notes.append
    try:
        anyio.run(run.drive)
    except SynthAsyncError as stopped:
        return run, stopped, notes
    return run, None, notes


def driven_and_killed(folder: Path, tree: dict[str, Any], server: BatchServer, call: int, *, effect: bool) -> int:
    """A run in a process of its own, killed at its call number `call`; its exit code, -9 where it lived so long."""
    server.calls.clear()
    server.victim, server.kill = None, (call, effect)
    told = os.pipe()
    child = os.fork()
    if child == 0:
        _as_child(folder, tree, told[0])
    server.victim = child
    os.write(told[1], b"!")
    _, status = os.waitpid(child, 0)
    os.close(told[0])
    os.close(told[1])
    server.kill = None
    code = os.waitstatus_to_exitcode(status)
    assert code in (-signal.SIGKILL, ExitCode.FINISHED, ExitCode.STOPPED_EARLY)
    return code


def _as_child(folder: Path, tree: dict[str, Any], told: int) -> None:
    code = 1
    try:
        os.read(told, 1)  # until the server knows whom to kill
        anyio.run(prepared_run(folder, tree).drive)
        code = 0
    except StoppedEarly as stopped:
        code = int(stopped.exit_code)
    finally:
        os._exit(code)


def journaled_lines(run_folder: Path) -> list[str]:
    """The `custom_id` of every answer in the journal, in order."""
    ids = []
    for path in sorted(run_folder.glob("journal-*.log")):
        for line in path.read_bytes().splitlines():
            if b'"t":"answer-' in line[:80]:
                frame = orjson.loads(line[9:])
                ids.append(line_id(frame["k"], frame["attempt"]))
    return ids
