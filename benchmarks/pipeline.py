"""What the whole pipeline costs: examples/s, CPU per example and peak memory, against the embedded endpoint.

    python benchmarks/pipeline.py [--sizes 300,3300] [--json]

Each size is a run of its own in a process of its own: topics, two requests per example, journal, default filters,
judge, dedup, all files. The endpoint answers at once, without limits, in another process; its CPU is shown apart.
Figures are of this machine and this moment; the data is simulated.

    ms/ex       client CPU milliseconds per accepted example, start-up included; sys is mostly the kernel's part of
                sending to a server process that sleeps, which a network card would do for a remote one
    slope       the same between the two sizes: what one more example costs
    KiB/ex      growth of the client's peak memory between the sizes, per example
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

CONFIG = """\
name: benchmark
domain: customer support for a SaaS billing platform
system_prompt: You are a support agent for BillingPro. Be accurate, concrete and kind.
target: {target}
endpoints:
  embedded: {{base_url: "{base_url}", model: simulator, max_in_flight: {in_flight}}}
facets:
  tone: [polite, frustrated, confused, formal, chatty]
  channel: [chat, email, phone notes]
"""


def run_once(target: int, base_url: str, in_flight: int) -> dict[str, Any]:
    """One run in this process: its counts, seconds, CPU seconds and peak resident bytes."""
    import anyio

    from synth_async.cli.console import end_start_up
    from synth_async.config import load_config, resolve_endpoint
    from synth_async.pipeline.run import Run
    from synth_async.store.run_folder import RunFolder

    with tempfile.TemporaryDirectory(prefix="synth-async-benchmark-") as scratch:
        config = Path(scratch, "benchmark.yaml")
        config.write_text(CONFIG.format(target=target, base_url=base_url, in_flight=in_flight), encoding="utf-8")
        loaded = load_config(config)
        run = Run(
            loaded,
            RunFolder(Path(scratch, "run")),
            {name: resolve_endpoint(name, endpoint, {}) for name, endpoint in loaded.config.endpoints.items()},
        )
        end_start_up()  # as the command line does before a run
        started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        anyio.run(run.drive)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "target": target,
            "seconds": time.perf_counter() - started,
            "user_s": usage.ru_utime - before.ru_utime,
            "sys_s": usage.ru_stime - before.ru_stime,
            "peak_bytes": usage.ru_maxrss * 1024,
            "metrics": run.metrics,
        }


def measured(target: int, in_flight: int) -> dict[str, Any]:
    """One run in a process of its own, against a server of its own."""
    from synth_async.config.models import Simulation
    from synth_async.endpoint.simulator.process import start_simulator

    server = start_simulator(Simulation(latency_s=0, weak_share=0, duplicate_share=0))
    try:
        command = [sys.executable, __file__, "--one", str(target), "--base-url", server.base_url]
        child = subprocess.run(
            [*command, "--in-flight", str(in_flight)], check=True, stdout=subprocess.PIPE, env=os.environ
        )
        row: dict[str, Any] = json.loads(child.stdout)
        with urllib.request.urlopen(server.stats_url) as answer:
            row["server"] = json.load(answer)
        return row
    finally:
        server.stop()


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    head = f"{'accepted':>9} {'ex/s':>6} {'user ms/ex':>11} {'sys ms/ex':>10} {'peak MiB':>9}"
    lines = [f"{head} {'requests':>9} {'server ms/request':>18}"]
    for row in rows:
        metrics, server = row["metrics"], row["server"]
        lines.append(
            f"{metrics['accepted']:>9,} {metrics['accepted'] / row['seconds']:>6.0f}"
            f" {1000 * row['user_s'] / metrics['accepted']:>11.2f} {1000 * row['sys_s'] / metrics['accepted']:>10.2f}"
            f" {row['peak_bytes'] / 2**20:>9.0f}"
            f" {metrics['attempts']:>9,} {1000 * server['cpu_s'] / max(1, server['requests']):>18.2f}"
        )
    if len(rows) > 1:
        first, last = rows[0], rows[-1]
        more = last["metrics"]["accepted"] - first["metrics"]["accepted"]
        user, system = (1000 * (last[part] - first[part]) / more for part in ("user_s", "sys_s"))
        lines.append(
            f"slope: {user:.2f} user + {system:.2f} sys CPU-ms per accepted example,"
            f" {(last['peak_bytes'] - first['peak_bytes']) / 1024 / more:.2f} KiB/ex"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sizes", default="2000,20000", help="accepted examples, a run each")
    options.add_argument("--in-flight", type=int, default=64)
    options.add_argument("--json", action="store_true")
    options.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options.add_argument("--base-url", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.one:
        print(json.dumps(run_once(chosen.one, chosen.base_url, chosen.in_flight)))
        return
    rows = [measured(int(size), chosen.in_flight) for size in chosen.sizes.split(",")]
    print(json.dumps(rows) if chosen.json else table(rows))


if __name__ == "__main__":
    main()
