"""The counts of a run: what was asked, what became of it, what it took. `metrics.json` is made from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from synth_async.records import Drop, Example, Stage
from synth_async.stages.coverage import Standing

__all__ = ["FUNNEL", "Tally", "coverage_json", "state_of"]

FUNNEL = ("asked", "answered", "parsed", "passed", "judged", "accepted")
"""Steps of the funnel, in order: each counts the tasks that came at least so far."""


def coverage_json(standings: Iterable[Standing], accepted: int) -> dict[str, dict[str, dict[str, Any]]]:
    """Axis -> value -> the share wished and the share got of the accepted examples, 0-1."""
    coverage: dict[str, dict[str, dict[str, Any]]] = {}
    for each in standings:
        share = round(each.accepted / max(1, accepted), 4)
        found: dict[str, Any] = {"wished": round(each.wished, 4), "share": share, "accepted": each.accepted}
        if each.given_up:
            found["given_up"] = True
        coverage.setdefault(each.axis, {})[each.value] = found
    return coverage


def state_of(metrics: Mapping[str, Any] | None) -> str:
    """Where a run stands that nobody drives: `new`, `stopped` or `finished`."""
    if metrics is None:
        return "new"
    return "finished" if metrics["accepted"] >= metrics["target"] else "stopped"


@dataclass(slots=True)
class Tally:
    """Counts over the life of a run, all its processes together; made anew from the journal on resume."""

    asked: int = 0
    answered: int = 0
    parsed: int = 0
    passed: int = 0
    judged: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    topics: int = 0
    revised: int = 0
    revised_accepted: int = 0
    revised_tokens: int = 0
    preferences: int = 0
    margins: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = 0.0
    earlier_attempts: int = 0
    earlier_http_429: int = 0
    earlier_elapsed_s: float = 0.0

    def note_accepted(self, *, judged: bool) -> None:
        """An example was accepted."""
        self.parsed += 1
        self.passed += 1
        self.judged += judged
        self.accepted += 1

    def note_rejected(self, drop: Drop, *, judged: bool) -> None:
        """A task was dropped: it counts for every step that it had passed."""
        self.rejected[str(drop.reason)] += 1
        self.parsed += drop.stage is not Stage.GENERATE
        self.passed += drop.stage not in (Stage.GENERATE, Stage.FILTER)
        self.judged += judged

    def note_made(self, example: Example, *, accepted: bool) -> None:
        """How an example that was decided on came to be."""
        if example.revision is not None:
            self.revised += 1
            self.revised_accepted += accepted
            self.revised_tokens += example.revision.tokens
        if example.preference is not None and accepted:
            self.preferences += 1
            self.margins += example.preference.margin or 0.0

    def note_usage(self, prompt: int, completion: int, price: tuple[float, float] | None) -> None:
        """An answer was paid for; `price` in US dollars per million tokens, None when it is unknown."""
        self.prompt_tokens += prompt
        self.completion_tokens += completion
        if price is None:
            self.cost_usd = None
        elif self.cost_usd is not None:
            self.cost_usd += (prompt * price[0] + completion * price[1]) / 1e6

    def funnel(self) -> dict[str, int]:
        """Step -> tasks that came so far."""
        return {step: getattr(self, step) for step in FUNNEL}

    def as_json(self, *, attempts: int, http_429: int, elapsed_s: float, more: Mapping[str, Any]) -> dict[str, Any]:
        """The content of `metrics.json`: this process's attempts, 429s and seconds are added to the earlier ones."""
        return {
            **self.funnel(),
            "rejected": dict(self.rejected.most_common()),
            "attempts": self.earlier_attempts + attempts,
            "http_429": self.earlier_http_429 + http_429,
            "tokens": {"prompt": self.prompt_tokens, "completion": self.completion_tokens},
            "cost_usd": None if self.cost_usd is None else round(self.cost_usd, 6),
            "elapsed_s": round(self.earlier_elapsed_s + elapsed_s, 3),
            "topics": self.topics,
            **({"revised": self._revised_json()} if self.revised else {}),
            **({"preference": self._preference_json()} if self.preferences else {}),
            **more,
        }

    def _revised_json(self) -> dict[str, Any]:
        """What revisions brought, and took; `without`: the yield of the same run but for both."""
        tokens = self.prompt_tokens + self.completion_tokens
        return {
            "asked": self.revised,
            "accepted": self.revised_accepted,
            "tokens": self.revised_tokens,
            "accepted_per_1k_tokens": _per_1k(self.accepted, tokens),
            "accepted_per_1k_tokens_without": _per_1k(
                self.accepted - self.revised_accepted, tokens - self.revised_tokens
            ),
        }

    def _preference_json(self) -> dict[str, Any]:
        return {"pairs": self.preferences, "mean_margin": round(self.margins / self.preferences, 4) or None}


def _per_1k(count: int, tokens: int) -> float | None:
    return round(1000 * count / tokens, 4) if tokens > 0 else None
