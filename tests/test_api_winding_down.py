"""Cancelling a run that was started from Python: it stops as Ctrl-C stops it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest
from scripted_endpoint import (
    Asked,
    Reply,
    ScriptedEndpoint,
    config_of,
    names_in_journal,
    scripted_endpoint,
    usual_reply,
    write_config,
)

import synth_async

pytestmark = pytest.mark.anyio


@pytest.fixture
def server() -> Iterator[ScriptedEndpoint]:
    """A server that gives the usual replies."""
    with scripted_endpoint() as endpoint:
        yield endpoint


def call_when(server: ScriptedEndpoint, is_it: Callable[[Asked], bool], call: Callable[[], object]) -> None:
    """Call `call` on this thread's loop, once, when the server gets a request that `is_it` says yes to."""
    loop, seen = asyncio.get_running_loop(), threading.Event()

    def on_request(asked: Asked) -> None:
        if not seen.is_set() and is_it(asked):
            seen.set()
            loop.call_soon_threadsafe(call)

    server.on_request = on_request


def is_for_the_judge(asked: Asked) -> bool:
    """Whether a verdict is asked for."""
    return asked.kind == "judge"


def takes_its_time(asked: Asked) -> Reply:
    """The usual reply, while others are in flight."""
    return Reply(usual_reply(asked).content, delay_s=0.05)


async def test_a_cancelled_run_takes_in_what_is_in_flight(server: ScriptedEndpoint, tmp_path: Path) -> None:
    """Every answer that the server made is in the journal, and the same call goes on without asking for one again."""
    server.reply = takes_its_time
    tree = config_of(server, target=40)
    with anyio.CancelScope() as scope:
        call_when(server, lambda _: len(server.asked) == 12, scope.cancel)
        await synth_async.run(tree, tmp_path / "run")
    assert scope.cancelled_caught
    asked = server.count()
    assert len(server.answered) == asked
    assert {name for name, _ in server.answered} <= names_in_journal(tmp_path / "run")
    server.on_request = lambda _: None
    assert (await synth_async.run(tree, tmp_path / "run")).accepted == 40
    assert not server.paid_since(asked) & {one.name for one in server.asked[:asked]}


def hangs_at_judging(asked: Asked) -> Reply:
    """No verdict ever comes."""
    return Reply(fault="hang") if asked.kind == "judge" else usual_reply(asked)


async def test_a_second_cancel_does_not_wait_for_what_is_in_flight(server: ScriptedEndpoint, tmp_path: Path) -> None:
    """The first lets requests finish that never will; the second ends the call, and the folder can be gone on with."""
    server.reply = hangs_at_judging
    is_judging = asyncio.Event()
    call_when(server, is_for_the_judge, is_judging.set)
    task = asyncio.create_task(synth_async.run(config_of(server), tmp_path / "run"))
    await is_judging.wait()
    task.cancel()
    await anyio.wait_all_tasks_blocked()
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    server.reply = usual_reply
    assert (await synth_async.run(config_of(server), tmp_path / "run")).accepted == 20


async def test_the_grace_ends_the_wait(server: ScriptedEndpoint, tmp_path: Path) -> None:
    """After `grace_s` a cancelled run does not wait for what is in flight."""
    server.reply = hangs_at_judging
    with anyio.CancelScope() as scope:
        call_when(server, is_for_the_judge, scope.cancel)
        await synth_async.run(config_of(server), tmp_path / "run", grace_s=0.01)
    assert scope.cancelled_caught


async def test_a_cancelled_reader_stops_the_run(server: ScriptedEndpoint, tmp_path: Path) -> None:
    """Cancelling the task that waits for the next example ends in the same way."""
    server.reply = hangs_at_judging
    with anyio.CancelScope() as scope:
        call_when(server, is_for_the_judge, scope.cancel)
        async for _ in synth_async.generate(config_of(server), tmp_path / "run", grace_s=0.01):
            pytest.fail("nothing was judged")
    assert scope.cancelled_caught


@pytest.mark.slow
def test_ctrl_c_under_asyncio_run_loses_nothing(server: ScriptedEndpoint, tmp_path: Path) -> None:
    """A script that is interrupted ends by the signal, with every answer that the server made in the journal."""
    server.reply = takes_its_time
    path, out = write_config(tmp_path, config_of(server, target=40)), tmp_path / "run"
    script = f"import asyncio, synth_async; asyncio.run(synth_async.run({str(path)!r}, {str(out)!r}))"
    process = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parent.parent, stderr=subprocess.PIPE)
    server.on_request = lambda _: process.send_signal(signal.SIGINT) if len(server.asked) == 12 else None
    _, said = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert b"never retrieved" not in said
    assert len(server.answered) == server.count() < 60
    assert {name for name, _ in server.answered} <= names_in_journal(out)
