"""What a pilot says of a run against what the run then takes: in virtual time, against the embedded endpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from synth_async.cli.pilot import preview_config
from synth_async.config import Config, LoadedConfig, load_config, resolve_endpoint
from synth_async.config.models import Simulation
from synth_async.endpoint.service import Endpoint
from synth_async.endpoint.serving import ServingEndpoint
from synth_async.endpoint.simulator.in_process import InProcessClient
from synth_async.pipeline.endpoints import Reached
from synth_async.pipeline.run import Run, Snapshot
from synth_async.stages.forecast import Forecast
from synth_async.stages.measured import measured_in
from synth_async.stages.projection import projection
from synth_async.store.run_folder import RunFolder
from synth_async.testing import run_in_virtual_time

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

WITHIN = 0.15
PILOT = 200
FAULTS = {"server_error": 0.01, "reset": 0.005, "truncated_body": 0.005, "invalid_json": 0.02, "refusal": 0.01}


@asynccontextmanager
async def in_process(config: Config, reached: Mapping[str, Reached]) -> AsyncIterator[dict[str, Endpoint]]:
    """The endpoints of a run without a network."""
    endpoints = {}
    for name, one in reached.items():
        settings = one.found.settings
        client = InProcessClient(name, settings.simulation or Simulation())
        endpoints[name] = Endpoint(name, settings, client, give_up_after_s=config.give_up_after_s, seed=1)
    yield endpoints


def loaded(folder: Path, endpoint: Mapping[str, Any], simulation: Mapping[str, Any]) -> LoadedConfig:
    """A config of 700 examples."""
    embedded = {"base_url": "simulator", "model": "simulator", "simulation": {"latency_s": 0.5, **simulation}}
    tree = {
        "name": "forecast",
        "domain": "customer support for a SaaS billing platform",
        "system_prompt": "You are a support agent for BillingPro.",
        "target": 700,
        "fsync": "never",
        "endpoints": {"e": {**embedded, **endpoint}},
    }
    (folder / "c.yaml").write_bytes(orjson.dumps(tree))
    return load_config(folder / "c.yaml")


def run_of(config: LoadedConfig, folder: Path) -> Run:
    """A run that is not driven yet."""
    found = resolve_endpoint("e", config.config.endpoints["e"], {})
    resolved = {"e": replace(found, base_url="http://in-process/v1")}  # no server is started
    return Run(config, RunFolder(folder), resolved, connect=in_process)


def said(found: Forecast | None) -> list[float]:
    """Requests, tokens and seconds that are expected."""
    assert found is not None
    return [found.requests.middle, found.tokens.middle, found.time_s.middle]


def taken(run: Run) -> list[float]:
    """Requests, tokens and seconds that a run took."""
    metrics = run.metrics
    return [metrics["attempts"], sum(metrics["tokens"].values()), metrics["elapsed_s"]]


@pytest.mark.parametrize(
    ("endpoint", "simulation"),
    [
        ({"rpm": 3000}, {"rpm": 3000, "faults": FAULTS}),
        ({"tpm": 1_000_000}, {"tpm": 1_000_000}),
        ({}, {"rpm": 2000}),
        ({"max_in_flight": 16}, {}),
    ],
    ids=["told-rpm-faults", "told-tpm", "rpm-in-headers", "slots"],
)
def test_a_pilot_of_200_tells_what_the_run_takes(
    tmp_path: Path, endpoint: dict[str, Any], simulation: dict[str, Any]
) -> None:
    """Within 15 % of its requests, tokens and time: both as a preview, and as the start of the run itself."""
    config = loaded(tmp_path, endpoint, simulation)
    preview = run_of(replace(config, config=preview_config(config.config, PILOT)), tmp_path / "preview")
    run_in_virtual_time(preview.drive)
    run = run_of(config, tmp_path / "run")
    seen: list[tuple[list[float], list[float]]] = []

    def look(snapshot: Snapshot) -> None:
        tally = snapshot.tally
        if not seen and tally.accepted >= PILOT and snapshot.expected is not None:
            sent = sum(one.counts.attempts for one in opened[0].values())
            done = [float(sent), tally.prompt_tokens + tally.completion_tokens, snapshot.elapsed_s]
            seen.append((said(snapshot.expected), done))

    opened: list[Mapping[str, ServingEndpoint]] = []
    run.on_endpoints, run.on_progress = opened.append, look
    run_in_virtual_time(run.drive)
    whole = taken(run)
    assert said(projection(config.config, measured_in(preview.metrics))) == pytest.approx(whole, rel=WITHIN)
    ((rest, before),) = seen
    assert rest == pytest.approx([all_of_it - part for all_of_it, part in zip(whole, before, strict=True)], rel=WITHIN)
