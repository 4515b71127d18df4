"""What facets and coverage make of a model with habits, and what that costs, against the embedded endpoint.

    python benchmarks/variety.py [--target 2000] [--json]

The model has one tone and one theme about five times as likely as any other; of its examples 15 % are near-duplicates,
10 % have a placeholder, 5 % personal data, 20 % are weak; 10 % of all its answers are refusals, verdicts among them.
Four runs of the same size: *before* asks for neither facets nor categories and holds nothing to shares, *after* does
all of it and counts by the judge's labels; *revised* is *after* with `revise: 1`, *wide* sends back whatever is at most
three points below `min_score`, as most of what this endpoint writes badly is. All pass the same filters, judge and
dedup.

    off by            furthest that a value ended from its wished share, in points of 100
    planted left      placeholders, personal data and refusals in the dataset, found by patterns of their own
    requests/accepted all requests that were answered by accepted examples; without screening it is computed: each
                      example that screening dropped would have had a verdict, at the mean requests of a verdict
    tokens/accepted   prompt and completion tokens of all answers by accepted examples
    revised           sent back and accepted; accepted examples per 1,000 tokens, with revision and without it
    distinct-2 ...    of the user turns; by synth_async.stages.diversity. Tones and categories of both runs are told by
                      the embedded judge's own reading of the text, whatever was asked for
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

_CONFIG: dict[str, Any] = {
    "name": "variety",
    "domain": "customer support for a SaaS billing platform",
    "system_prompt": "You are a support agent for BillingPro. Be accurate, concrete and kind.",
    "fsync": "never",
    "endpoints": {
        "embedded": {
            "base_url": "simulator",
            "model": "simulator",
            "max_in_flight": 48,
            "simulation": {
                "latency_s": 0.005,
                "weak_share": 0.2,
                "duplicate_share": 0.15,
                "placeholder_share": 0.1,
                "pii_share": 0.05,
                "favourite_share": 0.4,
                "faults": {"refusal": 0.1},
            },
        }
    },
}
_TONES = {"polite": 2, "frustrated": 2, "confused": 2, "in a hurry": 1, "formal": 1, "chatty": 1}
_CATEGORIES = {"invoices": 2, "refunds": 2, "declined cards": 2, "cancellations": 1, "discounts": 1}
_SECTIONS: dict[str, dict[str, Any]] = {
    "before": {"facets": {}, "coverage": None},
    "after": {
        "facets": {"tone": _TONES, "channel": ["chat", "email"], "experience": ["new", "for years"]},
        "topics": {"categories": _CATEGORIES},
        "judge": {"labels": ["tone", "category"]},
    },
}
_SECTIONS["revised"] = {**_SECTIONS["after"], "revise": 1}
_SECTIONS["wide"] = {**_SECTIONS["after"], "revise": {"band": 3}}
_PLANTED = {
    "placeholder": re.compile(r"\[(?:insert|your)|\{\{|XXX|lorem ipsum", re.IGNORECASE),
    "personal data": re.compile(r"@\w+\.net|\+1 \d{3}-\d{3}-\d{4}|\b(?:\d{4} ){3}\d{4}\b|\bDE\d{20}\b"),
    "refusal": re.compile(r"can't help with that"),
}


def run(sections: dict[str, Any], target: int) -> dict[str, Any]:
    """One run in this process: its metrics, its requests by stage, and its dataset measured."""
    import anyio

    from synth_async.config import load_config, resolve_endpoint
    from synth_async.pipeline.run import Run
    from synth_async.store.run_folder import RunFolder

    sent: Counter[str] = Counter()

    def listen(endpoints: Any) -> None:
        for endpoint in endpoints.values():
            endpoint.on_exchange = lambda exchange: sent.update([exchange.request.stage])

    with tempfile.TemporaryDirectory(prefix="synth-async-benchmark-") as scratch:
        path = Path(scratch, "variety.yaml")
        path.write_text(json.dumps({**_CONFIG, **sections, "target": target}), encoding="utf-8")
        loaded = load_config(path)
        folder = RunFolder(Path(scratch, "run"))
        resolved = {name: resolve_endpoint(name, each, {}) for name, each in loaded.config.endpoints.items()}
        driven = Run(loaded, folder, resolved, on_endpoints=listen)
        anyio.run(driven.drive)
        accepted = [json.loads(line) for line in folder.dataset.open(encoding="utf-8")]
        rejected = [json.loads(line) for line in folder.rejects.open(encoding="utf-8")]
    return {
        **_spread(driven.metrics, accepted),
        **_cost(sent, accepted, rejected),
        "tokens_per_accepted": round(sum(driven.metrics["tokens"].values()) / len(accepted)),
        "revised": driven.metrics.get("revised", {}),
        **_variety(accepted),
        "rejected": dict(Counter(line["reason"] for line in rejected).most_common()),
    }


def _spread(metrics: dict[str, Any], accepted: list[dict[str, Any]]) -> dict[str, Any]:
    gaps = [abs(each["share"] - each["wished"]) for values in metrics["coverage"].values() for each in values.values()]
    texts = ["\n".join(turn["content"] for turn in line["messages"][1:]) for line in accepted]
    left = {name: sum(bool(pattern.search(text)) for text in texts) for name, pattern in _PLANTED.items()}
    return {
        "accepted": len(accepted),
        "coverage": metrics["coverage"],
        "off_by_points": round(100 * max(gaps), 2) if gaps else None,
        "planted_left": left,
    }


def _cost(sent: Counter[str], accepted: list[Any], rejected: list[dict[str, Any]]) -> dict[str, Any]:
    judged = len(accepted) + sum(line["stage"] in {"judge", "dedup", "target"} for line in rejected)
    screened = sum(line["stage"] == "screen" for line in rejected)
    return {
        "requests": dict(sent),
        "requests_per_accepted": round(sent.total() / len(accepted), 3),
        "screened": screened,
        "without_screening": round((sent.total() + screened * sent["judge"] / judged) / len(accepted), 3),
    }


def _variety(accepted: list[dict[str, Any]]) -> dict[str, Any]:
    from synth_async.endpoint.simulator.labelling import labels_of_text
    from synth_async.stages.diversity import compression_ratio, distinct_n, entropy_bits, top_opener_share

    sides = [
        [turn["content"] for turn in line["messages"] if turn["role"] in {"user", "assistant"}] for line in accepted
    ]
    users = [user for user, _ in sides]
    axes = [("tone", tuple(_TONES)), ("category", tuple(_CATEGORIES))]
    labels = [labels_of_text(axes, user, reply) for user, reply in sides]
    tones, categories = (Counter(label[axis] for label in labels) for axis in ("tone", "category"))
    return {
        "distinct_2": round(distinct_n(users), 4),
        "compression_ratio": round(compression_ratio(users), 3),
        "top_opener_share": round(top_opener_share(users), 4),
        "tone_entropy_bits": round(entropy_bits(tones), 3),
        "category_entropy_bits": round(entropy_bits(categories), 3),
        "tones": dict(tones.most_common()),
        "categories": dict(categories.most_common()),
    }


_ROWS = (
    *("accepted", "off_by_points", "planted_left", "requests_per_accepted", "without_screening", "requests"),
    *("tokens_per_accepted", "revised"),
    *("distinct_2", "compression_ratio", "top_opener_share", "tone_entropy_bits", "category_entropy_bits"),
    *("tones", "categories", "rejected"),
)


def table(found: dict[str, dict[str, Any]]) -> str:
    """The runs side by side, figures first, then what they are made of."""
    lines = [f"{'':24}" + "".join(f" {when:>12}" for when in found)]
    for name in _ROWS:
        values = {when: run[name] for when, run in found.items()}
        if any(isinstance(value, dict) for value in values.values()):
            lines += [f"{name} {when}: {json.dumps(value)}" for when, value in values.items()]
        else:
            lines.append(f"{name:24}" + "".join(f" {'-' if value is None else value:>12}" for value in values.values()))
    lines += [f"shares {when}: {json.dumps(run['coverage'])}" for when, run in found.items() if when != "before"]
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--target", type=int, default=2000, help="accepted examples of each run")
    options.add_argument("--only", choices=_SECTIONS, help="one of the runs alone")
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    wanted = [chosen.only] if chosen.only else list(_SECTIONS)
    found = {when: run(_SECTIONS[when], chosen.target) for when in wanted}
    print(json.dumps(found) if chosen.json else table(found))


if __name__ == "__main__":
    main()
