"""Real processes, really killed, against a server that counts: nothing that was answered and kept is asked again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from scripted_endpoint import (
    Asked,
    Reply,
    ScriptedEndpoint,
    config_of,
    dataset_of,
    names_in_journal,
    rejects_of,
    scripted_endpoint,
    truth_of,
    usual_reply,
    write_config,
)

_ROOT = Path(__file__).parent.parent
_PATIENCE_S = 100


def _faulty(asked: Asked) -> Reply:
    """Some 500s, some resets, some slow answers, each at a body's first time; a tenth of the examples are unusable."""
    share = int(asked.name[:8], 16) / 2**32
    if asked.time == 1 and share < 0.03:
        return Reply(status=500)
    if asked.time == 1 and share < 0.05:
        return Reply(fault="reset")
    if asked.kind == "generate" and 0.5 < share < 0.6:
        return Reply("no JSON at all")
    return Reply(usual_reply(asked).content, delay_s=0.15 if 0.05 < share < 0.08 else 0.004)


def _start(config: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "synth_async", "run", str(config), "--out", str(config.parent / "run"), "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _finish(config: Path) -> int:
    with _start(config) as process:
        _, said = process.communicate(timeout=_PATIENCE_S)
    assert process.returncode in (0, 130), said.decode()
    return process.returncode


def _stop_when_asked(endpoint: ScriptedEndpoint, config: Path, requests: int, number: signal.Signals) -> int:
    """Start the run, send it a signal when the server has seen `requests` more of them; returns its exit code."""
    seen = threading.Event()
    until = endpoint.count() + requests
    endpoint.on_request = lambda _: seen.set() if endpoint.count() >= until else None
    with _start(config) as process:
        if not seen.wait(_PATIENCE_S):
            process.kill()
            raise AssertionError(f"only {endpoint.count() - until + requests} of {requests} requests came")
        process.send_signal(number)
        process.communicate(timeout=_PATIENCE_S)
    return process.returncode


def _tear(run_folder: Path, chance: random.Random) -> None:
    """What a power loss may leave: the first part of a frame, without its end."""
    journal = max(run_folder.glob("journal-*.log"))
    lines = journal.read_bytes().splitlines(keepends=True)
    line = chance.choice(lines)
    with journal.open("ab") as segment:
        segment.write(line[: chance.randrange(1, len(line) - 1)])


def _assert_survives(folder: Path, *, target: int, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    with scripted_endpoint(_faulty) as endpoint:
        config = write_config(folder, config_of(endpoint, target=target, fsync="100ms", endpoints__max_in_flight=8))
        asked_in_all = round(target * 2.2)
        held: set[str] = set()
        for _ in range(kills):
            before = endpoint.count()
            code = _stop_when_asked(endpoint, config, chance.randrange(3, asked_in_all // (kills + 1)), signal.SIGKILL)
            assert code == -signal.SIGKILL
            assert not held & endpoint.paid_since(before)
            held = names_in_journal(folder / "run")
            if chance.random() < 0.5:
                _tear(folder / "run", chance)
        assert held
        before = endpoint.count()
        assert _finish(config) == 0
        assert not held & endpoint.paid_since(before), "what the journal held was asked again"
        ids = [line["id"] for line in dataset_of(folder / "run")]
        assert len(ids) == len(set(ids)) == target
        assert not set(ids) & {line["id"] for line in rejects_of(folder / "run")}
        truth, sent = truth_of(folder / "run"), endpoint.count()
        assert _finish(config) == 0
        assert truth_of(folder / "run") == truth
        assert endpoint.count() == sent


def test_a_killed_run_asks_nothing_twice(tmp_path: Path) -> None:
    """After two SIGKILLs, faults and torn tails: exactly N unique ids, nothing journaled is asked again."""
    _assert_survives(tmp_path, target=60, kills=2, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [2, 3])
def test_a_run_survives_many_kills(tmp_path: Path, seed: int) -> None:
    """The same after ten SIGKILLs on the way to 500 examples."""
    _assert_survives(tmp_path, target=500, kills=10, seed=seed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signalled_run_can_be_taken_up(tmp_path: Path, number: signal.Signals) -> None:
    """TERM and INT let the requests in flight finish, answer 130, and lose nothing."""
    with scripted_endpoint(_faulty) as endpoint:
        config = write_config(tmp_path, config_of(endpoint, target=40))
        assert _stop_when_asked(endpoint, config, 25, number) == 130
        held, until_now = names_in_journal(tmp_path / "run"), endpoint.count()
        assert len(held) >= 10
        assert _finish(config) == 0
        assert not held & endpoint.paid_since(until_now)
        assert len(dataset_of(tmp_path / "run")) == 40
