from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from small_config import small_config

from synth_async.config.models import Judge
from synth_async.records import Completion, Drop, Example, Message, Task, Topic, Usage, Verdict
from synth_async.stages.curation import OVER_TARGET, Candidate, Curation, Rejected, Settled
from synth_async.stages.generation import plan_task
from synth_async.stages.judging import low_score
from synth_async.stages.lines import dataset_line, rejects_line
from synth_async.stages.planner import Planner

_USER = "My parcel with the blue lamp has not arrived although it was sent two weeks ago, what now?"
_REPLY = (
    "I am sorry about the wait. Please check the tracking page first; if nothing has moved for five days, tell us your"
    " order number and we send the lamp again at no cost to you."
)


def _task(number: int, **changes: Any) -> Task:
    return plan_task(small_config(**changes), "", Topic(number, f"topic {number}"), 0, {})


def _completion(user: str = _USER, reply: str = _REPLY) -> Completion:
    content = orjson.dumps({"user_message": user, "assistant_response": reply}).decode()
    return Completion(content, "stop", None, "m", Usage())


def _accept(curation: Curation, number: int, completion: Completion) -> Example:
    candidate = curation.examine(_task(number), completion)
    assert isinstance(candidate, Candidate)
    curation.accept(candidate.example, candidate.sketch)
    return candidate.example


def _reason(outcome: Candidate | Rejected) -> tuple[str, str]:
    assert isinstance(outcome, Rejected)
    return str(outcome.drop.stage), str(outcome.drop.reason)


def _planner(*, is_met: bool = False) -> Planner:
    planner = Planner(small_config(target=1))
    if is_met:
        planner.note_decided(_task(99), accepted=True, live=False)
    return planner


def _settled(candidate: Candidate, verdict: Verdict) -> Settled:
    return Settled(candidate, verdict, low_score(Judge(), verdict))


def _verdict(score: float) -> Verdict:
    return Verdict({"helpfulness": score}, score, "why", "m")


def test_each_step_drops_for_its_own_reason() -> None:
    """An unreadable answer, a filter, an exact and a near repeat of what was accepted, in that order, each by name."""
    curation = Curation(small_config())
    kept = _accept(curation, 0, _completion())
    unreadable = curation.examine(_task(1), Completion("no JSON", "stop", None, "m", Usage()))
    assert _reason(unreadable) == ("generate", "not_json")
    assert isinstance(unreadable, Rejected)
    assert unreadable.example is None
    assert _reason(curation.examine(_task(2), _completion(user="Late?"))) == ("filter", "user_words")
    exact = curation.examine(_task(3), _completion())
    assert _reason(exact) == ("screen", "exact_duplicate")
    assert isinstance(exact, Rejected)
    assert exact.example is not None
    assert kept.id in exact.drop.detail
    near = curation.examine(_task(4), _completion(user=_USER.replace("blue", "green")))
    assert _reason(near) == ("screen", "near_duplicate")


def test_only_what_was_accepted_screens_others_out() -> None:
    """A candidate that is not accepted leaves no trace: its like may still get in."""
    curation = Curation(small_config())
    assert isinstance(curation.examine(_task(0), _completion()), Candidate)
    assert isinstance(curation.examine(_task(1), _completion()), Candidate)


def test_a_repeat_of_what_was_accepted_meanwhile_is_dropped_after_the_judge() -> None:
    """Of two that were judged at the same time, the one decided first is kept."""
    curation = Curation(small_config())
    first, second = (curation.examine(_task(number), _completion()) for number in (0, 1))
    assert isinstance(first, Candidate)
    assert isinstance(second, Candidate)
    assert curation.admit(_settled(first, _verdict(5)), _planner()) is None
    curation.accept(first.example, first.sketch)
    drop = curation.admit(_settled(second, _verdict(5)), _planner())
    assert isinstance(drop, Drop)
    assert (drop.stage, drop.reason) == ("dedup", "exact_duplicate")
    low = curation.admit(_settled(second, _verdict(1)), _planner())
    assert isinstance(low, Drop)
    assert low.reason == "low_score"


def test_what_is_good_enough_after_the_target_is_met_is_kept_for_a_higher_one() -> None:
    """Being over the target is the last reason: a weak example or a repeat is never said to be surplus."""
    curation = Curation(small_config())
    first, second = (curation.examine(_task(number), _completion()) for number in (0, 1))
    assert isinstance(first, Candidate)
    assert isinstance(second, Candidate)
    assert curation.admit(_settled(first, _verdict(5)), _planner(is_met=True)) == OVER_TARGET
    weak = curation.admit(_settled(first, _verdict(1)), _planner(is_met=True))
    curation.accept(first.example, first.sketch)
    repeated = curation.admit(_settled(second, _verdict(5)), _planner(is_met=True))
    assert [drop.reason for drop in (weak, repeated) if drop is not None] == ["low_score", "exact_duplicate"]


def test_a_value_with_its_share_waits_for_a_higher_target() -> None:
    """What the judge labels counts, if the config says so; else what was asked for."""
    config = small_config(target=20, facets={"tone": ["calm", "angry"]}, judge={"labels": ["tone"]})
    curation, planner = Curation(config), Planner(config)
    task = plan_task(config, "", Topic(0, "t"), 0, {"tone": "angry"})
    candidate = curation.examine(task, _completion())
    assert isinstance(candidate, Candidate)
    calm, angry = (replace(_verdict(5), labels={"tone": tone}) for tone in ("calm", "angry"))
    for _ in range(10 + 2):
        assert curation.admit(_settled(candidate, calm), planner) is None
        planner.note_decided(task, calm.labels, accepted=True, live=False)
    drop = curation.admit(_settled(candidate, calm), planner)
    assert drop is not None
    assert drop.reason == "over_share"
    assert curation.admit(_settled(candidate, angry), planner) is None
    assert curation.admit(_settled(candidate, _verdict(5)), planner) is None


def test_there_is_room_for_what_would_get_in_were_it_good_enough() -> None:
    """Neither beyond the target nor of a value that has its share: a revision would be paid for in vain."""
    config = small_config(target=20, facets={"tone": ["calm", "angry"]}, judge={"labels": ["tone"]})
    curation, planner = Curation(config), Planner(config)
    task = plan_task(config, "", Topic(0, "t"), 0, {"tone": "angry"})
    candidate = curation.examine(task, _completion())
    assert isinstance(candidate, Candidate)
    calm, angry = (replace(_verdict(1), labels={"tone": tone}) for tone in ("calm", "angry"))
    for _ in range(10 + 2):
        assert curation.has_room_for(candidate, calm, planner)
        planner.note_decided(task, calm.labels, accepted=True, live=False)
    assert not curation.has_room_for(candidate, calm, planner)
    assert curation.has_room_for(candidate, angry, planner)
    assert not curation.has_room_for(candidate, angry, _planner(is_met=True))


def test_a_copy_of_the_users_example_is_dropped() -> None:
    """What the prompt showed may not come back as an answer."""
    shown: tuple[Message, ...] = ({"role": "user", "content": _USER}, {"role": "assistant", "content": "Fine."})
    curation = Curation(small_config(), [shown])
    assert _reason(curation.examine(_task(0), _completion())) == ("filter", "copied_example")
    changed = _USER.replace("two weeks", "a month").replace("blue lamp", "chair")
    assert isinstance(curation.examine(_task(1), _completion(user=changed)), Candidate)


def test_without_dedup_repeats_are_accepted() -> None:
    """`dedup: null` keeps them all, and sketches nothing."""
    curation = Curation(small_config(dedup=None))
    example = _accept(curation, 0, _completion())
    assert curation.sketch(example) is None
    _accept(curation, 1, _completion())


def test_without_a_judge_no_score_is_wanted() -> None:
    """`judge: null` admits what has no verdict."""
    curation = Curation(small_config(judge=None))
    candidate = curation.examine(_task(0), _completion())
    assert isinstance(candidate, Candidate)
    assert curation.admit(Settled(candidate, None), _planner()) is None


@pytest.mark.parametrize(("asked", "now"), [(1, 2), (2, 1), (1, 1), (2, 2)])
def test_an_answer_is_read_in_the_form_in_which_it_was_asked_for(asked: int, now: int) -> None:
    """The form belongs to the task, not to today's config."""
    curation = Curation(small_config(generation={"turns": now}))
    turns = [{"role": "user", "content": _USER}, {"role": "assistant", "content": _REPLY}]
    completion = _completion()
    if asked > 1:
        completion = Completion(orjson.dumps({"messages": turns}).decode(), "stop", None, "m", Usage())
    found = curation.read(_task(0, generation={"turns": asked}), completion)
    assert isinstance(found, Example)
    assert list(found.messages) == turns


_PERSONAL = (
    "My parcel has not arrived, write to jan.kowalski@gmail.com or call 212-736-5093 when you know more, please."
)


def test_redacted_text_is_what_every_later_step_sees() -> None:
    """Filters, the index and the lines get the marks; reading the answer again gives the same example."""
    curation = Curation(small_config(filters={"pii": "redact"}))
    kept = _accept(curation, 0, _completion(user=_PERSONAL))
    assert "write to [EMAIL] or call [PHONE]" in kept.user
    assert curation.read(_task(0), _completion(user=_PERSONAL)) == kept
    other = _PERSONAL.replace("jan.kowalski", "eva.maier").replace("736", "629")
    assert _reason(curation.examine(_task(1), _completion(user=other))) == ("screen", "exact_duplicate")
    line = orjson.loads(dataset_line(small_config(), kept, None))
    assert line["metadata"]["redacted"] == {"email": 1, "phone": 1}
    dropped = orjson.loads(rejects_line(small_config(), kept.task, OVER_TARGET, kept, None))
    assert dropped["metadata"]["redacted"] == {"email": 1, "phone": 1}


def test_personal_data_is_dropped_by_default_and_kept_when_asked() -> None:
    """What is not redacted leaves no trace in the metadata."""
    assert _reason(Curation(small_config()).examine(_task(0), _completion(user=_PERSONAL))) == ("filter", "pii")
    kept = Curation(small_config(filters={"pii": "keep"})).examine(_task(0), _completion(user=_PERSONAL))
    assert isinstance(kept, Candidate)
    assert kept.example.user == _PERSONAL
    assert "redacted" not in orjson.loads(dataset_line(small_config(), kept.example, None))["metadata"]


def test_the_system_prompt_of_the_config_may_not_be_quoted() -> None:
    """The rule against leakage knows what the model was told."""
    prompt = "You sell lamps by mail and answer every question about them in two or three friendly sentences."
    curation = Curation(small_config(system_prompt=prompt))
    assert _reason(curation.examine(_task(0), _completion(reply=f"{_REPLY} {prompt}"))) == ("filter", "leakage")
