"""What a run would take: requests, tokens, cost and time, each as a range, from the prompts that it would send.

Nothing here is measured: see `projection` for that. What is guessed is a named constant, and `Forecast.assumptions`
says it in words.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from synth_async.config.models import Config, Endpoint, Judge
from synth_async.records import Example, Message, Topic, Verdict
from synth_async.stages.judging import judge_request
from synth_async.stages.pairwise import comparison_requests
from synth_async.stages.replies import reply_request
from synth_async.stages.revision import revision_request
from synth_async.stages.task_plan import TaskPlan
from synth_async.stages.topics import TopicBatch, topics_request

__all__ = ["EndpointForecast", "Forecast", "Range", "StageForecast", "forecast", "limits_of"]

BYTES_PER_TOKEN = 4.0
"""English with the usual tokenizers (OpenAI's rule of thumb); scripts without spaces come to fewer bytes."""

_YIELD = (0.5, 0.9)
_FRESH_TOPICS = 0.75
"""Share of the topics of a batch that are new, at the worst."""

_USER_TOKENS = (30, 150)
_REPLY_TOKENS = (90, 350)
_TOPIC_TOKENS = (10, 25)
_VERDICT_TOKENS = (15, 80)
_SCORE_TOKENS = (5, 12)
_KNOWN_TOPICS = 40
_DRAWS = 8
_ALMOST_GOOD = (0.02, 0.2)
"""Share of the judged examples that are sent back with `revise`, each time."""

_PAIRED = (0.3, 0.9)
"""Share of the examples with `mode: preference` whose replies are a margin apart."""

_CHOICE_TOKENS = (20, 90)
_LATENCY_S: Mapping[str, tuple[float, float]] = {
    "topics": (3, 20),
    "generation": (2, 15),
    "revise": (2, 15),
    "reply": (2, 12),
    "judge": (1, 6),
    "compare": (1, 6),
}
_CPU_S = (0.0015, 0.005)
"""Of this process for each request, with what comes after it (benchmarks/pipeline.py, on a quiet machine or not)."""

_TYPICAL_TOPIC = "Refund for a plan that was changed twice in one month, asked for by the owner of a small shop"


@dataclass(frozen=True, slots=True)
class Range:
    """From the least to the most that is expected."""

    low: float
    high: float

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.high + other.high)

    def times(self, other: Range) -> Range:
        """The product of two ranges of numbers from 0."""
        return Range(self.low * other.low, self.high * other.high)

    def by(self, factor: float) -> Range:
        return Range(self.low * factor, self.high * factor)

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2


@dataclass(frozen=True, slots=True)
class StageForecast:
    """One kind of request: `topics`, `generation`, `revise`, `reply`, `compare` or `judge`.

    `cost_usd` is None where the config gives no price.
    """

    stage: str
    endpoint: str
    requests: Range
    prompt_tokens: Range
    completion_tokens: Range
    cost_usd: Range | None


@dataclass(frozen=True, slots=True)
class EndpointForecast:
    """Seconds that an endpoint needs for all that it is asked, by each of its limits; None where there is no limit."""

    endpoint: str
    by_rpm_s: Range | None
    by_tpm_s: Range | None
    by_concurrency_s: Range

    @property
    def time_s(self) -> Range:
        """By the limit that binds."""
        return _longest([each for each in (self.by_rpm_s, self.by_tpm_s, self.by_concurrency_s) if each is not None])


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run takes, from its beginning or from here on. `cost_usd` is None when any stage's is."""

    target: int
    stages: tuple[StageForecast, ...]
    endpoints: tuple[EndpointForecast, ...]
    cost_usd: Range | None
    time_s: Range
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]
    by_machine_s: Range | None = None
    """What the client's own CPU takes."""
    measured_on: int = 0
    """Decided examples that it was measured on; 0: everything is assumed."""
    accepted: int = 0
    """Examples that are there already; all figures are of what is left."""

    @property
    def requests(self) -> Range:
        return _sum(stage.requests for stage in self.stages)

    @property
    def tokens(self) -> Range:
        return _sum(stage.prompt_tokens + stage.completion_tokens for stage in self.stages)


@dataclass(frozen=True, slots=True)
class _Load:
    """One stage's requests to one endpoint, and the tokens of one of them."""

    stage: str
    endpoint: str
    requests: Range
    prompt: Range
    completion: Range
    max_tokens: int | None


def forecast(config: Config, context: str, topics: Sequence[Topic], plan: TaskPlan) -> Forecast:
    """What the run of a config would take from its beginning. `topics` are those of its topics file, if it has one.

    `plan` writes typical tasks.
    """
    loads = _loads(config, context, topics, plan)
    stages = tuple(_stage_forecast(config, load) for load in loads)
    endpoints = tuple(_endpoint_forecast(config, name, loads) for name in config.used_endpoints)
    costs = [stage.cost_usd for stage in stages if stage.cost_usd is not None]
    machine = _sum(load.requests for load in loads).times(Range(*_CPU_S))
    return Forecast(
        target=config.target,
        stages=stages,
        endpoints=endpoints,
        cost_usd=_sum(costs) if len(costs) == len(stages) else None,
        # One request after the other is the least there is: topics, then an example, then its verdict.
        time_s=_longest([machine, *(each.time_s for each in endpoints)])
        + _sum(_latency(config, load) for load in loads),
        assumptions=_assumptions(config),
        warnings=_warnings(config, loads, topics),
        by_machine_s=machine,
    )


def _longest(bounds: Sequence[Range]) -> Range:
    return Range(max(bound.low for bound in bounds), max(bound.high for bound in bounds))


def _sum(ranges: Iterable[Range]) -> Range:
    return sum(ranges, start=Range(0, 0))


# --- requests and tokens -------------------------------------------------------------------------


def _loads(config: Config, context: str, topics: Sequence[Topic], plan: TaskPlan) -> list[_Load]:
    tasks = Range(math.ceil(config.target / _YIELD[1]), math.ceil(config.target / _YIELD[0]))
    if config.mode == "preference":
        tasks = Range(math.ceil(tasks.low / _PAIRED[1]), math.ceil(tasks.high / _PAIRED[0]))
    loads = []
    if config.topics.file is None:
        loads.append(_topics_load(config, context, tasks))
    example, prompt_bytes = _typical_task(config, topics, plan)
    conversation = _conversation_tokens(config)
    loads.append(
        _Load(
            "generation",
            config.endpoint_of("generation"),
            tasks,
            Range(prompt_bytes, prompt_bytes).by(1 / BYTES_PER_TOKEN),
            _at_most(conversation, config.generation.max_tokens),
            config.generation.max_tokens,
        )
    )
    if config.judge is not None:
        loads.extend(_loads_of_judging(config, config.judge, context, example, tasks))
    return loads


def _loads_of_judging(config: Config, judge: Judge, context: str, example: Example, tasks: Range) -> Iterator[_Load]:
    """All that is asked about examples once there are some."""
    # Every accepted example has a verdict; of the others, those that a filter or the index dropped have none.
    judged = Range(config.target, tasks.high)
    verdicts, replies = judged, Range(0, 0)
    if config.revise is not None:
        revisions = judged.times(Range(*_ALMOST_GOOD)).by(config.revise.times)
        yield _revision_load(config, context, example, revisions)
        verdicts = judged + revisions
    elif config.mode == "preference":
        replies = Range(1, 1).by(config.preference.samples - 1)
        if config.preference.samples > 1:
            yield _reply_load(config, context, example, None, judged.times(replies))
        if (weaker := config.preference.rejected_endpoint) is not None:
            yield _reply_load(config, context, example, weaker, judged)
            replies += Range(1, 1)
        if judge.mode == "score":
            verdicts = judged + judged.times(replies)
    # A panel's members are asked each; a pool shares the requests, and stands here under its first.
    for name in judge.panel or (config.endpoint_of("judge"),):
        if judge.mode == "pairwise":
            # The second order is asked where the first one had a winner.
            yield _comparison_load(
                config, judge, name, context, example, judged.times(Range(replies.low, 2 * replies.high))
            )
        yield _judge_load(config, judge, name, context, example, verdicts)


def _topics_load(config: Config, context: str, tasks: Range) -> _Load:
    settings = config.topics
    batch = min(settings.batch_size, config.topic_count)
    most = max(config.topic_count, math.ceil(tasks.high / config.generation.examples_per_topic))
    known = [f"{_TYPICAL_TOPIC} {number}" for number in range(_KNOWN_TOPICS)]
    first, later = (topics_request(config, context, TopicBatch(0, batch), shown).messages for shown in ((), known))
    return _Load(
        "topics",
        config.endpoint_of("topics"),
        Range(math.ceil(config.topic_count / batch), math.ceil(most / batch / _FRESH_TOPICS)),
        Range(_bytes(first), _bytes(later)).by(1 / BYTES_PER_TOKEN),
        _at_most(Range(*_TOPIC_TOKENS).by(batch), settings.max_tokens),
        settings.max_tokens,
    )


def _revision_load(config: Config, context: str, example: Example, requests: Range) -> _Load:
    verdict = Verdict({criterion.name: 1 for criterion in config.judge.criteria} if config.judge else {}, 1, "", "")
    shown = _bytes(revision_request(config, context, example, verdict).messages) / BYTES_PER_TOKEN
    conversation = _at_most(_conversation_tokens(config), config.generation.max_tokens)
    prompt = Range(shown, shown) + conversation + Range(0, _VERDICT_TOKENS[1])
    endpoint = config.endpoint_of("generation")
    return _Load("revise", endpoint, requests, prompt, conversation, config.generation.max_tokens)


def _reply_load(config: Config, context: str, example: Example, endpoint: str | None, requests: Range) -> _Load:
    shown = _bytes(reply_request(config, context, example, 1, endpoint).messages) / BYTES_PER_TOKEN
    # All turns but the last reply are shown.
    turns = Range(*_USER_TOKENS).by(config.generation.turns) + Range(*_REPLY_TOKENS).by(config.generation.turns - 1)
    reply = _at_most(Range(*_REPLY_TOKENS), config.generation.max_tokens)
    name = endpoint or config.endpoint_of("generation")
    return _Load("reply", name, requests, Range(shown, shown) + turns, reply, config.generation.max_tokens)


def _comparison_load(
    config: Config, judge: Judge, endpoint: str, context: str, example: Example, requests: Range
) -> _Load:
    (request, *_), _ = comparison_requests(config, judge, context, example, example)
    shown = _bytes(request.messages) / BYTES_PER_TOKEN
    prompt = Range(shown, shown) + _conversation_tokens(config) + Range(*_REPLY_TOKENS)
    choice = _at_most(Range(*_CHOICE_TOKENS), judge.max_tokens)
    return _Load("compare", endpoint, requests.by(judge.samples), prompt, choice, judge.max_tokens)


def _judge_load(config: Config, judge: Judge, endpoint: str, context: str, example: Example, verdicts: Range) -> _Load:
    shown = _bytes(judge_request(config, judge, context, example).messages) / BYTES_PER_TOKEN
    verdict = Range(*_VERDICT_TOKENS) + Range(*_SCORE_TOKENS).by(len(judge.criteria))
    return _Load(
        "judge",
        endpoint,
        verdicts.by(judge.samples),
        Range(shown, shown) + _at_most(_conversation_tokens(config), config.generation.max_tokens),
        _at_most(verdict, judge.max_tokens),
        judge.max_tokens,
    )


def _typical_task(config: Config, topics: Sequence[Topic], plan: TaskPlan) -> tuple[Example, float]:
    """An example without text for a typical topic, and the mean size of a generation prompt over some facet draws."""
    typical = (
        sorted(topics, key=lambda topic: len(topic.text))[len(topics) // 2] if topics else Topic(0, _TYPICAL_TOPIC)
    )
    tasks = [plan.write(typical, 0) for _ in range(_DRAWS)]
    exchange: tuple[Message, Message] = ({"role": "user", "content": ""}, {"role": "assistant", "content": ""})
    silent = exchange * config.generation.turns
    return Example(tasks[0], silent, ""), sum(_bytes(task.messages) for task in tasks) / _DRAWS


def _conversation_tokens(config: Config) -> Range:
    return (Range(*_USER_TOKENS) + Range(*_REPLY_TOKENS)).by(config.generation.turns)


def _at_most(tokens: Range, limit: int | None) -> Range:
    return tokens if limit is None else Range(min(tokens.low, limit), min(tokens.high, limit))


def _bytes(messages: Sequence[Message]) -> int:
    return sum(len(message["content"].encode("utf-8", "surrogatepass")) for message in messages)


# --- cost and time -------------------------------------------------------------------------------


def _stage_forecast(config: Config, load: _Load) -> StageForecast:
    name = load.endpoint
    prompt, completion = load.requests.times(load.prompt), load.requests.times(load.completion)
    in_batches = load.stage != "topics" and config.endpoints[name].mode == "batch"
    price = config.price_of(name, in_batches=in_batches)
    cost = None if price is None else prompt.by(price.prompt / 1e6) + completion.by(price.completion / 1e6)
    return StageForecast(load.stage, name, load.requests, prompt, completion, cost)


def _endpoint_forecast(config: Config, name: str, loads: Sequence[_Load]) -> EndpointForecast:
    endpoint = config.endpoints[name]
    own = [load for load in loads if load.endpoint == name]
    rpm, tpm = limits_of(endpoint)
    busy = _sum(load.requests.times(_latency(config, load)) for load in own)
    return EndpointForecast(
        name,
        _sum(load.requests for load in own).by(60 / rpm) if rpm else None,
        _sum(load.requests.times(_charged(endpoint, load)) for load in own).by(60 / tpm) if tpm else None,
        busy.by(1 / endpoint.max_in_flight),
    )


def limits_of(endpoint: Endpoint) -> tuple[float | None, float | None]:
    """(rpm, tpm) that bind: the declared ones, or those that the embedded endpoint enforces where they are tighter."""
    enforced = endpoint.simulation
    rpm = [limit for limit in (endpoint.rpm, enforced.rpm if enforced else None) if limit]
    tpm = [limit for limit in (endpoint.tpm, enforced.tpm if enforced else None) if limit]
    return min(rpm, default=None), min(tpm, default=None)


def _charged(endpoint: Endpoint, load: _Load) -> Range:
    """Tokens that the server charges one request: what it uses, or what it may use."""
    if endpoint.token_accounting == "reserved" and load.max_tokens is not None:
        return load.prompt + Range(load.max_tokens, load.max_tokens)
    return load.prompt + load.completion


def _latency(config: Config, load: _Load) -> Range:
    endpoint = config.endpoints[load.endpoint]
    if not endpoint.is_simulator:
        return Range(*_LATENCY_S[load.stage])
    simulation = endpoint.simulation
    median_s, sigma = (simulation.latency_s, simulation.latency_sigma) if simulation else (0.05, 0.3)
    mean_s = median_s * math.exp(sigma**2 / 2)
    return Range(mean_s, mean_s)


# --- in words ------------------------------------------------------------------------------------


def _assumptions(config: Config) -> tuple[str, ...]:
    least, most = _USER_TOKENS[0] + _REPLY_TOKENS[0], _USER_TOKENS[1] + _REPLY_TOKENS[1]
    lines = [
        f"{_YIELD[0]:.0%} to {_YIELD[1]:.0%} of the generated examples are accepted; a preview tells better",
        f"{BYTES_PER_TOKEN:g} bytes of text are a token (English; other scripts have fewer bytes to a token)",
        f"a generated conversation has {least} to {most} tokens for each user turn, cut at max_tokens",
        "a refused or broken request is sent again, and is not counted here",
    ]
    if config.judge is not None:
        lines.append("a verdict has 15 to 80 tokens for its reason and 5 to 12 for each criterion")
    if config.revise is not None:
        lines.append(
            f"{_ALMOST_GOOD[0]:.0%} to {_ALMOST_GOOD[1]:.0%} of the judged examples are sent back each time (revise);"
            " what that saves elsewhere is not counted"
        )
    if config.mode == "preference":
        lines.append(f"of {_PAIRED[0]:.0%} to {_PAIRED[1]:.0%} of the examples a preference can be made")
    if config.topics.file is None:
        lines.append("a topic has 10 to 25 tokens, and three quarters or more of a batch are new")
    if config.context is not None:
        both = "the generation and the judge prompts" if config.judge is not None else "each generation prompt"
        lines.append(f"the context document stands in {both}, and in those of topics")
    real = [name for name in config.used_endpoints if not config.endpoints[name].is_simulator]
    if real:
        guessed = ", ".join(f"{stage} {low:g}-{high:g} s" for stage, (low, high) in _LATENCY_S.items())
        lines.append(f"latency of a request, a guess: {guessed}")
    if len(real) < len(config.used_endpoints):
        lines.append("the embedded endpoint answers after its latency")
    lines.append(f"{1000 * _CPU_S[0]:g} to {1000 * _CPU_S[1]:g} ms of CPU here for each request")
    if any(config.endpoints[name].tpm and config.endpoints[name].token_accounting == "auto" for name in real):
        lines.append("tpm is charged by use; a server that charges prompt + max_tokens takes longer (token_accounting)")
    return tuple(lines)


def _warnings(config: Config, loads: Sequence[_Load], topics: Sequence[Topic]) -> tuple[str, ...]:
    lines = []
    generated = next(load.requests for load in loads if load.stage == "generation")
    room = len({topic.text for topic in topics}) * config.generation.max_examples_per_topic
    if config.topics.file is not None and room < generated.high:
        lines.append(
            f"the topics file allows {room:,} examples to be tried (topics x generation.max_examples_per_topic),"
            f" and up to {generated.high:,.0f} may be needed: bring more topics, or raise that key"
        )
    for load in loads:
        name = load.endpoint
        _, tpm = limits_of(config.endpoints[name])
        largest = load.prompt.high + (load.max_tokens or load.completion.high)
        if tpm is not None and largest > tpm:
            lines.append(
                f"one {load.stage} request may need {largest:,.0f} tokens, more than endpoints.{name} allows in a"
                f" minute ({tpm:,.0f}): shorten the prompt, or lower max_tokens"
            )
    if config.mode == "preference" and config.preference.samples > 1 and not config.preference.temperature:
        lines.append("preference.samples asks for the same reply again: at temperature 0 they will hardly differ")
    if config.judge is not None and config.judge.samples > 1 and not config.judge.temperature:
        lines.append("judge.samples asks the same question again: at temperature 0 the answers will hardly differ")
    return tuple(lines)
