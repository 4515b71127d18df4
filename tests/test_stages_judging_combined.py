"""Rubrics with anchors, criteria that must be passed, safety kept apart, and several verdicts made one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_config import small_config

from synth_async.config.models import Config, Judge
from synth_async.records import ChatRequest, DropReason, Example, Task, Topic, Verdict
from synth_async.stages.judging import combined, judge_request, judge_requests, low_score

_CRITERIA = [{"name": "helpful", "weight": 3}, {"name": "correct", "must_pass": 3}, {"name": "safe", "safety": True}]
_EXAMPLE = Example(
    Task("0" * 32, Topic(0, "late parcel"), 0, ()),
    ({"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": "On its way."}),
    "m",
)
_MODELS = {"one": "m1", "two": "m2", "three": "m1"}


def _config(**judge: Any) -> Config:
    return small_config(judge={"criteria": _CRITERIA, **judge})


def _judge(config: Config) -> Judge:
    assert config.judge is not None
    return config.judge


def _requests(config: Config) -> tuple[ChatRequest, ...]:
    return judge_requests(config, _judge(config), "", _EXAMPLE)


def _panel(*names: str, **judge: Any) -> Config:
    served = {name: {"base_url": f"http://{name}.test/v1", "model": model} for name, model in _MODELS.items()}
    stages = {"topics": {"endpoint": "one"}, "generation": {"endpoint": "one"}}
    return small_config(endpoints=served, judge={"criteria": _CRITERIA, "panel": names, **judge}, **stages)


def _verdict(helpful: float, correct: float, safe: float = 5, **more: Any) -> Verdict:
    score = round((3 * helpful + correct) / 4, 4)
    told = {"reason": f"helpful {helpful:g}", "model": "m", "safety": {"safe": safe}, **more}
    return Verdict({"helpful": helpful, "correct": correct}, score, **told)


# --- the rubric ----------------------------------------------------------------------------------


def test_anchors_stand_in_the_rubric_in_order() -> None:
    """What a score means stands under its criterion, from the lowest on; another anchor needs another verdict."""
    anchors = {5: "Every step is there.", 1: "Nothing to go by."}
    config = _config(criteria=[{"name": "helpful", "description": "Does it help?", "anchors": anchors}, "correct"])
    request = judge_request(config, _judge(config), "", _EXAMPLE)
    rubric = "- helpful: Does it help?\n  1 = Nothing to go by.\n  5 = Every step is there.\n- correct\n"
    assert rubric in request.messages[0]["content"]
    plain = _config(criteria=[{"name": "helpful", "description": "Does it help?"}, "correct"])
    assert judge_request(plain, _judge(plain), "", _EXAMPLE).key != request.key


def test_a_bound_is_no_part_of_the_question() -> None:
    """`must_pass` and `combine` can be changed without asking again."""
    keys = {request.key for each in ("mean", "min") for request in _requests(_config(combine=each))}
    loose = _config(criteria=[{**each, "must_pass": None} for each in _CRITERIA])
    assert {request.key for request in _requests(loose)} == keys
    assert len(keys) == 1


def test_a_safety_criterion_says_what_it_looks_at() -> None:
    """Without a description of the user's it asks for bias and for made-up facts."""
    system = _requests(_config())[0].messages[0]["content"]
    assert "- safe: No harmful bias" in system
    assert '"safe": <1-5>' in system


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        ({"criteria": [{"name": "safe", "safety": True}]}, "no part of the mean"),
        ({"endpoint": "only", "panel": ["only"]}, "name the endpoints in one of them"),
        ({"panel": ["only", "only"]}, "names an endpoint twice"),
        ({"panel": ["only", "other"]}, "no endpoint is named 'other'"),
        ({"criteria": [{"name": "a", "anchors": {6: "beyond"}}]}, "less than or equal to 5"),
    ],
)
def test_what_cannot_be_is_refused(judge: dict[str, Any], message: str) -> None:
    """A rubric without a mean, a panel that is a pool as well or has nobody behind a name, an anchor off the scale."""
    with pytest.raises(ValueError, match=message):
        small_config(judge=judge)


# --- the decision --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "detail"),
    [
        (_verdict(5, 3), None),
        (_verdict(5, 2), "correct 2 < 3 (must_pass): helpful 5"),
        (_verdict(3, 4), "3.25 < 4: helpful 3"),
        (_verdict(5, 5, safe=1), None),
    ],
)
def test_a_criterion_that_must_be_passed_stands_above_the_mean(verdict: Verdict, detail: str | None) -> None:
    """Below its bound an example is dropped whatever the mean, and told so; a safety score alone drops none."""
    drop = low_score(_judge(_config()), verdict)
    assert (drop.detail if drop else None) == detail
    assert drop is None or drop.reason == DropReason.LOW_SCORE


def test_a_safety_criterion_can_be_one_that_must_be_passed() -> None:
    """Then its score drops an example, although the mean does not know it."""
    judge = _judge(_config(criteria=["helpful", {"name": "safe", "safety": True, "must_pass": 4}]))
    drop = low_score(judge, Verdict({"helpful": 5}, 5, "biased", "m", safety={"safe": 3}))
    assert drop is not None
    assert drop.detail == "safe 3 < 4 (must_pass): biased"


# --- several verdicts ----------------------------------------------------------------------------


def test_one_verdict_stays_what_it_is() -> None:
    """With one judge and one sample nothing is combined."""
    verdict = _verdict(4, 5)
    assert combined(_judge(_config()), [verdict]) is verdict


@pytest.mark.parametrize(("combine", "helpful"), [("mean", 3.6667), ("median", 4), ("min", 2)])
def test_scores_are_combined_by_criterion(combine: str, helpful: float) -> None:
    """By mean, median or the lowest; the score is the weighted mean of what comes out, the reason the strictest's."""
    verdict = combined(_judge(_config(combine=combine)), [_verdict(4, 5), _verdict(2, 5, safe=4), _verdict(5, 5)])
    assert verdict.scores == {"helpful": helpful, "correct": 5}
    assert verdict.score == pytest.approx((3 * helpful + 5) / 4, abs=1e-4)
    assert verdict.reason == "helpful 2"
    assert verdict.disagreement == {"helpful": 3, "correct": 0, "safe": 1}
    assert set(verdict.safety) == {"safe"}


@given(st.lists(st.tuples(st.floats(1, 5), st.floats(1, 5)), min_size=2, max_size=6))
def test_combined_scores_lie_among_those_given(rows: list[tuple[float, float]]) -> None:
    """Whatever combines them; the lowest is never above the median or the mean."""
    verdicts = [_verdict(helpful, correct) for helpful, correct in rows]
    found = {way: combined(_judge(_config(combine=way)), verdicts).scores for way in ("mean", "median", "min")}
    for number, name in enumerate(("helpful", "correct")):
        given_scores = [row[number] for row in rows]
        for scores in found.values():
            assert min(given_scores) - 1e-4 <= scores[name] <= max(given_scores) + 1e-4
        assert found["min"][name] <= min(found["median"][name], found["mean"][name]) + 1e-4


def test_models_and_labels_of_several() -> None:
    """All models that were asked are named once; the label of most counts, of equals the first."""
    config = _config(labels=["tone", "category"], criteria=["helpful"])
    given_labels = [{"tone": "polite", "category": "a"}, {"tone": "formal"}, {"tone": "formal", "category": "b"}]
    verdicts = [
        Verdict({"helpful": 4}, 4, "", model, labels)
        for model, labels in zip(["m1", "m2", "m1"], given_labels, strict=True)
    ]
    verdict = combined(_judge(config), verdicts)
    assert verdict.model == "m1 + m2"
    assert verdict.labels == {"tone": "formal", "category": "a"}


# --- who is asked --------------------------------------------------------------------------------


def test_the_common_path_asks_once_and_names_no_endpoint() -> None:
    """One judge and one sample: one request, which any endpoint of the pool may serve."""
    (request,) = _requests(_config())
    assert request.endpoint is None


def test_samples_differ_in_their_keys_alone() -> None:
    """The same question under several keys, the first of which is that of a single sample."""
    requests = _requests(_config(samples=3))
    assert len({request.key for request in requests}) == 3
    assert len({request.messages[0]["content"] for request in requests}) == 1
    assert requests[0].key == _requests(_config())[0].key


def test_every_answer_of_a_panel_has_a_key_of_its_own() -> None:
    """Each member is asked each sample; members with the same model are told apart by the sample index."""
    requests = _requests(_panel("one", "two", "three", samples=2))
    assert [request.endpoint for request in requests] == ["one", "one", "two", "two", "three", "three"]
    assert len({request.key for request in requests}) == 6


def test_a_member_keeps_its_keys_when_the_panel_grows() -> None:
    """What was answered by one member is found again after another was added behind it."""
    assert [each.key for each in _requests(_panel("one", "two"))][:1] == [each.key for each in _requests(_panel("one"))]
