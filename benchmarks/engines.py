"""What a run costs in one process, and what its driver and its workers cost on Ray.

    python benchmarks/engines.py [--target 1000] [--workers 2]
    python benchmarks/engines.py --calls        what a message to an actor and back costs the caller, in blocks

Both runs ask the same embedded endpoint, which answers at once and without limits, in a process of its own: what is
left is the CPU of the client. `driver` is what one core has to bear whatever the number of workers, so 1000 divided by
its milliseconds is the most examples a second that one driver decides about. Wants the extra `ray`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from pipeline import CONFIG

ENGINES = ("local", "ray")


def run_once(engine: str, target: int, base_url: str, in_flight: int, workers: int) -> dict[str, Any]:
    """One run in this process: its CPU seconds, those of its workers, and its counts."""
    import anyio

    from synth_async.config import load_config, resolve_endpoint
    from synth_async.pipeline.run import Run
    from synth_async.store.run_folder import RunFolder

    with tempfile.TemporaryDirectory(prefix="synth-async-benchmark-") as scratch:
        config = Path(scratch, "benchmark.yaml")
        config.write_text(CONFIG.format(target=target, base_url=base_url, in_flight=in_flight), encoding="utf-8")
        loaded = load_config(config)
        folder = RunFolder(Path(scratch, "run"))
        endpoints = loaded.config.endpoints.items()
        run = Run(loaded, folder, {name: resolve_endpoint(name, endpoint, {}) for name, endpoint in endpoints})
        seen: dict[str, float] = {"workers_s": 0.0, "begun_s": 0.0}
        if engine == "ray":
            from synth_async.distributed.cluster import ray_endpoints

            run.connect = partial(ray_endpoints, folder=folder, workers=workers, address=None, on_note=lambda _: None)
        run.on_endpoints = lambda _: seen.update(begun_s=cpu_s(), workers_begun_s=workers_cpu_s())
        run.on_progress = lambda _: seen.update(workers_s=max(seen["workers_s"], workers_cpu_s()))
        anyio.run(run.drive)
        return {
            "engine": engine,
            "driver_s": cpu_s() - seen["begun_s"],
            "workers_s": seen["workers_s"] - seen["workers_begun_s"],
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "metrics": run.metrics,
        }


def cpu_s() -> float:
    """CPU seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def workers_cpu_s() -> float:
    """CPU seconds of all workers that live, by what Linux tells of processes."""
    found = 0.0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cmdline").read_bytes().startswith(b"ray::_Asker"):
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                found += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            continue  # it has ended
    return found


def measured(engine: str, target: int, in_flight: int, workers: int) -> dict[str, Any]:
    """One run in a process of its own, against a server of its own."""
    from synth_async.config.models import Simulation
    from synth_async.endpoint.simulator.process import start_simulator

    server = start_simulator(Simulation(latency_s=0, weak_share=0, duplicate_share=0))
    try:
        command = [sys.executable, __file__, "--one", engine, "--base-url", server.base_url, "--target", str(target)]
        command += ["--in-flight", str(in_flight), "--workers", str(workers)]
        child = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        row: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
        return row
    finally:
        server.stop()


def call_costs(blocks: tuple[int, ...] = (1, 16, 64, 256)) -> str:
    """CPU of the caller for a message of 2,500 bytes to an actor of Ray and back, by how many travel in one call."""
    import asyncio
    import time

    import ray

    class Echo:
        async def back(self, block: list[bytes]) -> list[bytes]:
            return block

    async def messages(actor: Any, block: int) -> tuple[float, float]:
        calls, message = max(40, 400 // block), b"x" * 2500
        began, cpu = time.perf_counter(), time.process_time()
        for _ in range(calls // 4):
            await asyncio.gather(*(asyncio.wrap_future(actor.back.remote([message] * block).future()) for _ in "1234"))
        sent = calls // 4 * 4 * block
        return (time.process_time() - cpu) / sent, sent / (time.perf_counter() - began)

    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    actor = ray.remote(Echo).options(max_concurrency=8).remote()
    asyncio.run(messages(actor, 1))
    lines = [f"{'block':>6} {'CPU us a message':>17} {'messages/s':>11}"]
    for block in blocks:
        cpu, rate = asyncio.run(messages(actor, block))
        lines.append(f"{block:>6} {1e6 * cpu:>17.0f} {rate:>11,.0f}")
    ray.shutdown()
    return "\n".join(lines)


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = [
        f"{'engine':<8} {'accepted':>9} {'requests':>9} {'driver ms/ex':>13} {'workers ms/ex':>14} {'peak MiB':>9}"
    ]
    for row in rows:
        accepted = row["metrics"]["accepted"]
        lines.append(
            f"{row['engine']:<8} {accepted:>9,} {row['metrics']['attempts']:>9,}"
            f" {1000 * row['driver_s'] / accepted:>13.2f} {1000 * row['workers_s'] / accepted:>14.2f}"
            f" {row['peak_bytes'] / 2**20:>9.0f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--target", type=int, default=1000, help="accepted examples of each run")
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--in-flight", type=int, default=256)
    options.add_argument("--json", action="store_true")
    options.add_argument("--calls", action="store_true")
    options.add_argument("--one", choices=ENGINES, help=argparse.SUPPRESS)
    options.add_argument("--base-url", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.calls:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        print(call_costs())
        return
    if chosen.one:
        print(json.dumps(run_once(chosen.one, chosen.target, chosen.base_url, chosen.in_flight, chosen.workers)))
        return
    rows = [measured(engine, chosen.target, chosen.in_flight, chosen.workers) for engine in ENGINES]
    print(json.dumps(rows) if chosen.json else table(rows))


if __name__ == "__main__":
    main()
