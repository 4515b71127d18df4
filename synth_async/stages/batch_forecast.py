"""Batches and online requests beside each other: what the same work costs, and how long it takes, either way.

A batch is answered within a day, mostly much sooner; nobody says when. What is guessed is a named constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from synth_async.config.models import Config, Price
from synth_async.stages.forecast import Forecast, Range, StageForecast

__all__ = ["WayForecast", "compare_ways", "time_of_ways"]

BATCH_S = (600.0, 86_400.0)
"""From a batch's creation to its end: some minutes at the best, a day by OpenAI's promise."""

ROUNDS = (2.0, 4.0)
"""Batches of a stage one after the other: what the first ones lack is asked for when their verdicts are there."""


@dataclass(frozen=True, slots=True)
class WayForecast:
    """One stage at one endpoint, online and in batches; costs are None where the config gives no price."""

    stage: str
    endpoint: str
    in_batches: bool
    online_usd: Range | None
    batch_usd: Range | None
    online_s: Range
    batch_s: Range

    @property
    def time_s(self) -> Range:
        """By the way that the config chooses."""
        return self.batch_s if self.in_batches else self.online_s


def compare_ways(config: Config, found: Forecast) -> tuple[WayForecast, ...]:
    """Examples and verdicts either way, where an endpoint is in batch mode or could be (any but the embedded one)."""
    online_s = {each.endpoint: each.time_s for each in found.endpoints}
    return tuple(
        WayForecast(
            stage.stage,
            stage.endpoint,
            config.endpoints[stage.endpoint].mode == "batch",
            _cost(stage, config.price_of(stage.endpoint, in_batches=False)),
            _cost(stage, config.price_of(stage.endpoint, in_batches=True)),
            online_s[stage.endpoint],
            Range(*BATCH_S).times(Range(*ROUNDS)),
        )
        for stage in found.stages
        if stage.stage != "topics"
        and (config.endpoints[stage.endpoint].mode == "batch" or not config.endpoints[stage.endpoint].is_simulator)
    )


def time_of_ways(found: Forecast, ways: Sequence[WayForecast]) -> Range:
    """The time of a run: where stages go in batches, their batches come one after the other."""
    batched = [way.batch_s for way in ways if way.in_batches]
    return sum(batched, start=found.time_s) if batched else found.time_s


def _cost(stage: StageForecast, price: Price | None) -> Range | None:
    if price is None:
        return None
    return stage.prompt_tokens.by(price.prompt / 1e6) + stage.completion_tokens.by(price.completion / 1e6)
