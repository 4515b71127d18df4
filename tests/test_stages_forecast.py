from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_async.config.models import Config
from synth_async.records import Topic
from synth_async.stages.forecast import BYTES_PER_TOKEN, Forecast, StageForecast, forecast
from synth_async.stages.task_plan import TaskPlan

URL = "http://127.0.0.1:9/v1"


def config(endpoint: dict[str, Any] | None = None, **more: Any) -> Config:
    """A config with one endpoint."""
    base = {"name": "n", "domain": "billing", "system_prompt": "Be kind.", "target": 900}
    return Config.model_validate(base | {"endpoints": {"e": {"base_url": URL, "model": "m"} | (endpoint or {})}} | more)


def found_for(config: Config, context: str, topics: Sequence[Topic]) -> Forecast:
    """The forecast of a config without personas and examples of the user's."""
    return forecast(config, context, topics, TaskPlan(config, context))


def stage(found: Forecast, name: str) -> StageForecast:
    """One stage of a forecast."""
    return next(each for each in found.stages if each.stage == name)


def test_requests_follow_the_target_and_the_yield() -> None:
    """900 accepted at a yield of 90 to 50 % are 1,000 to 1,800 tasks; each accepted one has a verdict."""
    found = found_for(config(), "", ())
    generation, judge = stage(found, "generation").requests, stage(found, "judge").requests
    assert (generation.low, generation.high) == (1000, 1800)
    assert (judge.low, judge.high) == (900, 1800)


def test_stages_that_send_nothing_are_left_out() -> None:
    """No judge and a topics file: only generation is asked."""
    found = found_for(config(judge=None, topics={"file": "t.txt"}), "", [Topic(0, "refund")])
    assert [each.stage for each in found.stages] == ["generation"]


def test_a_context_document_is_counted_in_both_prompts() -> None:
    """4,000 bytes more in the document are 1,000 tokens more in every generation and every judge request."""
    short, long = (found_for(config(), "x" * size, ()) for size in (1000, 5000))
    for name in ("generation", "judge"):
        more = stage(long, name).prompt_tokens.low - stage(short, name).prompt_tokens.low
        assert more == pytest.approx(stage(long, name).requests.low * 4000 / BYTES_PER_TOKEN)


def test_a_price_makes_the_cost_known_and_its_absence_unknown() -> None:
    """Tokens times price per million; without a price the cost is None, not 0."""
    assert found_for(config(), "", ()).cost_usd is None
    found = found_for(config({"price": {"prompt": 1.0, "completion": 3.0}}), "", ())
    tokens = sum(each.prompt_tokens.low + 3 * each.completion_tokens.low for each in found.stages)
    assert found.cost_usd is not None
    assert found.cost_usd.low == pytest.approx(tokens / 1e6)


@given(st.integers(1, 10_000), st.integers(1_000, 10_000_000), st.integers(1, 500), st.integers(1, 100_000))
def test_ranges_are_in_order_and_no_limit_is_exceeded(rpm: int, tpm: int, in_flight: int, target: int) -> None:
    """Every range goes from low to high; the time is at least what each limit asks for."""
    found = found_for(config({"rpm": rpm, "tpm": tpm, "max_in_flight": in_flight}, target=target), "", ())
    (endpoint,) = found.endpoints
    requests = sum(each.requests.low for each in found.stages)
    tokens = sum(each.prompt_tokens.low + each.completion_tokens.low for each in found.stages)
    assert found.time_s.low >= 60 * max(requests / rpm, tokens / tpm) * (1 - 1e-9)
    assert found.time_s.low <= found.time_s.high
    assert endpoint.by_concurrency_s.low <= endpoint.by_concurrency_s.high
    for each in found.stages:
        for numbers in (each.requests, each.prompt_tokens, each.completion_tokens):
            assert 0 <= numbers.low <= numbers.high


def test_reserved_tokens_take_longer_than_used_ones() -> None:
    """A server that charges prompt + max_tokens is forecast so."""
    times = []
    for accounting in ("actual", "reserved"):
        (endpoint,) = found_for(config({"tpm": 1000, "token_accounting": accounting}), "", ()).endpoints
        assert endpoint.by_tpm_s is not None
        times.append(endpoint.by_tpm_s.low)
    assert times[1] > times[0]


def test_too_few_topics_and_too_small_a_limit_are_warned_of() -> None:
    """A topics file that cannot feed the run, and a request that no minute has room for."""
    few = found_for(config(topics={"file": "t.txt"}), "", [Topic(0, "refund"), Topic(1, "refund")])
    assert any("allows 30 examples" in warning for warning in few.warnings)
    small = found_for(config({"tpm": 100}), "", ())
    assert any("more than endpoints.e allows" in warning for warning in small.warnings)
    assert found_for(config(), "", ()).warnings == ()


def test_revision_costs_a_request_and_a_verdict_each() -> None:
    """What is sent back is asked for and judged again; twice as often with `revise: 2`; it says what it assumes."""
    plain, once, twice = (found_for(config(revise=times), "", ()) for times in (0, 1, 2))
    assert [each.stage for each in plain.stages] == ["topics", "generation", "judge"]
    assert [each.stage for each in once.stages] == ["topics", "generation", "revise", "judge"]
    revisions = stage(once, "revise").requests
    assert (revisions.low, revisions.high) == (18, 360)
    assert stage(twice, "revise").requests == revisions.by(2)
    assert stage(once, "judge").requests == stage(plain, "judge").requests + revisions
    assert any("sent back" in line for line in once.assumptions)
    assert stage(once, "revise").prompt_tokens.low > revisions.low * 100


def test_preferences_cost_replies_and_a_verdict_on_each() -> None:
    """Two more replies for each example, and one of the weaker endpoint; scores are asked of all of them."""
    endpoints = {name: {"base_url": URL, "model": name} for name in ("e", "weak")}
    used = {"topics": {"endpoint": "e"}, "generation": {"endpoint": "e"}}
    preference = {"samples": 3, "rejected_endpoint": "weak"}
    for mode in ("score", "pairwise"):
        judge = {"endpoint": "e", "mode": mode}
        chosen = config(mode="preference", endpoints=endpoints, judge=judge, preference=preference, **used)
        found = found_for(chosen, "", ())
        own, weaker = (each for each in found.stages if each.stage == "reply")
        assert (own.endpoint, weaker.endpoint) == ("e", "weak")
        assert own.requests == weaker.requests.by(2)
        judged = weaker.requests
        assert stage(found, "generation").requests.low >= judged.low == 900
        assert stage(found, "judge").requests == (judged.by(4) if mode == "score" else judged)
        if mode == "pairwise":
            compared = stage(found, "compare").requests
            assert (compared.low, compared.high) == (3 * judged.low, 6 * judged.high)
        assert sum(each.endpoint == "weak" for each in found.endpoints) == 1


def test_equal_replies_are_warned_of() -> None:
    """Several replies at temperature 0 would be one reply."""
    cold = found_for(config(mode="preference", preference={"temperature": 0}), "", ())
    assert any("preference.samples" in warning for warning in cold.warnings)
    assert found_for(config(mode="preference"), "", ()).warnings == ()
