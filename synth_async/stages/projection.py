"""What the rest of a run takes, by what it has measured so far: requests, tokens, cost and time.

Each accepted example is taken to need what those before it needed on the average. The range around that has two parts:
twice the standard error of the share that is accepted, and once more the share of near-duplicates, which grows with the
dataset.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from synth_async.config.models import Config
from synth_async.stages.forecast import EndpointForecast, Forecast, Range, StageForecast, limits_of
from synth_async.stages.measured import SECTIONS, Measured, Pace, RecentRate, StageWork

__all__ = ["LEAST_DECIDED", "projection"]

NOTHING_YET = Measured()

LEAST_DECIDED = 50
"""Decided examples from which a run can be measured by."""

_LIVE_S = 30.0
"""Seconds of a running run whose own speed tells more about its time than limits and latencies do."""

_ROUND = ("generation", "revise", "reply", "judge")
_LAST_ROUNDS = 2
"""At the end few tasks are under way, and for each that is dropped another one takes a latency of each stage."""

_REQUEST_MARGIN, _TOKEN_MARGIN = 0.998, 0.99
"""Shares of the declared limits that are used, as in `endpoint.limits`."""


@dataclass(frozen=True, slots=True)
class _Load:
    """The answered requests that a stage still wants of an endpoint, and the work of one of them."""

    stage: str
    endpoint: str
    answers: float
    mean: StageWork

    @property
    def latency_s(self) -> float:
        return self.mean.latency_s / max(1, self.mean.requests)

    def total(self, amount: float) -> float:
        """An amount of all measured requests, as it will be for those that are still wanted."""
        return self.answers * amount / max(1, self.mean.requests)


def projection(
    config: Config, measured: Measured, so_far: Measured = NOTHING_YET, *, recent: RecentRate | None = None
) -> Forecast | None:
    """What is left to do by what was `measured`; None where that is too little, or was of other endpoints.

    `so_far` is what the run itself has done: `measured` again, or nothing where that was a preview. `recent` is the
    rate of a run that is under way.
    """
    if not _can_tell(config, measured):
        return None
    margin = _margin(measured)
    loads = _loads(config, measured, so_far)
    endpoints = tuple(_endpoint_forecast(config, name, loads, measured, margin) for name in config.used_endpoints)
    machine = _around(measured.cpu_s * sum(load.answers for load in loads), margin)
    stages = tuple(_stage_forecast(config, load, measured, margin) for load in loads)
    costs = [stage.cost_usd for stage in stages if stage.cost_usd is not None]
    missing = config.target - so_far.accepted
    if recent is not None and recent.seconds >= _LIVE_S and recent.accepted:
        time_s = _around(missing * recent.seconds / recent.accepted, margin)
    else:
        time_s = _time(endpoints, machine, loads, 0.0 if recent is not None else measured.start_s)
    return Forecast(
        target=config.target,
        stages=stages,
        endpoints=endpoints,
        cost_usd=sum(costs, start=Range(0, 0)) if len(costs) == len(stages) else None,
        time_s=time_s if missing > 0 else Range(0, 0),
        assumptions=_in_words(measured, loads, margin),
        warnings=(),
        by_machine_s=machine,
        measured_on=measured.decided,
        accepted=so_far.accepted,
    )


def _can_tell(config: Config, measured: Measured) -> bool:
    wanted = ["generation", *(["judge"] if config.judge is not None else [])]
    return (
        measured.decided >= LEAST_DECIDED
        and measured.accepted > 0
        and all(measured.work.get(stage) for stage in wanted)
        and all(set(by_endpoint) <= set(config.endpoints) for by_endpoint in measured.work.values())
    )


def _margin(measured: Measured) -> float:
    # One more of either kind: that nothing was dropped so far is no proof that nothing will be.
    share = (measured.accepted + 1) / (measured.decided + 2)
    error = math.sqrt((1 - share) / (share * measured.decided))
    return min(0.9, 2 * error + measured.repeats / measured.decided)


def _around(amount: float, margin: float) -> Range:
    return Range(amount * (1 - margin), amount * (1 + margin))


# --- requests and tokens -------------------------------------------------------------------------


def _loads(config: Config, measured: Measured, so_far: Measured) -> list[_Load]:
    tasks = max(0, config.target - so_far.accepted) * measured.decided / measured.accepted
    wanted = {"generation": tasks}
    if config.topics.file is None and tasks and measured.topics:
        per_topic = config.generation.examples_per_topic
        topics = max(config.topic_count, math.ceil((so_far.decided + tasks) / per_topic)) - so_far.topics
        wanted["topics"] = max(0, topics) * _requests(measured, "topics") / measured.topics
    # All that is asked about an example comes as often as it came so far.
    wanted |= {stage: tasks * _requests(measured, stage) / measured.decided for stage in _asked_about(config)}
    return [
        _Load(stage, name, wanted[stage] * work.requests / max(1, _requests(measured, stage)), work)
        for stage in SECTIONS.values()
        if stage in wanted
        for name, work in measured.work.get(stage, {}).items()
    ]


def _asked_about(config: Config) -> tuple[str, ...]:
    if config.judge is None:
        return ()
    more = {"revise": config.revise is not None, "reply": config.mode == "preference"}
    return ("judge", *(stage for stage, is_wanted in more.items() if is_wanted))


def _requests(measured: Measured, stage: str) -> int:
    return sum(work.requests for work in measured.work.get(stage, {}).values())


def _attempts_per_answer(measured: Measured, name: str) -> float:
    pace = measured.paces.get(name, Pace())
    return pace.attempts / pace.answered if pace.answered else 1.0


def _stage_forecast(config: Config, load: _Load, measured: Measured, margin: float) -> StageForecast:
    prompt, completion = load.total(load.mean.prompt_tokens), load.total(load.mean.completion_tokens)
    in_batches = load.stage != "topics" and config.endpoints[load.endpoint].mode == "batch"
    price = config.price_of(load.endpoint, in_batches=in_batches)
    cost = None if price is None else (prompt * price.prompt + completion * price.completion) / 1e6
    return StageForecast(
        load.stage,
        load.endpoint,
        _around(load.answers * _attempts_per_answer(measured, load.endpoint), margin),
        _around(prompt, margin),
        _around(completion, margin),
        None if cost is None else _around(cost, margin),
    )


# --- time ----------------------------------------------------------------------------------------


def _endpoint_forecast(
    config: Config, name: str, loads: Sequence[_Load], measured: Measured, margin: float
) -> EndpointForecast:
    own = [load for load in loads if load.endpoint == name]
    pace, tries = measured.paces.get(name, Pace()), _attempts_per_answer(measured, name)
    attempts = tries * sum(load.answers for load in own)
    rpm, tpm = limits_of(config.endpoints[name])
    rpm = min((limit for limit in (rpm and rpm * _REQUEST_MARGIN, pace.rpm) if limit), default=None)
    tpm = min((limit for limit in (tpm and tpm * _TOKEN_MARGIN, pace.tpm) if limit), default=None)
    charged = tries * sum(load.total(load.mean.charged_tokens) for load in own)
    busy_s = sum(load.total(load.mean.latency_s) for load in own)
    paused_s = pace.paused_s / max(1, pace.attempts) * attempts
    slots = min(config.endpoints[name].max_in_flight, pace.slots or config.endpoints[name].max_in_flight)
    return EndpointForecast(
        name,
        _around(attempts * 60 / rpm + paused_s, margin) if rpm else None,
        _around(charged * 60 / tpm + paused_s, margin) if tpm else None,
        _around(busy_s / slots + paused_s, margin),
    )


def _time(endpoints: Sequence[EndpointForecast], machine: Range, loads: Sequence[_Load], start_s: float) -> Range:
    """By what binds; before that comes the start, and after it the last rounds."""
    bounds = [machine, *(each.time_s for each in endpoints)]
    round_s = sum(max((load.latency_s for load in loads if load.stage == stage), default=0.0) for stage in _ROUND)
    alone_s = start_s + _LAST_ROUNDS * round_s
    return Range(max(bound.low for bound in bounds), max(bound.high for bound in bounds)) + Range(alone_s, alone_s)


# --- in words ------------------------------------------------------------------------------------


def _in_words(measured: Measured, loads: Sequence[_Load], margin: float) -> tuple[str, ...]:
    latencies = ", ".join(f"{load.stage} {load.latency_s:.2g} s" for load in loads)
    share = measured.accepted / measured.decided
    lines = [
        f"measured on {measured.decided:,} decided examples, {share:.0%} of them accepted",
        f"{margin:.0%} more or less: twice the standard error of that share, and as many near-duplicates again",
        f"latency of a request: {latencies}",
    ]
    for name, pace in measured.paces.items():
        if pace.paused_s:
            lines.append(f"{name} asks for {60 * pace.paused_s / max(1, pace.attempts):.2g} s of pause in 60 requests")
        learnt = [f"{limit:,.0f} {unit}" for limit, unit in ((pace.rpm, "rpm"), (pace.tpm, "tpm")) if limit]
        if learnt:
            lines.append(f"{name} allows {' and '.join(learnt)}, by its own words or refusals")
    return tuple(lines)
