"""How far a forecast after a pilot of 200 examples is from what the run then takes, against the embedded endpoint.

    python benchmarks/forecast.py [--only NAME] [--target 1000] [--pilot 200] [--json]

Two forecasts each: that of `preview -n 200` is held against the whole run; and that of the run itself (`status`), when
200 examples were accepted, against what it still took from there. Whole runs in virtual time: nothing sleeps, and what
else the machine does changes nothing.

    requests, tokens, time   forecast (the middle of its range) over what it was, less 1
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

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

CONFIGS = Path(__file__).parent.parent / "configs"

EMBEDDED: dict[str, Any] = {
    "name": "forecast",
    "domain": "customer support for a SaaS billing platform",
    "system_prompt": "You are a support agent for BillingPro. Be accurate, concrete and kind.",
    "facets": {"tone": ["calm", "frustrated", "confused"], "channel": {"chat": 2, "email": 1}},
}
FAULTS = {"server_error": 0.01, "reset": 0.005, "truncated_body": 0.005, "invalid_json": 0.02, "refusal": 0.01}


def endpoint(*, rpm: float | None = None, tpm: float | None = None, **more: Any) -> dict[str, Any]:
    """An embedded endpoint that is told its limits; `simulation` and other keys replace what stands here."""
    simulation = {"rpm": rpm, "tpm": tpm, "latency_s": 0.5, **more.pop("simulation", {})}
    return {"base_url": "simulator", "model": "simulator", "rpm": rpm, "tpm": tpm, "simulation": simulation, **more}


def scenarios(target: int) -> dict[str, dict[str, Any]]:
    """Configs by name."""
    support = {
        "context": {"file": str(CONFIGS / "billing_policy.md")},
        "generation": {"examples_per_topic": 3},
        "judge": {"criteria": ["helpfulness", "accuracy", "naturalness", "policy"]},
        "topics": {"count": target // 2},
    }
    return {
        "told rpm": {"endpoints": {"e": endpoint(rpm=3000)}},
        "told tpm": {"endpoints": {"e": endpoint(tpm=2_000_000)}},
        "rpm in headers": {"endpoints": {"e": {**endpoint(rpm=3000), "rpm": None}}},
        "slots only": {"endpoints": {"e": endpoint(max_in_flight=16)}},
        "faults, told rpm": {"endpoints": {"e": endpoint(rpm=3000, simulation={"faults": FAULTS})}},
        "no judge": {"endpoints": {"e": endpoint(rpm=1500)}, "judge": None},
        "document, 3 a topic": {"endpoints": {"e": endpoint(rpm=3000)}, **support},
        "two endpoints": {
            "endpoints": {"writer": endpoint(rpm=1200), "judge": endpoint(rpm=1500)},
            **{stage: {"endpoint": "writer"} for stage in ("topics", "generation")},
            "judge": {"endpoint": "judge"},
        },
    }


@asynccontextmanager
async def in_process(config: Config, reached: Mapping[str, Reached]) -> AsyncIterator[dict[str, Endpoint]]:
    """The endpoints of a run without a network."""
    endpoints = {}
    for name, one in reached.items():
        settings = one.found.settings
        client = InProcessClient(name, settings.simulation or Simulation())
        endpoints[name] = Endpoint(name, settings, client, give_up_after_s=config.give_up_after_s, seed=1)
    yield endpoints


def loaded_config(tree: dict[str, Any], target: int, folder: Path) -> LoadedConfig:
    """The config of a scenario."""
    path = folder / "c.yaml"
    path.write_text(json.dumps({**EMBEDDED, "fsync": "never", "target": target, **tree}), encoding="utf-8")
    return load_config(path)


def run_of(loaded: LoadedConfig, folder: Path) -> Run:
    """A run in virtual time, not driven yet."""
    found = {name: resolve_endpoint(name, loaded.config.endpoints[name], {}) for name in loaded.config.used_endpoints}
    # No server is started.
    resolved = {name: replace(one, base_url="http://in-process/v1") for name, one in found.items()}
    return Run(loaded, RunFolder(folder), resolved, connect=in_process)


def middles(forecast: Forecast) -> dict[str, float]:
    """The middle of each range."""
    amounts = {"requests": forecast.requests, "tokens": forecast.tokens, "time": forecast.time_s}
    return {name: amount.middle for name, amount in amounts.items()}


def taken(metrics: dict[str, Any]) -> dict[str, float]:
    """What a run took so far."""
    return {
        "requests": metrics["attempts"],
        "tokens": metrics["tokens"]["prompt"] + metrics["tokens"]["completion"],
        "time": metrics["elapsed_s"],
    }


def by_preview(loaded: LoadedConfig, folder: Path, pilot: int) -> dict[str, float]:
    """What `preview -n` says of the whole run."""
    run = run_of(replace(loaded, config=preview_config(loaded.config, pilot)), folder)
    run_in_virtual_time(run.drive)
    forecast = projection(loaded.config, measured_in(run.metrics))
    if forecast is None:
        raise SystemExit("the pilot decided too little to forecast by")
    return middles(forecast)


def by_its_start(run: Run, pilot: int) -> tuple[dict[str, float], dict[str, float]]:
    """(what a run said was left, what it had taken) when `pilot` examples were accepted; the run goes to its end."""
    opened: list[Mapping[str, ServingEndpoint]] = []
    seen: list[tuple[dict[str, float], dict[str, float]]] = []

    def look(snapshot: Snapshot) -> None:
        if not seen and snapshot.tally.accepted >= pilot and snapshot.expected is not None:
            tally = snapshot.tally
            before = {
                "requests": sum(endpoint.counts.attempts for endpoint in opened[0].values()),
                "tokens": tally.prompt_tokens + tally.completion_tokens,
                "time": snapshot.elapsed_s,
            }
            seen.append((middles(snapshot.expected), before))

    run.on_endpoints, run.on_progress = opened.append, look
    run_in_virtual_time(run.drive)
    return seen[0]


def measured(tree: dict[str, Any], target: int, pilot: int) -> dict[str, Any]:
    """Both forecasts, and the run."""
    with tempfile.TemporaryDirectory(prefix="synth-async-forecast-") as scratch:
        loaded = loaded_config(tree, target, Path(scratch))
        preview = by_preview(loaded, Path(scratch, "preview"), pilot)
        run = run_of(loaded, Path(scratch, "run"))
        rest, before = by_its_start(run, pilot)
        after = taken(run.metrics)
    return {
        "whole": after,
        "preview": {name: found / after[name] - 1 for name, found in preview.items()},
        "begun": {name: found / (after[name] - before[name]) - 1 for name, found in rest.items()},
    }


def row(name: str, found: dict[str, Any]) -> str:
    """One line of the table."""
    whole = found["whole"]
    cells = [
        f"{found[pilot][what]:>+8.1%}" for pilot in ("preview", "begun") for what in ("requests", "tokens", "time")
    ]
    amounts = f"{whole['requests']:>8,} {whole['tokens'] / 1e6:>7.2f}M {whole['time']:>6.0f} s"
    return f"{name:<20} {amounts}  {' '.join(cells)}"


def main() -> None:
    """Run the benchmark."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", help="one scenario")
    options.add_argument("--target", type=int, default=1000)
    options.add_argument("--pilot", type=int, default=200)
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    heads = f"{'requests':>8} {'tokens':>8} {'time':>8}"
    if not chosen.json:
        print(f"{'':<38} {'by the preview':>30} {'by its own start':>26}")
        print(f"{'':<20} {'requests':>8} {'tokens':>8} {'time':>8}  {heads} {heads}")
    for name, tree in scenarios(chosen.target).items():
        if chosen.only in (None, name):
            found = measured(tree, chosen.target, chosen.pilot)
            print(json.dumps({"name": name, **found}) if chosen.json else row(name, found), flush=True)


if __name__ == "__main__":
    main()
