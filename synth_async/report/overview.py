"""The head of the page: the figures that lead, the funnel, and the reasons of the drops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from synth_async.report.charts import percent, short_number
from synth_async.report.facts import RunReport, flow_order
from synth_async.report.metrics import FUNNEL
from synth_async.report.summary import STEPS, duration, money

__all__ = ["Reason", "Step", "Tile", "funnel", "reasons", "tiles"]

_MOST_REASONS = 80
_MOST_NAME = 100


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure that leads, its name, and a word about it."""

    name: str
    figure: str
    note: str


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the funnel, with the tasks that were lost before it; `width` in per cent of the widest."""

    name: str
    meaning: str
    count: int
    width: float
    lost: int
    lost_share: float


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason of rejection; `is_shown` where examples of it are in the sample."""

    stage: str
    name: str
    count: int
    width: float
    is_shown: bool


def tiles(report: RunReport, metrics: Mapping[str, Any] | None) -> list[Tile]:
    """The figures at the head of the page; without metrics only what the files tell."""
    if metrics is None:
        return [Tile("Accepted", f"{report.accepted:,}", "examples so far")]
    accepted, answered, elapsed_s = metrics["accepted"], metrics["answered"], metrics["elapsed_s"]
    tokens = metrics["tokens"]
    sent, received = short_number(tokens["prompt"]), short_number(tokens["completion"])
    return [
        Tile("Accepted", f"{accepted:,}", f"of {metrics['target']:,} wished"),
        Tile("Yield", f"{percent(accepted, answered):.0f} %", f"of {answered:,} answers"),
        Tile("Speed", f"{60 * accepted / elapsed_s:,.0f}" if elapsed_s else "–", "accepted a minute"),
        Tile("Time", duration(elapsed_s), "while running"),
        Tile("Requests", f"{metrics['attempts']:,}", f"{metrics['http_429']:,} answered with 429"),
        _limit_tile(metrics["utilisation"]),
        Tile("Tokens", short_number(tokens["prompt"] + tokens["completion"]), f"{sent} in, {received} out"),
        _cost_tile(metrics["cost_usd"], accepted),
    ]


def _limit_tile(utilisation: Mapping[str, Mapping[str, float | None]]) -> Tile:
    shares = [share for limits in utilisation.values() for share in limits.values() if share is not None]
    if not shares:
        return Tile("Limit used", "–", "no limit is declared")
    return Tile("Limit used", f"{100 * max(shares):.0f} %", "since the last start")


def _cost_tile(cost_usd: float | None, accepted: int) -> Tile:
    if cost_usd is None:
        return Tile("Cost", "unknown", "no price is known")
    return Tile("Cost", money(cost_usd), f"{money(1000 * cost_usd / accepted)} per 1,000 accepted" if accepted else "")


def funnel(metrics: Mapping[str, Any]) -> list[Step]:
    """The steps of the funnel; the judge's is left out where none was asked."""
    return list(_steps(metrics, [name for name in FUNNEL if name != "judged" or metrics["judged"]]))


def _steps(metrics: Mapping[str, Any], names: list[str]) -> Iterator[Step]:
    most, before = max(metrics[name] for name in names), metrics[names[0]]
    for name in names:
        count = metrics[name]
        lost = max(0, before - count)
        yield Step(name, STEPS[name], count, percent(count, most), lost, percent(lost, before))
        before = count


def reasons(report: RunReport) -> list[Reason]:
    """Why examples were dropped, the most frequent reason first."""
    most = max(report.rejected.values(), default=0)
    rows = sorted(report.rejected.items(), key=lambda row: (-row[1], flow_order(row[0][0]), row[0]))
    return [
        Reason(stage, name[:_MOST_NAME], count, percent(count, most), name in report.samples.rejected)
        for (stage, name), count in rows[:_MOST_REASONS]
    ]
