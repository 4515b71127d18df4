"""What `validate` says of batches and online requests beside each other."""

from __future__ import annotations

from typing import Any

import pytest
from small_config import small_config

from synth_async.config.models import Config
from synth_async.stages.batch_forecast import compare_ways, time_of_ways
from synth_async.stages.forecast import Forecast, forecast
from synth_async.stages.task_plan import TaskPlan

_PRICE = {"prompt": 10.0, "completion": 20.0}


def _forecast(**endpoint: Any) -> tuple[Config, Forecast]:
    config = small_config({"price": _PRICE, **endpoint})
    return config, forecast(config, "", (), TaskPlan(config, ""))


def test_both_ways_are_priced_and_only_examples_and_verdicts_take_one() -> None:
    """A batch costs half; the cost of the run is that of the way which is chosen, topics at the full price."""
    online, found_online = _forecast()
    batched, found = _forecast(mode="batch")
    ways = compare_ways(batched, found)
    assert [way.stage for way in ways] == ["generation", "judge"]
    for way, other in zip(ways, compare_ways(online, found_online), strict=True):
        assert way.in_batches
        assert not other.in_batches
        assert way.online_usd is not None
        assert way.batch_usd is not None
        assert way.batch_usd.high == pytest.approx(way.online_usd.high / 2)
        assert (way.online_usd, way.batch_usd) == (other.online_usd, other.batch_usd)
    assert found.stages[0].cost_usd == found_online.stages[0].cost_usd
    assert found.stages[1].cost_usd == ways[0].batch_usd


def test_batches_come_one_after_the_other() -> None:
    """The time of a run in batches is that of its batches; online nothing is added."""
    online, found_online = _forecast()
    batched, found = _forecast(mode="batch")
    assert time_of_ways(found_online, compare_ways(online, found_online)) == found_online.time_s
    ways = compare_ways(batched, found)
    assert time_of_ways(found, ways).high == pytest.approx(found.time_s.high + sum(way.batch_s.high for way in ways))


def test_the_embedded_endpoint_is_compared_in_batch_mode_only() -> None:
    """It costs nothing, so there is nothing to choose."""
    config, found = _forecast(base_url="simulator", model="simulator")
    assert compare_ways(config, found) == ()
    config, found = _forecast(base_url="simulator", model="simulator", mode="batch")
    assert len(compare_ways(config, found)) == 2
