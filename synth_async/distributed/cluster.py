"""Ray itself: a cluster to run on, and the workers on it.

Without an address, Ray is started on this machine, on loopback, without its dashboard and without telling anyone of its
use; it ends with the run. A cluster that an address leads to is left as it is, but for the workers of this run.

No key crosses the wire, nor stands anywhere in Ray's own files: each worker takes it from a variable of its own
environment. Workers that Ray starts on this machine have that of the driver.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import ray
from ray.exceptions import RayActorError

from synth_async import __version__
from synth_async.config import Config
from synth_async.config.models import Endpoint as EndpointConfig
from synth_async.config.secrets import resolve_endpoint
from synth_async.distributed.endpoint import kept_answers, remote_endpoints
from synth_async.distributed.fleet import Fleet, WorkerLost
from synth_async.distributed.wire import Opened, Question, Reply
from synth_async.distributed.worker import AskingWorker
from synth_async.endpoint.client import OpenAIClient
from synth_async.endpoint.service import Endpoint
from synth_async.errors import StoppedEarly, SynthAsyncError, UsageError
from synth_async.pipeline.endpoints import Reached
from synth_async.store.journal import FsyncMode, open_journal
from synth_async.store.run_folder import RunFolder

__all__ = ["ray_endpoints"]

_OBJECT_STORE_BYTES = 128 * 1024 * 1024
"""Blocks of questions and replies pass through it, a few hundred KB each."""

_STARTS = 3
_HIRE_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 5.0


@asynccontextmanager
async def ray_endpoints(
    config: Config,
    reached: Mapping[str, Reached],
    *,
    folder: RunFolder,
    workers: int,
    address: str | None,
    on_note: Callable[[str], None],
) -> AsyncIterator[dict[str, Endpoint]]:
    """The endpoints by name, asked by so many workers. Raises `UsageError` where no cluster is at the address."""
    async with AsyncExitStack() as stack:
        # In a thread: it takes seconds, and in the main one Ray would put its own handler of SIGTERM in place of ours.
        await anyio.to_thread.run_sync(_connect, address, workers)
        stack.push_async_callback(_disconnect)
        endpoints = {name: (each.found.settings, each.base_url) for name, each in reached.items()}
        held_by = folder.lock.read_bytes()
        setup = _Setup(secrets.token_hex(4), folder.path.absolute(), held_by, config.fsync, endpoints)
        hire = partial(_hire, setup, on_note=on_note)
        fleet = Fleet(hire, workers, find_kept=partial(kept_answers, folder.path), on_note=on_note)
        settings = {name: each.found.settings for name, each in reached.items()}
        yield await stack.enter_async_context(remote_endpoints(config, fleet, settings))


def _connect(address: str | None, workers: int) -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what will be its default, without a warning
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        if address is not None:
            ray.init(address=address, configure_logging=False, log_to_driver=False)
            return
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UsageError(f"the Ray cluster at {address} could not be reached: {error}") from None
    for attempt in range(_STARTS):
        try:
            _start_here(workers)
        except Exception as error:  # noqa: BLE001 - Ray raises it bare where a node has not started within its 30 s
            ray.shutdown()
            if attempt == _STARTS - 1:
                raise StoppedEarly(f"Ray did not start: {error}; run the same command again") from None
        else:
            return


def _start_here(workers: int) -> None:
    ray.init(
        address="local",
        num_cpus=workers,
        num_gpus=0,
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        configure_logging=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
    )


async def _disconnect() -> None:
    with anyio.CancelScope(shield=True):
        await anyio.to_thread.run_sync(ray.shutdown)


# --- in the worker's process ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Setup:
    """What a worker is told. `held_by` is what stands in the folder's lock where this folder is the driver's own."""

    name: str
    folder: Path
    held_by: bytes
    fsync: FsyncMode
    endpoints: Mapping[str, tuple[EndpointConfig, str]]
    version: str = __version__


class _Asker:
    """A worker as an actor."""

    def __init__(self, setup: _Setup) -> None:
        self._setup = setup
        self._worker: AskingWorker | None = None

    async def open(self) -> Opened:
        """Open the clients, and the journal where the folder is here."""
        setup = self._setup
        is_shared = _has_folder(setup)
        try:
            if setup.version != __version__:
                raise UsageError(f"it has synth-async {__version__}, the driver {setup.version}")
            clients = {name: (_client(name, *each), each[0].timeout_s) for name, each in setup.endpoints.items()}
            journal = None
            if is_shared:
                writer = f"synth-async {__version__}"
                journal = open_journal(setup.folder, fsync=setup.fsync, writer=writer, worker=setup.name)
        except SynthAsyncError as problem:
            return Opened(os.getpid(), socket.gethostname(), is_shared, str(problem))
        self._worker = AskingWorker(clients, journal, syncs=setup.fsync == "100ms")
        return Opened(os.getpid(), socket.gethostname(), is_shared, "")

    async def run(self) -> None:
        """Ask for ever."""
        try:
            await self._open_worker.run()
        except Exception:
            # The driver finds it gone, reads its journal, and hires another; Ray's log has the traceback.
            logging.getLogger(__name__).exception("a worker failed")
            os._exit(1)

    async def ask(self, questions: Sequence[Question]) -> None:
        """See `AskingWorker.ask`."""
        self._open_worker.ask(questions)

    async def replies(self) -> list[Reply]:
        """See `AskingWorker.replies`."""
        return await self._open_worker.replies()

    async def renew(self) -> None:
        """See `AskingWorker.renew`."""
        self._open_worker.renew()

    async def aclose(self) -> None:
        """See `AskingWorker.aclose`."""
        await self._open_worker.aclose()

    @property
    def _open_worker(self) -> AskingWorker:
        if self._worker is None:
            raise AssertionError("a worker is opened first")
        return self._worker


def _has_folder(setup: _Setup) -> bool:
    """Whether the folder at that path is the one that the driver holds, and not another machine's."""
    try:
        return RunFolder(setup.folder).lock.read_bytes() == setup.held_by
    except OSError:
        return False


def _client(name: str, settings: EndpointConfig, base_url: str) -> OpenAIClient:
    """A client with the key of this process's environment."""
    key = "none"
    if not settings.is_simulator:
        found = resolve_endpoint(name, settings.model_copy(update={"base_url": base_url}), os.environ)
        key = found.api_key.reveal()
    return OpenAIClient(name, settings, base_url=base_url, api_key=key)


# --- in the driver's process ---------------------------------------------------------------------


class _RayWorker:
    """A worker, by Ray's calls to its actor."""

    def __init__(self, name: str, actor: Any) -> None:
        self.name = name
        self._actor = actor
        self._running = actor.run.remote()

    def __repr__(self) -> str:
        return f"<_RayWorker {self.name}>"

    async def ask(self, questions: Sequence[Question]) -> None:
        await self._call(self._actor.ask, list(questions))

    async def replies(self) -> list[Reply]:
        found: list[Reply] = await self._call(self._actor.replies)
        return found

    async def renew(self) -> None:
        await self._call(self._actor.renew)

    async def aclose(self) -> None:
        with anyio.move_on_after(_END_TIMEOUT_S):
            await self._call(self._actor.aclose)
        ray.kill(self._actor)

    async def _call(self, method: Any, *arguments: Any) -> Any:
        try:
            return await asyncio.wrap_future(method.remote(*arguments).future())
        except RayActorError as error:
            # One that cannot be reached may live: it is ended, before others ask what it was asked.
            ray.kill(self._actor)
            raise WorkerLost(_first_line(error)) from None


async def _hire(setup: _Setup, number: int, *, on_note: Callable[[str], None]) -> _RayWorker:
    name = f"{setup.name}-{number}"
    cls: Any = ray.remote(_Asker)
    options = {"num_cpus": 1, "max_restarts": 0, "max_concurrency": 100, "scheduling_strategy": "SPREAD"}
    actor = cls.options(**options).remote(replace(setup, name=name))
    opened: Opened | None = None
    try:
        with anyio.move_on_after(_HIRE_TIMEOUT_S):
            opened = await asyncio.wrap_future(actor.open.remote().future())
    except RayActorError as error:
        raise WorkerLost(_first_line(error)) from None
    if opened is None:
        ray.kill(actor)
        raise WorkerLost(f"no free CPU for it within {_HIRE_TIMEOUT_S:.0f} s")
    if opened.problem:
        ray.kill(actor)
        raise UsageError(f"worker on {opened.host}: {opened.problem}")
    if not opened.is_shared:
        on_note(f"worker {name} on {opened.host} does not have the run folder: its answers are journaled here")
    return _RayWorker(name, actor)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
