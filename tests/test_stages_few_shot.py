from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from small_config import small_config

from synth_async.records import DropReason, Example, Message, Task, Topic
from synth_async.stages.few_shot import COPIED_WORDS, CopyCheck, choose_examples, example_text
from synth_async.stages.task_plan import TaskPlan

SHOWN: list[tuple[Message, ...]] = [
    (
        {
            "role": "system",
            "content": "You are the support agent of a shop and you answer in at most four sentences please.",
        },
        {
            "role": "user",
            "content": "my parcel said delivered on monday but nothing was in front of the door when I came home",
        },
        {
            "role": "assistant",
            "content": "Sorry about that. Please look with the neighbours first; I have opened a search.",
        },
    ),
    (
        {"role": "user", "content": "the mug arrived in two pieces"},
        {"role": "assistant", "content": "A new one is on its way and needs no return."},
    ),
]


def _example(user: str, reply: str) -> Example:
    messages: tuple[Message, Message] = ({"role": "user", "content": user}, {"role": "assistant", "content": reply})
    return Example(Task("0" * 32, Topic(0, "t"), 0, messages), messages, "m")


@given(seed=st.integers(0, 99), number=st.integers(0, 10_000), count=st.integers(1, 8), of=st.integers(1, 20))
def test_each_request_shows_different_examples(seed: int, number: int, count: int, of: int) -> None:
    """As many as wished or as there are, none twice, and the same ones when it is planned again."""
    chosen = choose_examples(seed, number, count, of=of)
    assert len(set(chosen)) == len(chosen) == min(count, of)
    assert set(chosen) <= set(range(of))
    assert chosen == choose_examples(seed, number, count, of=of)


def test_all_examples_are_shown_over_time() -> None:
    """No example is left out for long."""
    assert {number for task in range(200) for number in choose_examples(0, task, 2, of=20)} == set(range(20))


def test_an_example_is_shown_without_its_system_message() -> None:
    """The prompt shows the turns; whose instructions they followed says nothing about style."""
    assert (
        example_text(SHOWN[1])
        == "User: the mug arrived in two pieces\nAssistant: A new one is on its way and needs no return."
    )
    assert "four sentences" not in example_text(SHOWN[0])


@given(start=st.integers(0, 4), case=st.booleans())
def test_thirteen_words_in_a_row_are_copied(start: int, case: bool) -> None:  # noqa: FBT001 - drawn
    """Whatever their case and punctuation; twelve are not, as short phrases belong to everybody."""
    words = SHOWN[0][1]["content"].split()
    copied = words[start : start + COPIED_WORDS]
    if case:
        copied = [word.upper() + "," for word in copied]
    check = CopyCheck(SHOWN)
    drop = check.breach(_example("hello there " + " ".join(copied) + " thanks", "fine"))
    assert drop is not None
    assert (drop.reason, drop.detail[:9]) == (DropReason.COPIED_EXAMPLE, "example 1")
    assert check.breach(_example("hello there " + " ".join(copied[:-1]) + " thanks", "fine")) is None


def test_the_system_prompt_is_no_example() -> None:
    """Replies may well repeat instructions that the user's examples carry; a rule of its own watches those."""
    assert CopyCheck(SHOWN).breach(_example("hi", SHOWN[0][0]["content"])) is None


def test_a_plan_shows_examples_and_personas_and_goes_on_where_it_was() -> None:
    """What a task was made of is in it; a plan that is told of earlier tasks goes on as the one that wrote them."""
    config = small_config(examples={"file": "e.jsonl", "per_request": 1}, personas={"file": "p.txt"})
    people = ["a gardener", "a pilot", "a baker"]
    plan, resumed = (TaskPlan(config, "", personas=people, examples=SHOWN) for _ in range(2))
    tasks = [plan.write(Topic(number, f"topic {number}"), 0) for number in range(9)]
    for number in range(3):
        assert sorted(task.facets["persona"] for task in tasks[3 * number : 3 * number + 3]) == sorted(people)
    for task in tasks:
        prompt = task.messages[1]["content"]
        (shown,) = task.shown
        assert example_text(SHOWN[shown]) in prompt
        assert f"Persona: {task.facets['persona']}" in prompt
    for task in tasks[:5]:
        resumed.note(task.topic.category, task.facets)
    assert [resumed.write(task.topic, 0) for task in tasks[5:]] == tasks[5:]


def test_what_is_missing_is_said_to_those_that_can_bring_it() -> None:
    """A targeted task names what the run falls short of; a task that asks for something else does not."""
    plan = TaskPlan(small_config(facets={"tone": ["calm", "angry"]}), "")
    prompts = {}
    for number in range(4):
        task = plan.write(Topic(number, "late parcel"), 0, missing=["angry"])
        prompts[task.facets["tone"]] = task.messages[1]["content"]
    assert "is exactly this: angry" in prompts["angry"]
    assert "exactly this" not in prompts["calm"]
