from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from questions import Says, answered, completion
from small_config import small_config

from synth_async.config.models import Config
from synth_async.records import ChatRequest, Example, Message, Stage, Topic
from synth_async.stages.course import Course
from synth_async.stages.curation import Candidate, Curation, Settled
from synth_async.stages.generation import plan_task
from synth_async.stages.questions import Question
from synth_async.stages.replies import reply_request

_USER = "My parcel with the blue lamp has not arrived although it was sent two weeks ago, what now?"
_ENDPOINTS = {
    name: {"base_url": "http://localhost/v1", "model": model} for name, model in (("main", "m"), ("weak", "w"))
}
_USED = {"topics": {"endpoint": "main"}, "generation": {"endpoint": "main"}}


def _reply(name: str) -> str:
    return f"Reply {name}: please look at the tracking page first, and tell us on Friday whether the lamp has come."


def _config(*, weaker: bool = False, mode: str = "score", **preference: Any) -> Config:
    judge = {"criteria": ["quality"], "mode": mode, "endpoint": "main"}
    chosen = preference | ({"rejected_endpoint": "weak"} if weaker else {})
    return small_config(mode="preference", endpoints=_ENDPOINTS, judge=judge, preference=chosen, **_USED)


def _candidate(config: Config) -> Candidate:
    messages: tuple[Message, Message] = (
        {"role": "user", "content": _USER},
        {"role": "assistant", "content": _reply("first")},
    )
    return Candidate(Example(plan_task(config, "", Topic(0, "a late parcel"), 0, {}), messages, "m"), None)


def _settle(config: Config, says: Says) -> tuple[Settled, list[Question]]:
    assert config.judge is not None
    course = Course(config, config.judge, "", Curation(config))
    return answered(course.questions(_candidate(config)), says)


def _named(text: str) -> list[str]:
    return re.findall(r"Reply (\w+):", text)


def _says(scores: Mapping[str, float], *names: str | None) -> Says:
    """Further replies by their names in turn (None: the request is refused), and the score of each reply."""
    replies = iter(names)

    def says(request: ChatRequest) -> str | None:
        if request.stage is Stage.REPLY:
            name = next(replies)
            return None if name is None else _reply(name)
        (name,) = _named(request.messages[1]["content"])
        return orjson.dumps({"scores": {"quality": scores[name]}, "reason": f"because of {name}"}).decode()

    return says


def _pair(settled: Settled) -> tuple[str, str]:
    """Names of the chosen and the rejected reply."""
    assert settled.drop is None
    preference = settled.candidate.example.preference
    assert preference is not None
    return _named(settled.candidate.example.assistant)[0], _named(preference.reply)[0]


def _reason(settled: Settled) -> str:
    assert settled.drop is not None
    assert settled.candidate.example.preference is None
    return str(settled.drop.reason)


def test_the_best_reply_is_chosen_and_the_worst_rejected() -> None:
    """Of three replies the highest score and the lowest; keys, scores, reasons and the margin of both are kept."""
    settled, put = _settle(_config(), _says({"first": 4, "second": 5, "third": 2}, "second", "third"))
    assert _pair(settled) == ("second", "third")
    assert [str(question.request.stage) for question in put] == ["reply"] * 2 + ["judge"] * 3
    preference = settled.candidate.example.preference
    assert preference is not None
    assert (preference.chosen_key, preference.rejected_key) == (put[0].request.key, put[1].request.key)
    assert preference.margin == 3
    assert (preference.verdict and preference.verdict.reason, settled.verdict and settled.verdict.reason) == (
        "because of third",
        "because of second",
    )


def test_both_sides_answer_the_same_prompt() -> None:
    """The user's turns are those of the first example on either side, and each reply is asked for with just them."""
    settled, put = _settle(_config(), _says({"first": 2, "second": 5, "third": 5}, "second", "third"))
    assert settled.candidate.example.messages[:-1] == _candidate(_config()).example.messages[:-1]
    for question in put[:2]:
        system, *turns = question.request.messages
        assert system["content"].startswith("Help.")
        assert turns == list(_candidate(_config()).example.messages[:-1])
        assert question.request.response_format == "text"
    assert put[0].request.key != put[1].request.key


@pytest.mark.parametrize(("lowest", "is_pair"), [(4.0, True), (4.25, False), (1, True)])
def test_the_margin_itself_is_enough(lowest: float, *, is_pair: bool) -> None:
    """With margin 1 below 5, 4 is rejected and 4.25 is not: then nothing is, and the example is dropped."""
    settled, _ = _settle(_config(margin=1), _says({"first": 5, "second": 5, "third": lowest}, "second", "third"))
    assert (settled.drop is None) is is_pair
    if not is_pair:
        assert _reason(settled) == "no_margin"
        assert settled.drop is not None
        assert settled.drop.detail == "no reply is 1 below 5"


def test_the_chosen_reply_has_to_be_good_enough() -> None:
    """A margin between two bad replies makes no example: the best one's score says why, the line is the first reply."""
    settled, _ = _settle(_config(), _says({"first": 1, "second": 3.5, "third": 1}, "second", "third"))
    assert _reason(settled) == "low_score"
    assert settled.drop is not None
    assert settled.drop.detail == "3.5 < 4: because of second"
    assert _named(settled.candidate.example.assistant) == ["first"]
    assert settled.verdict is not None
    assert settled.verdict.score == 1


def test_the_weaker_endpoint_can_only_be_rejected() -> None:
    """Its reply is asked of it by name, and is not chosen although it is the best."""
    config = _config(weaker=True, samples=1)
    settled, put = _settle(config, _says({"first": 5, "weak": 2}, "weak"))
    assert _pair(settled) == ("first", "weak")
    assert [question.request.endpoint for question in put if question.request.stage is Stage.REPLY] == ["weak"]
    settled, _ = _settle(config, _says({"first": 4, "weak": 5}, "weak"))
    assert _reason(settled) == "no_margin"
    settled, _ = _settle(config, _says({"first": 2, "weak": 5}, "weak"))
    assert _reason(settled) == "low_score"


def test_replies_of_two_endpoints_with_one_model_are_told_apart() -> None:
    """The weaker one may serve the same model with other settings of its own: its reply has a key of its own."""
    config = _config(weaker=True, samples=2)
    alike = config.model_copy(update={"endpoints": dict.fromkeys(config.endpoints, config.endpoints["main"])})
    example = _candidate(alike).example
    keys = {reply_request(alike, "", example, 1, endpoint).key for endpoint in (None, "weak")}
    assert len(keys) == 2


def test_a_reply_of_no_use_is_one_reply_less() -> None:
    """Refused, empty, caught by a filter or said before: the others go on without it, and it is not judged."""
    for useless in (None, "first"):
        settled, put = _settle(_config(), _says({"first": 5, "third": 3}, useless, "third"))
        assert _pair(settled) == ("first", "third")
        assert sum(question.request.stage is Stage.JUDGE for question in put) == 2

    def short(request: ChatRequest) -> str:
        return "Ok." if request.stage is Stage.REPLY else "{}"

    settled, put = _settle(_config(), short)
    assert _reason(settled) == "no_margin"
    assert [str(question.request.stage) for question in put] == ["reply", "reply"]


def test_a_reply_without_a_verdict_is_passed_over() -> None:
    """Two malformed verdicts on one reply leave the others; when none of the own replies has one, that is the drop."""

    def says(request: ChatRequest) -> str:
        if request.stage is Stage.REPLY:
            return _reply("second")
        is_second = _named(request.messages[1]["content"]) == ["second"]
        return "no verdict" if is_second else '{"scores": {"quality": 5}, "reason": ""}'

    settled, put = _settle(_config(samples=2), says)
    assert _reason(settled) == "no_margin"
    assert len(put) == 1 + 1 + 2
    settled, _ = _settle(_config(samples=2), lambda request: _reply("second") if request.stage is Stage.REPLY else "?")
    assert _reason(settled) == "no_verdict"


def test_redaction_counts_the_marks_of_prompt_and_reply() -> None:
    """What was redacted in the first reply is not counted for another one; the user's side is."""
    config = small_config(mode="preference", filters={"pii": "redact"}, judge={"criteria": ["quality"]})
    task = plan_task(config, "", Topic(0, "a late parcel"), 0, {})
    first: tuple[Message, Message] = (
        {"role": "user", "content": f"{_USER} Write to [EMAIL]."},
        {"role": "assistant", "content": "We wrote to [EMAIL] and called [PHONE]."},
    )
    example = Example(task, first, "m", {"email": 2, "phone": 1})
    body = Example(task, first, "m").assistant.replace("[EMAIL]", "mary.poe@brightmail.net").replace("[PHONE]", "you")
    found = Curation(config).read_reply(example, completion(f"{body} Also to john@brightmail.net.", model="other"))
    assert isinstance(found, Example)
    assert found.assistant == "We wrote to [EMAIL] and called you. Also to [EMAIL]."
    assert (found.redacted, found.model) == ({"email": 3}, "other")


# --- by comparison -------------------------------------------------------------------------------


def _compares(order: str, *names: str, score: float = 5) -> Says:
    """The better of two replies is the one that comes first in `order`, shown first or second."""
    replies = iter(names)

    def says(request: ChatRequest) -> str:
        if request.stage is Stage.REPLY:
            return _reply(next(replies))
        text = request.messages[1]["content"]
        if text.startswith("Score"):
            return orjson.dumps({"scores": {"quality": score}, "reason": "good"}).decode()
        one, two = _named(text)
        return orjson.dumps({"winner": "a" if order.index(one) < order.index(two) else "b"}).decode()

    return says


def test_the_winner_of_all_comparisons_is_chosen_and_scored_alone() -> None:
    """Each reply meets the best so far in both orders; the first that lost to the winner is rejected."""
    config = _config(mode="pairwise")
    settled, put = _settle(config, _compares("second first third", "second", "third"))
    assert _pair(settled) == ("second", "first")
    judged = [question.request.messages[1]["content"].split(" ")[0] for question in put[2:]]
    assert judged == ["Compare"] * 4 + ["Score"]
    preference = settled.candidate.example.preference
    assert preference is not None
    assert (preference.verdict, preference.margin) == (None, None)


def test_the_winner_has_to_be_good_enough() -> None:
    """The best of bad replies is dropped by its score."""
    settled, _ = _settle(_config(mode="pairwise"), _compares("second first third", "second", "third", score=2))
    assert _reason(settled) == "low_score"


def test_a_weaker_reply_that_wins_is_no_winner() -> None:
    """It can lose, and then is rejected; where it wins nothing has lost to the other."""
    config = _config(mode="pairwise", weaker=True, samples=1)
    settled, _ = _settle(config, _compares("first weak", "weak"))
    assert _pair(settled) == ("first", "weak")
    settled, put = _settle(config, _compares("weak first", "weak"))
    assert _reason(settled) == "no_margin"
    assert not any(question.request.messages[1]["content"].startswith("Score") for question in put)


def test_ties_are_no_margin() -> None:
    """A judge that always prefers what it is shown first has said nothing."""

    def says(request: ChatRequest) -> str:
        return _reply("second") if request.stage is Stage.REPLY else '{"winner": "a"}'

    settled, put = _settle(_config(mode="pairwise", samples=2), says)
    assert _reason(settled) == "no_margin"
    assert settled.drop is not None
    assert settled.drop.detail == "no reply is better than another in both orders"
    assert len(put) == 1 + 2
