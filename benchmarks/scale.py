"""How long N examples take on these limits and machines, how much memory and disk, and what is in the way first.

    python benchmarks/scale.py              the table up to 10^9 examples, from the constants below
    python benchmarks/scale.py --check      three real runs with a told limit and three without, beside the model
    python benchmarks/scale.py --examples 1e6 --rpm 10000 --cores 16 --memory-gb 64 --disk-gb 500

The model is arithmetic over constants that were measured (`Constants` says by what). A run is gone through in a hundred
steps, because a look-up among more examples takes longer; a step takes as long as the slowest of what it needs: the
request limit, the token limit, the slots, the core of whoever decides, the cores of who asks. Where one run does not
fit into the memory of its machine it is cut into several, each on such a machine with its share of the limits and
topics of its own, and a merge on one of them at the end.

It does not know how many distinct examples a domain has: the yield is that of the small sizes. Nothing is known of real
runs beyond the sizes of `--check` and the merge of a million lines.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

STEPS = 100
DAY_S = 86_400.0


@dataclass(frozen=True)
class Constants:
    """Per accepted example where nothing else is said; CPU is user and system time."""

    requests: float = 2.02
    """--check and pipeline.py: a task and its verdict, and what the filters and the judge took out."""
    tokens: float = 935.0
    """--check, by the embedded endpoint's own count; a model's answers may well be longer."""
    cpu_s: float = 3.84e-3
    """One process does it all: pipeline.py --sizes 300,3300, the slope, quiet."""
    driver_cpu_s: float = 2.3e-3
    """engines.py: the driver on Ray took 60 % of what one process took in the same run."""
    worker_cpu_s: float = 1.9e-3
    """engines.py: its workers together took 50 % of that."""
    slower_per_decade: float = 0.045e-3
    """dedup.py: seconds that look-up and insertion take longer for ten times as many documents (10,000 to 100,000)."""
    start_bytes: float = 130e6
    memory_bytes: float = 5.5 * 1024
    """pipeline.py: index, keys, topics."""
    disk_bytes: float = 5_600.0
    """--check: journal, dataset, rejects, sidecar."""
    merge_cpu_s: float = 0.59e-3
    """A line: `merge` of 4 x 250,000 lines of 1,222 bytes, 590 CPU-s and 1.74 GB at most."""
    merge_memory_bytes: float = 1_590.0
    merge_start_bytes: float = 150e6
    merge_disk_bytes: float = 3.0
    """Disk while it works, as a multiple of its input; see `synth_async.dataset.merge`."""
    line_bytes: float = 1_222.0
    measured_at: float = 10_000.0
    """Examples at which the CPU constants were measured."""


@dataclass(frozen=True)
class Limits:
    """Of one endpoint; None where nothing is told. `latency_s` is the mean of an answer."""

    rpm: float | None = None
    tpm: float | None = None
    in_flight: int = 256
    latency_s: float = 3.0


@dataclass(frozen=True)
class Machine:
    """What a run may take of one machine."""

    cores: int = 2
    memory_bytes: float = 23e9
    disk_bytes: float = 250e9


@dataclass(frozen=True)
class Forecast:
    """`runs` side by side, each with so much memory and disk; `binding` is what the time goes to."""

    examples: float
    engine: str
    runs: int
    seconds: float
    binding: str
    cpu_s: float
    memory_bytes: float
    disk_bytes: float
    merge_s: float
    too_much: tuple[str, ...]


def forecast(
    examples: float, limits: Limits, machine: Machine, known: Constants, *, workers: int = 0, runs: int | None = None
) -> Forecast:
    """What so many examples take; on Ray where there are `workers`, in one process elsewhere."""
    room = machine.memory_bytes - known.start_bytes
    fitting = max(1, math.ceil(examples * known.memory_bytes / room)) if runs is None else runs
    share = replace(
        limits,
        rpm=limits.rpm / fitting if limits.rpm else None,
        tpm=limits.tpm / fitting if limits.tpm else None,
        in_flight=max(1, limits.in_flight // fitting),
    )
    each = examples / fitting
    spent: dict[str, float] = {}
    cpu_s = seconds = 0.0
    for done in _steps(each):
        needs = _step(done, each / STEPS, share, machine, known, workers)
        binding = max(needs, key=needs.__getitem__)
        spent[binding] = spent.get(binding, 0.0) + needs[binding]
        seconds += needs[binding]
        cpu_s += needs["the deciding core"] + needs.get("the asking cores", 0.0) * min(workers, machine.cores)
    merge_s = examples * known.merge_cpu_s if fitting > 1 else 0.0
    memory = known.start_bytes + each * known.memory_bytes
    disk = each * known.disk_bytes
    merge_memory = known.merge_start_bytes + examples * known.merge_memory_bytes if fitting > 1 else 0.0
    merge_disk = examples * known.line_bytes * known.merge_disk_bytes if fitting > 1 else 0.0
    too_much = [
        name
        for name, wanted, there in (
            ("memory", memory, machine.memory_bytes),
            ("disk", disk, machine.disk_bytes),
            ("memory of the merge", merge_memory, machine.memory_bytes),
            ("disk of the merge", merge_disk, machine.disk_bytes),
            ("time: over 30 days", seconds + merge_s, 30 * DAY_S),
        )
        if wanted > there
    ]
    return Forecast(
        examples,
        f"ray, {workers} workers" if workers else "one process",
        fitting,
        seconds,
        max(spent, key=spent.__getitem__),
        cpu_s * fitting,
        memory,
        disk,
        merge_s,
        tuple(too_much),
    )


def _steps(examples: float) -> Iterator[float]:
    """Examples that are there in the middle of each step."""
    return (examples * (step + 0.5) / STEPS for step in range(STEPS))


def _step(
    done: float, more: float, limits: Limits, machine: Machine, known: Constants, workers: int
) -> Mapping[str, float]:
    """Seconds that `more` examples take of everything that may be short, after `done` of them."""
    slower = known.slower_per_decade * max(0.0, math.log10(max(done, 1.0) / known.measured_at))
    needs = {"the deciding core": more * ((known.driver_cpu_s if workers else known.cpu_s) + slower)}
    if workers:
        needs["the asking cores"] = more * known.worker_cpu_s / min(workers, max(1, machine.cores - 1))
    if limits.rpm:
        needs["the request limit"] = more * known.requests / (limits.rpm * 0.998 / 60)
    if limits.tpm:
        needs["the token limit"] = more * known.tokens / (limits.tpm * 0.99 / 60)
    needs["slots in flight"] = more * known.requests * limits.latency_s / limits.in_flight
    return needs


# --- the table -----------------------------------------------------------------------------------


def powers_of_ten(known: Constants) -> list[tuple[str, Forecast]]:
    """Each power of ten with an endpoint of 10,000 requests a minute, and one without limits on machines of its own."""
    told = Limits(rpm=10_000, in_flight=1_000)
    free = Limits(in_flight=4_096, latency_s=2.0)
    big = Machine(cores=32, memory_bytes=256e9, disk_bytes=4e12)
    rows = []
    for power in range(2, 10):
        rows.append(("10,000 RPM", forecast(10.0**power, told, Machine(), known)))
        rows.append(("no limit", forecast(10.0**power, free, Machine(), known)))
        rows.append(("no limit, Ray", forecast(10.0**power, free, big, known, workers=8)))
    return rows


def as_table(rows: list[tuple[str, Forecast]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| examples | endpoint | engine | runs | time | goes to | memory a run | disk a run | merge | too much |",
        "|---:|---|---|---:|---:|---|---:|---:|---:|---|",
    ]
    for name, row in rows:
        cells = (
            f"{row.examples:,.0f}", name, row.engine, f"{row.runs:,}", duration(row.seconds), row.binding,
            size(row.memory_bytes), size(row.disk_bytes), duration(row.merge_s) if row.merge_s else "",
            ", ".join(row.too_much),
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    for unit, length in (("d", DAY_S), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}" if seconds >= 20 * length else f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.1f} s"


def size(count: float) -> str:
    """Bytes as a person says them."""
    for unit, length in (("TB", 1e12), ("GB", 1e9)):
        if count >= length:
            return f"{count / length:,.1f} {unit}"
    return f"{count / 1e6:,.0f} MB"


# --- beside real runs ----------------------------------------------------------------------------


def real_run(target: int, rpm: float | None) -> dict[str, Any]:
    """One run in a process of its own against the embedded endpoint: seconds, CPU, memory, disk, requests."""
    command = [sys.executable, __file__, "--one", str(target), *(["--rpm", str(rpm)] if rpm else [])]
    child = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    row: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return row


def one_run(target: int, rpm: float | None) -> dict[str, Any]:
    """What `real_run` has its child do."""
    import resource
    import tempfile
    import time
    from pathlib import Path

    import anyio
    from pipeline import CONFIG

    from synth_async.cli.console import end_start_up
    from synth_async.config import load_config, resolve_endpoint
    from synth_async.config.models import Simulation
    from synth_async.endpoint.simulator.process import start_simulator
    from synth_async.pipeline.run import Run
    from synth_async.store.run_folder import RunFolder

    server = start_simulator(Simulation(rpm=rpm, burst_s=1.0, latency_s=0.2, weak_share=0, duplicate_share=0))
    with tempfile.TemporaryDirectory(prefix="synth-async-benchmark-") as scratch:
        config = Path(scratch, "benchmark.yaml")
        config.write_text(CONFIG.format(target=target, base_url=server.base_url, in_flight=64), encoding="utf-8")
        told = [f"endpoints.embedded.rpm={rpm}"] if rpm else []
        loaded = load_config(config, told)
        folder = Path(scratch, "run")
        endpoints = loaded.config.endpoints.items()
        run = Run(
            loaded, RunFolder(folder), {name: resolve_endpoint(name, endpoint, {}) for name, endpoint in endpoints}
        )
        end_start_up()
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        anyio.run(run.drive)
        seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
        server.stop()
        disk = sum(path.stat().st_size for path in folder.iterdir())
        tokens = run.metrics["tokens"]
        return {
            "target": target,
            "seconds": seconds,
            "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            "peak_bytes": after.ru_maxrss * 1024,
            "disk_bytes": disk,
            "requests": run.metrics["attempts"],
            "tokens": tokens["prompt"] + tokens["completion"],
            "http_429": run.metrics["http_429"],
        }


def check(sizes: list[int], rpm: float) -> str:
    """Real runs beside the model with the constants of the two smaller sizes, so that the largest is a forecast."""
    lines = []
    for told in (rpm, None):
        rows = [real_run(target, told) for target in sizes]
        first, second = rows[0], rows[1]
        more = second["target"] - first["target"]

        def slope(name: str, more: int = more, a: dict[str, Any] = first, b: dict[str, Any] = second) -> float:
            return float(b[name] - a[name]) / more

        known = Constants(
            requests=slope("requests"), tokens=slope("tokens"), cpu_s=slope("cpu_s"),
            memory_bytes=slope("peak_bytes"), disk_bytes=slope("disk_bytes"),
        )  # fmt: skip
        limits = Limits(rpm=told, in_flight=64, latency_s=0.2)
        name = f"told {rpm:,.0f} requests a minute" if told else "no limit told or held"
        lines.append(
            f"{name}; each further example: {known.requests:.2f} requests, {1000 * known.cpu_s:.2f} CPU-ms,"
            f" {known.memory_bytes / 1024:.2f} KiB of memory, {known.disk_bytes / 1000:.1f} KB of disk,"
            f" {known.tokens:,.0f} tokens"
        )
        lines.append(
            f"{'examples':>9} {'seconds':>9} {'model':>9} {'CPU-s':>8} {'model':>8} {'peak MB':>8} {'model':>8}"
            f" {'disk MB':>8} {'model':>8} {'429s':>5}"
        )
        for row in rows:
            said = forecast(row["target"], limits, Machine(), known, runs=1)
            beyond = row["target"] - first["target"]
            seconds = first["seconds"] + _more(said, first, limits, known)
            lines.append(
                f"{row['target']:>9,} {row['seconds']:>9.1f} {seconds:>9.1f}"
                f" {row['cpu_s']:>8.1f} {first['cpu_s'] + beyond * known.cpu_s:>8.1f}"
                f" {row['peak_bytes'] / 1e6:>8.0f} {(first['peak_bytes'] + beyond * known.memory_bytes) / 1e6:>8.0f}"
                f" {row['disk_bytes'] / 1e6:>8.1f} {(first['disk_bytes'] + beyond * known.disk_bytes) / 1e6:>8.1f}"
                f" {row['http_429']:>5}"
            )
        lines.append("")
    return "\n".join(lines)


def _more(said: Forecast, first: dict[str, Any], limits: Limits, known: Constants) -> float:
    """Seconds that a size takes beyond the first one, by the model: what starting up takes is in the first."""
    return said.seconds - forecast(first["target"], limits, Machine(), known, runs=1).seconds


def main() -> None:
    """Print what was asked for."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--examples", type=float, help="answer for one number of examples")
    options.add_argument("--rpm", type=float)
    options.add_argument("--tpm", type=float)
    options.add_argument("--in-flight", type=int, default=256)
    options.add_argument("--latency", type=float, default=3.0, help="mean seconds of an answer")
    options.add_argument("--cores", type=int, default=2)
    options.add_argument("--memory-gb", type=float, default=23.0)
    options.add_argument("--disk-gb", type=float, default=250.0)
    options.add_argument("--workers", type=int, default=0, help="on Ray, with so many")
    options.add_argument("--check", action="store_true", help="run three sizes for real, twice (some minutes)")
    options.add_argument("--sizes", default="500,2000,8000")
    options.add_argument("--json", action="store_true")
    options.add_argument("--one", type=int, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.one:
        print(json.dumps(one_run(chosen.one, chosen.rpm)))
    elif chosen.check:
        print(check([int(each) for each in chosen.sizes.split(",")], chosen.rpm or 6000.0))
    elif chosen.examples:
        limits = Limits(chosen.rpm, chosen.tpm, chosen.in_flight, chosen.latency)
        machine = Machine(chosen.cores, chosen.memory_gb * 1e9, chosen.disk_gb * 1e9)
        said = forecast(chosen.examples, limits, machine, Constants(), workers=chosen.workers)
        print(json.dumps(asdict(said)) if chosen.json else as_table([("as told", said)]))
    else:
        rows = powers_of_ten(Constants())
        print(json.dumps([asdict(row) for _, row in rows]) if chosen.json else as_table(rows))


if __name__ == "__main__":
    main()
