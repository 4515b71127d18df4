"""What a run has measured of itself: the work of its stages, the pace of its endpoints. Plain numbers, without a clock.

`metrics.json` holds them under `stages` and `pace`, so that a forecast can be made of a run that is over, or that
another process drives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from synth_async.records import DropReason, Stage

__all__ = ["SECTIONS", "Measured", "Pace", "RecentRate", "StageWork", "measured_in"]

SECTIONS: Mapping[Stage, str] = {
    Stage.TOPICS: "topics",
    Stage.GENERATE: "generation",
    Stage.REVISE: "revise",
    Stage.REPLY: "reply",
    Stage.JUDGE: "judge",
}
"""Stages that send requests, by the name that a forecast has for their work."""

_SAY_NOTHING = (DropReason.OVER_TARGET, DropReason.PENDING_JUDGE, DropReason.OVER_SHARE)
"""Drops of what may be good: they tell nothing about the share that is accepted."""

_REPEATS = (DropReason.NEAR_DUPLICATE, DropReason.EXACT_DUPLICATE)


@dataclass(frozen=True, slots=True)
class StageWork:
    """What the answers of one stage by one endpoint came to. `charged_tokens` are in the unit of its token limit."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    charged_tokens: float = 0.0
    latency_s: float = 0.0

    def __add__(self, other: StageWork) -> StageWork:
        return StageWork(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(StageWork)))


@dataclass(frozen=True, slots=True)
class Pace:
    """What sending to one endpoint was like. Rates and slots are None where it allowed all that the config does."""

    attempts: int = 0
    answered: int = 0
    paused_s: float = 0.0
    rpm: float | None = None
    tpm: float | None = None
    slots: int | None = None

    def after(self, earlier: Pace) -> Pace:
        """With the counts of earlier processes; what was learnt is the latest."""
        return Pace(
            self.attempts + earlier.attempts,
            self.answered + earlier.answered,
            self.paused_s + earlier.paused_s,
            self.rpm,
            self.tpm,
            self.slots,
        )


@dataclass(frozen=True, slots=True)
class RecentRate:
    """What was done in the last `seconds`, a minute at the most."""

    seconds: float = 0.0
    accepted: int = 0
    requests: int = 0
    http_429: int = 0


@dataclass(frozen=True, slots=True)
class Measured:
    """`decided` counts the examples that tell of the yield, `repeats` the duplicates among them.

    `work` is by section (as in `SECTIONS`) and endpoint, `paces` by endpoint; `cpu_s` is the CPU time of this process
    for each answer, `start_s` the time until the first answer was there.
    """

    accepted: int = 0
    decided: int = 0
    repeats: int = 0
    topics: int = 0
    work: Mapping[str, Mapping[str, StageWork]] = field(default_factory=dict)
    paces: Mapping[str, Pace] = field(default_factory=dict)
    cpu_s: float = 0.0
    start_s: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """The keys of `metrics.json` that nothing else holds."""
        stages = {
            section: {name: asdict(work) for name, work in by_endpoint.items()}
            for section, by_endpoint in self.work.items()
        }
        return {
            "stages": stages,
            "pace": {name: asdict(pace) for name, pace in self.paces.items()},
            "cpu_s_per_answer": round(self.cpu_s, 6),
            "start_s": round(self.start_s, 3),
        }

    def after(self, earlier: Measured) -> Measured:
        """With the work of earlier processes. Counts of examples are those of this one: they go over all."""
        work = {
            section: _added(self.work.get(section, {}), earlier.work.get(section, {}))
            for section in {**earlier.work, **self.work}
        }
        paces = {
            name: self.paces.get(name, Pace()).after(earlier.paces.get(name, Pace()))
            for name in {**earlier.paces, **self.paces}
        }
        return Measured(
            self.accepted,
            self.decided,
            self.repeats,
            self.topics,
            work,
            paces,
            self.cpu_s or earlier.cpu_s,
            self.start_s or earlier.start_s,
        )


def _added(now: Mapping[str, StageWork], earlier: Mapping[str, StageWork]) -> dict[str, StageWork]:
    return {name: now.get(name, StageWork()) + earlier.get(name, StageWork()) for name in {**earlier, **now}}


def measured_in(metrics: Mapping[str, Any]) -> Measured:
    """What the content of a `metrics.json` tells; one of an earlier version, or none at all, tells nothing."""
    rejected: Mapping[str, int] = metrics.get("rejected", {})
    accepted: int = metrics.get("accepted", 0)
    return Measured(
        accepted,
        accepted + sum(count for reason, count in rejected.items() if reason not in _SAY_NOTHING),
        sum(rejected.get(reason, 0) for reason in _REPEATS),
        metrics.get("topics", 0),
        {
            section: {name: StageWork(**work) for name, work in by_endpoint.items()}
            for section, by_endpoint in metrics.get("stages", {}).items()
        },
        {name: Pace(**pace) for name, pace in metrics.get("pace", {}).items()},
        metrics.get("cpu_s_per_answer", 0.0),
        metrics.get("start_s", 0.0),
    )
