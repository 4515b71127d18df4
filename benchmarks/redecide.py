"""What it costs to decide a finished run again: another `min_score`, other filters, without a request.

    python benchmarks/redecide.py [--size 20000] [--json]

A run of `--size` examples is made with the embedded endpoint, which answers at once. Then the same folder is run again,
each time by the command line in a process of its own:

    stricter    judge.min_score=4.6, --offline: examples go, others that were like them may come in
    back        the first config, --offline: the first dataset
    filter      assistant_words.min=90, --offline: examples go
    looser      user_words.min=5 with min_score=4.6, --offline: what the filter had kept from the judge is pending
    verdicts    the same with a target that a quarter of those can meet: verdicts are asked for, and nothing else

`CPU s` is the process's own, user and system, start-up included; `requests` are counted by the server. Figures are of
this machine and this moment; the data is simulated.
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

from synth_async.config.models import Simulation
from synth_async.endpoint.simulator.process import RunningSimulator, start_simulator

CONFIG = """\
name: redecide
domain: customer support for a SaaS billing platform
system_prompt: You are a support agent for BillingPro. Be accurate, concrete and kind.
target: {target}
endpoints:
  embedded: {{base_url: "{base_url}", model: simulator, max_in_flight: 64}}
facets:
  tone: [polite, frustrated, confused, formal, chatty]
  channel: [chat, email, phone notes]
filters:
  user_words: {{min: 34, max: 500}}
"""

STRICT = "judge.min_score=4.6"
LOOSE = "filters.user_words={min: 5, max: 500}"
STEPS: tuple[tuple[str, list[str]], ...] = (
    ("stricter", [STRICT]),
    ("back", []),
    ("filter", ["filters.assistant_words={min: 90, max: 1000}"]),
    ("looser", [STRICT, LOOSE]),
)


def run(folder: Path, overrides: list[str], *, offline: bool) -> dict[str, Any]:
    """One `synth-async run` in a process of its own: its metrics, exit code, seconds and CPU seconds."""
    command = [sys.executable, "-m", "synth_async", "run", str(folder / "config.yaml"), "--out", str(folder / "run")]
    command += ["--quiet", "--json", *(part for each in overrides for part in ("--set", each))]
    command += ["--offline"] if offline else []
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, env=os.environ, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "exit_code": done.returncode,
        "seconds": time.perf_counter() - started,
        "cpu_s": after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime,
        "metrics": json.loads(done.stdout),
    }


def requests_of(server: RunningSimulator) -> int:
    """Chat requests that the server has seen."""
    with urllib.request.urlopen(server.stats_url) as answer:
        return int(json.load(answer)["requests"])


def counted(
    server: RunningSimulator, step: str, folder: Path, overrides: list[str], *, offline: bool
) -> dict[str, Any]:
    """One run, and how many requests the server saw of it."""
    before = requests_of(server)
    row = run(folder, overrides, offline=offline)
    return {"step": step, **row, "requests": requests_of(server) - before}


def measured(size: int) -> list[dict[str, Any]]:
    """The run, and each step after it."""
    server = start_simulator(Simulation(latency_s=0))
    try:
        with tempfile.TemporaryDirectory(prefix="synth-async-redecide-") as scratch:
            folder = Path(scratch)
            text = CONFIG.format(target=size, base_url=server.base_url)
            (folder / "config.yaml").write_text(text, encoding="utf-8")
            rows = [counted(server, "made", folder, [], offline=False)]
            rows += [counted(server, name, folder, overrides, offline=True) for name, overrides in STEPS]
            looser = rows[-1]["metrics"]
            target = looser["accepted"] + looser["rejected"].get("pending_judge", 0) // 4
            rows.append(counted(server, "verdicts", folder, [STRICT, LOOSE, f"target={target}"], offline=False))
            return rows
    finally:
        server.stop()


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = ["step      exit  wall s  CPU s  requests  planned  accepted  pending"]
    for row in rows:
        metrics = row["metrics"]
        pending = metrics["rejected"].get("pending_judge", 0)
        lines.append(
            f"{row['step']:<9} {row['exit_code']:>4} {row['seconds']:>7.1f} {row['cpu_s']:>6.1f} {row['requests']:>9,}"
            f" {metrics['asked']:>8,} {metrics['accepted']:>9,} {pending:>8,}"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--size", type=int, default=20_000, help="accepted examples of the run")
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    rows = measured(chosen.size)
    print(json.dumps(rows) if chosen.json else table(rows))


if __name__ == "__main__":
    main()
