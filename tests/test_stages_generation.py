from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from small_config import small_config
from strict_schemas import assert_strict, objects_of

from synth_async.records import Completion, Example, Stage, Task, Topic, Usage
from synth_async.stages.generation import generation_request, is_conversation, plan_task
from synth_async.stages.keys import request_key
from synth_async.stages.parsing import read_example
from synth_async.stages.templates import GENERATION_FORMAT, GENERATION_FORMAT_TURNS

_TOPIC = Topic(0, "the parcel is late", "delivery")


def _key(sample: int = 0, topic: Topic = _TOPIC, facets: dict[str, str] | None = None, **changes: Any) -> str:
    return plan_task(small_config(**changes), "", topic, sample, facets or {"tone": "calm"}).key


def test_keys_differ_by_all_that_is_asked() -> None:
    """Another sample, topic, facet, prompt, system prompt, model, temperature or length is another key."""
    keys = [
        _key(),
        _key(sample=1),
        _key(topic=Topic(0, "the cup is broken")),
        _key(facets={"tone": "angry"}),
        _key(generation={"prompt": "Write about {{ topic }}."}),
        _key(system_prompt="Be brief."),
        _key(endpoint={"model": "other"}),
        _key(endpoint={"extra_body": {"top_p": 0.5}}),
        _key(generation={"temperature": 0.7}),
        _key(generation={"max_tokens": 7}),
        _key(generation={"turns": 2}),
    ]
    assert len(set(keys)) == len(keys)


def test_keys_do_not_differ_by_who_answers_or_how_fast() -> None:
    """Host, key variable, limits, prices, target and the wish for a schema are no part of a key: answers stay valid."""
    changed = {"base_url": "https://elsewhere/v1", "rpm": 5, "max_in_flight": 3, "headers": {"X": "y"}}
    changed |= {"price": {"prompt": 1, "completion": 1}, "api_key_env": "OTHER_KEY", "response_format": "text"}
    assert _key() == _key(endpoint=changed, target=7, seed=9, judge=None)
    assert _key() == _key(topic=Topic(5, _TOPIC.text, "delivery"))


def test_keys_stay_what_they_were() -> None:
    """Answers of earlier runs are found again: the same request has the same key in every version."""
    key = request_key(
        Stage.GENERATE,
        ({"role": "system", "content": "JSON"}, {"role": "user", "content": "late parcel"}),
        system_prompt="Help.",
        model="m",
        temperature=0.8,
        max_tokens=1024,
        response_format="json_object",
        sample=1,
        extra_body={"top_p": 0.5},
        topic="late parcel",
    )
    assert key == "6aa69e5844ff31b6b22874d236e847ea"


def test_a_prompt_without_its_topic_still_gives_each_topic_its_own_key() -> None:
    """Ids have to be unique even where a user's prompt is the same for every topic."""
    generation = {"prompt": "Write anything."}
    topics = [Topic(0, "one"), Topic(1, "two")]
    pairs = itertools.product(topics, (0, 1))
    keys = {_key(topic=topic, sample=sample, generation=generation) for topic, sample in pairs}
    assert len(keys) == 4


def _task(**changes: Any) -> Task:
    return plan_task(small_config(**changes), "No refunds after 30 days.", _TOPIC, 1, {"tone": "calm"})


def test_the_prompt_holds_what_was_planned() -> None:
    """Topic, category, facets, context and variation stand in the prompt; the request asks for JSON."""
    task = _task()
    prompt = task.messages[1]["content"]
    for part in ("Topic: the parcel is late", "Category: delivery", "Tone: calm", "No refunds", "variation 2"):
        assert part in prompt
    request = generation_request(small_config(), task)
    assert (request.key, request.messages, request.response_format) == (task.key, task.messages, "json_object")
    assert not is_conversation(task)


def _schema(turns: int) -> Mapping[str, Any]:
    config = small_config(generation={"turns": turns})
    schema = generation_request(config, plan_task(config, "", _TOPIC, 0, {})).schema
    assert schema is not None
    return schema.schema


@pytest.mark.parametrize(("turns", "prompt"), [(1, GENERATION_FORMAT), (3, GENERATION_FORMAT_TURNS)])
def test_the_schema_asks_for_what_the_prompt_asks_for(turns: int, prompt: str) -> None:
    """Where a server knows no schemas, the words say the same: every key of the schema stands in the prompt."""
    for properties in objects_of(_schema(turns)):
        for name in properties:
            assert f'"{name}":' in prompt


@pytest.mark.parametrize("turns", [1, 3])
def test_an_answer_by_the_schema_is_read(turns: int) -> None:
    """The shape that the schema allows is the one that is read as an example."""
    config = small_config(generation={"turns": turns})
    task = plan_task(config, "", _TOPIC, 0, {})
    answer = {"user_message": "Where is it?", "assistant_response": "On its way."}
    said = [{"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": "On its way."}]
    content = orjson.dumps(answer if turns == 1 else {"messages": said}).decode()
    assert set(_schema(turns)["required"]) == set(orjson.loads(content))
    example = read_example(task, Completion(content, "stop", None, "m", Usage()), turns=turns)
    assert isinstance(example, Example)
    assert list(example.messages) == said


@pytest.mark.parametrize("turns", [1, 3])
def test_schemas_are_strict_ones(turns: int) -> None:
    """OpenAI's rules for `strict`: every key is required, no other is allowed."""
    assert_strict(_schema(turns))


def test_a_task_is_asked_for_in_the_form_that_it_was_planned_in() -> None:
    """After `turns` was changed, tasks of the earlier plan keep the schema of their prompt."""
    planned = plan_task(small_config(generation={"turns": 3}), "", _TOPIC, 0, {})
    schema = generation_request(small_config(), planned).schema
    assert schema is not None
    assert schema.schema == _schema(3)


def test_several_turns_ask_for_messages() -> None:
    """A task knows which form its answer was asked in."""
    assert is_conversation(_task(generation={"turns": 3}))
    assert "3 user turns" in _task(generation={"turns": 3}).messages[1]["content"]
