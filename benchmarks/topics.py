"""What topics are like when there are tens of thousands of them, thousand by thousand, against the embedded endpoint.

    python benchmarks/topics.py [--count 25000] [--json]

A run asks for `--count` topics in batches of 50 and for one example of each, judged by nothing, and its journal tells
which topics came in which order. For each thousand of them, and for all:

    near-repeats      share of the topics that another one before them is like: rapidfuzz's token_set_ratio >= 90, an
                      eye of its own beside the pool's MinHash. Against the same thousand, and in the line for all
                      against 2,000 topics drawn from the whole
    distinct-2 ...    by synth_async.stages.diversity; the compression ratio looks at neighbours only

The embedded endpoint composes topics from a stock of parts, so these figures say that the pool keeps paraphrases out
and what that costs, and nothing about a model's imagination.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_CONFIG: dict[str, Any] = {
    "name": "topics",
    "domain": "customer support for a SaaS billing platform",
    "system_prompt": "You are a support agent for BillingPro. Be accurate, concrete and kind.",
    "fsync": "never",
    "endpoints": {"embedded": {"base_url": "simulator", "model": "simulator", "max_in_flight": 64}},
    "generation": {"examples_per_topic": 1, "max_examples_per_topic": 1},
    "judge": None,
    "dedup": None,
    "coverage": None,
}
_THOUSAND = 1000
_DRAWN = 2000
_ALIKE = 90


def asked_topics(count: int) -> tuple[list[str], dict[str, Any]]:
    """The topics of a run in their order, and what it took to get them."""
    import anyio

    from synth_async.config import load_config, resolve_endpoint
    from synth_async.errors import StoppedEarly
    from synth_async.pipeline.journal_state import scan
    from synth_async.pipeline.run import Run
    from synth_async.store.journal import open_journal
    from synth_async.store.run_folder import RunFolder

    with tempfile.TemporaryDirectory(prefix="synth-async-benchmark-") as scratch:
        path = Path(scratch, "topics.yaml")
        path.write_text(json.dumps({**_CONFIG, "target": count, "topics": {"count": count}}), encoding="utf-8")
        loaded = load_config(path)
        folder = RunFolder(Path(scratch, "run"))
        resolved = {name: resolve_endpoint(name, each, {}) for name, each in loaded.config.endpoints.items()}
        driven = Run(loaded, folder, resolved)
        began, cpu_began = time.monotonic(), time.process_time()
        ended = "all that were wanted"
        try:
            anyio.run(driven.drive)
        except StoppedEarly as stop:
            ended = str(stop)
        took = {"seconds": round(time.monotonic() - began, 1), "cpu_s": round(time.process_time() - cpu_began, 1)}
        journal = open_journal(folder.path, fsync="never", writer="benchmark")
        try:
            state = scan(journal, fingerprint="")
            topics = [text for frame in state.topic_batches for text, _ in frame.fields["topics"]]
        finally:
            journal.close()
    return topics, {"topics": len(topics), "ended": ended, **took, "attempts": driven.metrics["attempts"]}


def measured(topics: Sequence[str], *, drawn: Sequence[str] | None = None) -> dict[str, Any]:
    """The variety of some topics; near-repeats are looked for among `drawn`, else among themselves."""
    from synth_async.stages.diversity import compression_ratio, distinct_n, top_opener_share

    among = topics if drawn is None else drawn
    return {
        "topics": len(topics),
        "near_repeats": round(_repeats(among) / max(1, len(among)), 4),
        "distinct_2": round(distinct_n(topics), 4),
        "compression_ratio": round(compression_ratio(topics), 3),
        "top_opener_share": round(top_opener_share(topics), 4),
    }


def _repeats(topics: Sequence[str]) -> int:
    from rapidfuzz import fuzz, process

    scores = process.cdist(topics, topics, scorer=fuzz.token_set_ratio, score_cutoff=_ALIKE, workers=1)
    return sum(bool(scores[place, :place].any()) for place in range(1, len(topics)))


def table(rows: dict[str, dict[str, Any]]) -> str:
    """A line for each thousand that is told, and one for all."""
    lines = [f"{'topics':>15} {'near-repeats':>13} {'distinct-2':>11} {'compression':>12} {'top opener':>11}"]
    for name, each in rows.items():
        lines.append(
            f"{name:>15} {each['near_repeats']:>13.2%} {each['distinct_2']:>11.3f} {each['compression_ratio']:>12.2f}"
            f" {each['top_opener_share']:>11.2%}"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=25_000, help="topics to ask for")
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    topics, took = asked_topics(chosen.count)
    rows = {
        f"{start:,}-{min(start + _THOUSAND, len(topics)):,}": measured(topics[start : start + _THOUSAND])
        for start in range(0, len(topics), _THOUSAND)
    }
    drawn = random.Random(0).sample(topics, min(_DRAWN, len(topics)))
    rows["all"] = measured(topics, drawn=drawn)
    print(json.dumps({"run": took, "rows": rows}) if chosen.json else f"{took}\n{table(rows)}")


if __name__ == "__main__":
    main()
