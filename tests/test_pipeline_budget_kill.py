"""A budget against real kills: what the server's own log says was served never passes it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from synth_async.config.models import FaultMix, Simulation
from synth_async.endpoint.simulator.process import RunningSimulator, start_simulator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_ROOT = Path(__file__).parent.parent
_PATIENCE_S = 300
_IN_FLIGHT = 12
_KILLS = 5
_USD_PER_MILLION = 4.0
"""One price for prompt and completion: the server's log has the sum of both."""


@pytest.fixture
def server() -> Iterator[RunningSimulator]:
    """An embedded endpoint that outlives its clients, with faults that may or may not have cost."""
    faults = FaultMix(server_error=0.01, reset=0.01, truncated_body=0.005, invalid_json=0.02)
    running = start_simulator(Simulation(latency_s=0.03, faults=faults))
    yield running
    running.stop()


def _stats(server: RunningSimulator) -> dict[str, Any]:
    with urllib.request.urlopen(server.stats_url) as answer:  # noqa: S310 - our own server on loopback
        found: dict[str, Any] = json.load(answer)
    return found


def _config(folder: Path, server: RunningSimulator, budget: dict[str, float]) -> Path:
    path = folder / "config.yaml"
    price = {"prompt": _USD_PER_MILLION, "completion": _USD_PER_MILLION}
    endpoint = {"base_url": server.base_url, "model": "simulator", "max_in_flight": _IN_FLIGHT, "price": price}
    tree = {
        "name": "budget",
        "domain": "customer support for a SaaS billing platform",
        "system_prompt": "You help customers.",
        "target": 50_000,
        "budget": budget,
        "endpoints": {"only": endpoint},
        "generation": {"max_tokens": 600},
    }
    path.write_bytes(orjson.dumps(tree))
    return path


def _start(config: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "synth_async", "run", str(config), "--out", str(config.parent / "run"), "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def _kill_after(server: RunningSimulator, config: Path, requests: int) -> None:
    """SIGKILL in the middle of a run, when the server has seen so many more requests."""
    until = _stats(server)["requests"] + requests
    with _start(config) as process:
        deadline = time.monotonic() + _PATIENCE_S
        while _stats(server)["requests"] < until and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL, "the budget was spent before the run was killed"


@pytest.mark.parametrize(
    ("budget", "counted", "each"),
    [
        ({"usd": 1.0}, "tokens_used", _USD_PER_MILLION / 1e6),
        ({"tokens": 250_000}, "tokens_used", 1),
        ({"requests": 600}, "requests", 1),
    ],
    ids=["usd", "tokens", "requests"],
)
def test_no_kill_makes_a_run_pass_its_budget(
    tmp_path: Path, server: RunningSimulator, budget: dict[str, float], counted: str, each: float
) -> None:
    """Five SIGKILLs, then to the end: exit 4, and the server served no more than the budget, and most of it."""
    ((name, limit),) = budget.items()
    config, chance = _config(tmp_path, server, budget), random.Random(name)
    for _ in range(_KILLS):
        _kill_after(server, config, chance.randrange(20, 80))
        assert _stats(server)[counted] * each <= limit
    with _start(config) as last:
        _, said = last.communicate(timeout=_PATIENCE_S)
    assert last.returncode == 4, said
    assert "the budget is spent" in said
    assert f"raise budget.{name}" in said
    served = _stats(server)
    # What a kill left open counts as spent: twelve requests, each at the 1,600 tokens or so that it could have taken.
    assert 0.4 * limit <= served[counted] * each <= limit
    with _start(config) as again:
        again.communicate(timeout=_PATIENCE_S)
    assert (again.returncode, _stats(server)["requests"]) == (4, served["requests"])
