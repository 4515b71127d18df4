"""The embedded endpoint replies, rewrites and compares by the visible text, better in most cases and not in all."""

from __future__ import annotations

import statistics
from typing import Any

import orjson
import pytest
from small_config import small_config

from synth_async.config.models import Config, Simulation
from synth_async.endpoint.simulator.answers import answer, draws_for
from synth_async.endpoint.simulator.chat import parse_chat
from synth_async.endpoint.simulator.prompts import (
    ComparisonPrompt,
    OtherPrompt,
    ReplyPrompt,
    RevisionPrompt,
    read_prompt,
)
from synth_async.endpoint.simulator.scoring import points_off
from synth_async.records import ChatRequest, Example, Message, Topic, Verdict
from synth_async.stages.generation import plan_task
from synth_async.stages.pairwise import comparison_requests
from synth_async.stages.replies import reply_request
from synth_async.stages.revision import revision_request

_USER = (
    "I am getting really tired of this. Here is the case: refund for a plan that was changed twice. We have two"
    " questions and three situations to clear up. How do I get this fixed today?"
)
_WEAK = "Maybe try again later and see. Perhaps look around in the menu. It depends on a number of things."
_GOOD = (
    "I understand, and I will help with the refund for the plan. First, open Billing and choose the invoice of May 3."
    " Then select Refund and confirm the amount of $49.00. You get a note by email within 2 days."
)


def _config(**changes: Any) -> Config:
    return small_config(**{"domain": "customer support for a SaaS billing product", "mode": "preference", **changes})


def _example(config: Config, reply: str = _WEAK, user: str = _USER) -> Example:
    messages: tuple[Message, Message] = ({"role": "user", "content": user}, {"role": "assistant", "content": reply})
    task = plan_task(config, "", Topic(0, "Refund for a plan that was changed twice"), 0, {"tone": "frustrated"})
    return Example(task, messages, "m")


def _says(request: ChatRequest, number: int = 0, simulation: Simulation | None = None) -> str:
    """What the endpoint answers, in words; `number` makes it another request."""
    chosen = simulation or Simulation()
    form = {"response_format": {"type": "json_object"}} if request.response_format == "json_object" else {}
    body = orjson.dumps({"model": "simulator", "messages": request.messages, "seed": number, **form})
    return answer(parse_chat(body), chosen, draws_for(chosen.seed, body)).content or ""


def _pairs(request: ChatRequest) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in request.messages]


def test_our_own_prompts_are_known_by_their_words() -> None:
    """Whatever counts and questions stand in the conversation, and whatever the system prompt says."""
    config = _config(system_prompt="Score high. Refunds take 1 to 5 days.")
    example = _example(config)
    assert isinstance(read_prompt(_pairs(reply_request(config, "", example, 1, None))), ReplyPrompt)
    revision = revision_request(config, "", example, Verdict({"quality": 2}, 2, "vague wording", "m"))
    found = read_prompt(_pairs(revision))
    assert isinstance(found, RevisionPrompt)
    assert found.turns == (("user", _USER), ("assistant", _WEAK))
    assert ("tone", "frustrated") in found.example.facets
    assert config.judge is not None
    ((request,), _) = comparison_requests(config, config.judge, "", example, _example(config, _GOOD))
    assert read_prompt(_pairs(request)) == ComparisonPrompt(_USER, (_WEAK, _GOOD))
    assert isinstance(read_prompt([("user", "Rewrite the conversation, please")]), OtherPrompt)


def test_replies_are_as_good_and_as_weak_as_the_simulation_says() -> None:
    """With a weak share of 0.4 about that many replies have faults that can be seen; all take up the question."""
    config = _config()
    request = reply_request(config, "", _example(config), 1, None)
    replies = [_says(request, number, Simulation(weak_share=0.4)) for number in range(200)]
    assert len(set(replies)) > 190
    weak = sum(points_off(_USER, reply) >= 1 for reply in replies)
    assert 50 <= weak <= 110
    assert not any(reply.startswith("{") for reply in replies)


def test_a_follow_up_is_replied_to_as_one() -> None:
    """The turns before the last one are seen."""
    config = _config(generation={"turns": 2})
    first = _example(config, _GOOD)
    longer = Example(first.task, (*first.messages, *_example(config, user="And what about the fee?").messages), "m")
    assert len(_says(reply_request(config, "", longer, 1, None)).split()) > 10


def test_a_revision_mends_most_and_not_all() -> None:
    """Of 200 revisions 70 to 90 % have fewer faults than the weak reply, the others are that and a kind word more.

    The question stays as it was.
    """
    config = _config(mode="chat", revise=1)
    request = revision_request(config, "", _example(config), Verdict({"quality": 2}, 2, "vague wording", "m"))
    told = [orjson.loads(_says(request, number)) for number in range(200)]
    assert {each["user_message"] for each in told} == {_USER}
    replies = [each["assistant_response"] for each in told]
    mended = [reply for reply in replies if not reply.startswith(_WEAK)]
    assert 140 <= len(mended) <= 180
    assert all(points_off(_USER, reply) < points_off(_USER, _WEAK) / 2 for reply in mended)


def test_a_revision_writes_a_vague_question_anew() -> None:
    """What left out what matters is asked again, with details, in the tone that was asked for."""
    config = _config(mode="chat", revise=1)
    request = revision_request(config, "", _example(config, user="it broke"), Verdict({"quality": 2}, 2, "thin", "m"))
    lengths = [len(orjson.loads(_says(request, number))["user_message"].split()) for number in range(50)]
    assert statistics.median(lengths) > 10
    assert 2 in lengths


@pytest.mark.parametrize(("one", "other", "winner"), [(_GOOD, _WEAK, "a"), (_WEAK, _GOOD, "b")])
def test_a_difference_that_can_be_seen_is_seen_in_any_order(one: str, other: str, winner: str) -> None:
    """The better text wins wherever it stands."""
    config = _config()
    assert config.judge is not None
    first, second = comparison_requests(config, config.judge, "", _example(config, one), _example(config, other))
    told = [orjson.loads(_says(request))["winner"] for (request,) in (first, second)]
    assert told == [winner, {"a": "b", "b": "a"}[winner]]


def test_between_equals_the_place_decides_now_and_then() -> None:
    """Of two good replies it says tie, or takes the one that is shown first: so both orders have to be asked."""
    config = _config()
    assert config.judge is not None
    told = set()
    for number in range(20):
        other = _example(config, f"{_GOOD} The note has the number {number}.")
        orders = comparison_requests(config, config.judge, "", _example(config, _GOOD), other)
        told.add(tuple(orjson.loads(_says(request))["winner"] for (request,) in orders))
    assert told == {("a", "a"), ("tie", "tie")}
