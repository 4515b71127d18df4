from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_config import small_config

from synth_async.stages.forecast import Forecast
from synth_async.stages.measured import Measured, Pace, RecentRate, StageWork, measured_in
from synth_async.stages.projection import LEAST_DECIDED, projection

PILOT = Measured(
    accepted=80,
    decided=100,
    repeats=4,
    topics=50,
    work={
        "topics": {"only": StageWork(2, 400, 1000, 1400.0, 2.0)},
        "generation": {"only": StageWork(100, 20_000, 30_000, 50_000.0, 50.0)},
        "judge": {"only": StageWork(90, 36_000, 4500, 40_500.0, 18.0)},
    },
    paces={"only": Pace(attempts=200, answered=192)},
)
"""80 of 100 accepted; half a second for an example, a fifth for its verdict."""


def left(measured: Measured = PILOT, so_far: Measured | None = None, **changes: Any) -> Forecast:
    """The forecast of a run to 1,000 examples."""
    keys = [key for key in ("rpm", "tpm", "price", "max_in_flight") if key in changes]
    endpoint: dict[str, Any] = {key: changes.pop(key) for key in keys}
    found = projection(small_config(endpoint, target=1000, **changes), measured, so_far or Measured())
    assert found is not None
    return found


def test_each_example_is_taken_to_need_what_those_before_it_needed() -> None:
    """1,000 at 80 % are 1,250 tasks, with 0.9 verdicts and 500 tokens each; every answer took 200/192 requests."""
    stages = {stage.stage: stage for stage in left().stages}
    assert stages["generation"].requests.middle == pytest.approx(1250 * 200 / 192)
    assert stages["judge"].requests.middle == pytest.approx(1125 * 200 / 192)
    assert stages["generation"].prompt_tokens.middle == pytest.approx(1250 * 200)
    assert stages["judge"].completion_tokens.middle == pytest.approx(1125 * 50)
    assert stages["topics"].requests.middle == pytest.approx(500 / 50 * 2 * 200 / 192)


def test_what_is_there_is_not_asked_for_again() -> None:
    """A run that goes on from what was measured needs the rest only, and no topics that it has."""
    whole, rest = left(), left(so_far=PILOT)
    assert rest.requests.middle < whole.requests.middle
    generation = {stage.stage: stage for stage in rest.stages}["generation"]
    assert generation.requests.middle == pytest.approx(920 * 1.25 * 200 / 192)
    assert rest.accepted == 80


def test_the_limit_that_binds_gives_the_time() -> None:
    """Requests or tokens per minute, requests in flight, or the CPU here: the longest of them, and the ends."""
    slots = left(max_in_flight=1).time_s.middle
    assert slots == pytest.approx(1250 * 0.5 + 1125 * 0.2 + 20 * 1.0, rel=0.01)
    assert left(rpm=100).time_s.middle == pytest.approx(left().requests.middle * 0.6 / 0.998, rel=0.01)
    assert left(tpm=10_000).time_s.middle > left(tpm=20_000).time_s.middle > left().time_s.middle
    assert left(replace(PILOT, cpu_s=1.0)).time_s.middle == pytest.approx(1250 + 1125 + 20, rel=0.01)


def test_what_the_endpoint_allows_goes_before_what_was_declared() -> None:
    """A lower rate that was learnt counts, a higher declared one does not; pauses come on top."""
    slower = replace(PILOT, paces={"only": Pace(200, 192, rpm=50.0)})
    assert left(slower, rpm=100).time_s.middle == pytest.approx(2 * left(rpm=100).time_s.middle, rel=0.02)
    pausing = replace(PILOT, paces={"only": Pace(200, 192, paused_s=20.0)})
    more = left(pausing, rpm=100).time_s.middle - left(rpm=100).time_s.middle
    assert more == pytest.approx(0.1 * left().requests.middle)


def test_a_price_makes_the_cost_known() -> None:
    """Without one it is unknown; with one it is that of the tokens."""
    assert left().cost_usd is None
    found = left(price={"prompt": 1.0, "completion": 1.0})
    assert found.cost_usd is not None
    assert found.cost_usd.middle == pytest.approx(found.tokens.middle / 1e6)


def test_a_run_under_way_goes_by_its_own_speed() -> None:
    """Once it has half a minute of it; before that, limits and latencies tell."""
    config = small_config(target=1000)
    fast, short = RecentRate(60.0, accepted=460), RecentRate(10.0, accepted=1)
    assert _time(config, fast) == pytest.approx(120.0)
    assert _time(config, short) == _time(config, None)


def _time(config: object, recent: RecentRate | None) -> float:
    found = projection(config, PILOT, PILOT, recent=recent)  # type: ignore[arg-type]
    assert found is not None
    return found.time_s.middle


def test_too_little_or_something_else_is_no_measure() -> None:
    """Few decisions, none accepted, a judge that was never asked, or endpoints that the config does not have."""
    config = small_config()
    assert projection(config, replace(PILOT, decided=LEAST_DECIDED - 1)) is None
    assert projection(config, replace(PILOT, accepted=0)) is None
    assert projection(config, replace(PILOT, work={"generation": PILOT.work["generation"]})) is None
    other = {**PILOT.work, "judge": {"another": StageWork(1)}}
    assert projection(config, replace(PILOT, work=other)) is None
    assert projection(config, measured_in({})) is None


@given(st.integers(50, 5000), st.floats(0.05, 1.0), st.floats(0.0, 0.2))
def test_more_decisions_make_the_range_narrower(decided: int, share: float, repeats: float) -> None:
    """Around the same middle: a hundred times the pilot leaves a tenth of the doubt, beside the near-duplicates."""
    accepted = max(1, int(decided * share))
    pilot = replace(PILOT, decided=decided, accepted=accepted, repeats=int(decided * repeats))
    work = {
        stage: {name: StageWork(*(100 * getattr(each, part.name) for part in fields(StageWork)))}
        for stage, by_endpoint in PILOT.work.items()
        for name, each in by_endpoint.items()
    }
    counts = {"decided": 100 * decided, "accepted": 100 * accepted, "repeats": 100 * pilot.repeats, "topics": 5000}
    larger = replace(pilot, work=work, **counts)  # type: ignore[arg-type]
    narrow, wide = left(larger).requests, left(pilot).requests
    assert narrow.middle == pytest.approx(wide.middle)
    assert 0 < wide.low < narrow.low < narrow.high < wide.high


def test_metrics_hold_what_was_measured() -> None:
    """What `metrics.json` holds reads as what was written; earlier processes add their work, not their counts."""
    counts = {"accepted": 80, "rejected": {"near_duplicate": 4, "low_score": 16, "over_target": 7}, "topics": 50}
    assert measured_in({**counts, **PILOT.as_json()}) == PILOT
    both = PILOT.after(PILOT)
    assert both.work["judge"]["only"].requests == 180
    assert both.paces["only"].attempts == 400
    assert both.decided == 100
