"""What a run came to, as plain text: the funnel, the reasons of the drops, tokens, cost, time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synth_async.report.metrics import FUNNEL

__all__ = ["STEPS", "dollars", "duration", "money", "summary_text"]

SHOWN_FROM = 0.02
"""Points between a wished and a reached share from which the summary speaks of it."""

_BAR = 30
STEPS = {
    "asked": "tasks planned",
    "answered": "answered by the model",
    "parsed": "readable as an example",
    "passed": "passed every filter",
    "judged": "scored by the judge",
    "accepted": "accepted",
}


def summary_text(metrics: Mapping[str, Any], *, name: str, simulated: bool) -> str:
    """The summary of a run's `metrics.json`, without a final line feed."""
    lines = [f"{name}: {metrics['accepted']:,} of {metrics['target']:,} examples accepted"]
    if simulated:
        lines.append("simulated data: the embedded endpoint wrote it, no model did")
    lines += ["", *_funnel(metrics), "", *_reasons(metrics["rejected"]), *_costs(metrics)]
    lines += _shares(metrics.get("coverage", {}))
    return "\n".join(lines)


def _funnel(metrics: Mapping[str, Any]) -> list[str]:
    most = max(1, *(metrics[step] for step in FUNNEL))
    return [
        f"  {step:<10}{metrics[step]:>9,}  {'█' * round(_BAR * metrics[step] / most):<{_BAR}}  {STEPS[step]}"
        for step in FUNNEL
    ]


def _reasons(rejected: Mapping[str, int]) -> list[str]:
    if not rejected:
        return []
    rows = [f"  {reason:<24}{count:>9,}" for reason, count in sorted(rejected.items(), key=lambda row: -row[1])]
    return ["dropped, by reason:", *rows, ""]


def _costs(metrics: Mapping[str, Any]) -> list[str]:
    tokens = metrics["tokens"]
    elapsed_s = metrics["elapsed_s"]
    rate = f", {60 * metrics['accepted'] / elapsed_s:,.0f} accepted a minute" if elapsed_s else ""
    lines = [
        f"tokens    {tokens['prompt']:,} prompt + {tokens['completion']:,} completion",
        f"cost      {money(metrics['cost_usd'])}",
        f"requests  {metrics['attempts']:,} sent, {metrics['http_429']:,} answered with 429",
        f"time      {duration(elapsed_s)}{rate}",
    ]
    lines += _made(metrics)
    for name, found in metrics.get("budget", {}).items():
        lines.append(f"budget    {found['spent']:,g} of {found['limit']:,g} {name}")
    for endpoint, used in metrics["utilisation"].items():
        shares = [f"{share:.1%} of the {limit} limit" for limit, share in used.items() if share is not None]
        if shares:
            lines.append(f"limits    {endpoint}: {', '.join(shares)}")
    if metrics["undecided"]:
        lines.append(f"undecided {metrics['undecided']:,} requests found no answer; the same command tries them again")
    return lines


def _made(metrics: Mapping[str, Any]) -> list[str]:
    """What revisions brought, and how far the sides of preferences are apart."""
    lines = []
    if revised := metrics.get("revised"):
        rates = revised["accepted_per_1k_tokens"], revised["accepted_per_1k_tokens_without"]
        with_it, without = ("-" if rate is None else f"{rate:.3g}" for rate in rates)
        told = f"{with_it} accepted per 1,000 tokens, {without} without it"
        lines.append(f"revised   {revised['asked']:,} sent back, {revised['accepted']:,} of them accepted; {told}")
    if preference := metrics.get("preference"):
        margin = preference["mean_margin"]
        apart = "told by comparison" if margin is None else f"{margin:.2f} apart on the average"
        lines.append(f"pairs     {preference['pairs']:,}, {apart}")
    return lines


def _shares(coverage: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """Values that ended away from the share that was wished for them; a line where all are near it."""
    found = [(axis, value, got) for axis, values in coverage.items() for value, got in values.items()]
    off = [each for each in found if abs(each[2]["share"] - each[2]["wished"]) > SHOWN_FROM]
    if found and not off:
        return [f"shares    {', '.join(coverage)}: all within {100 * SHOWN_FROM:g} points of what was wished"]
    return [
        f"shares    {axis} {value}: {got['share']:.1%} of {got['wished']:.1%} wished"
        + ("; given up, as next to none could be had" if got.get("given_up") else "")
        for axis, value, got in off
    ]


def duration(seconds: float) -> str:
    """Such as `42 s`, `3 min 20 s` or `7 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def money(cost_usd: float | None) -> str:
    """US dollars; an unknown price is unknown, not 0."""
    if cost_usd is None:
        return "unknown (no price)"
    return dollars(cost_usd)


def dollars(usd: float) -> str:
    """Such as `$12.30`, or `$0.0042` where cents would hide it."""
    return f"${usd:,.2f}" if usd >= 1 else f"${usd:.4f}"
