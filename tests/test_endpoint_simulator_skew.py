"""A simulated model with habits: a favourite tone and theme, placeholders, personal data; and a judge that labels."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import orjson
import pytest
from small_config import small_config

from synth_async.config.models import Config, Filters, Judge, Simulation
from synth_async.endpoint.simulator.answers import answer, draws_for
from synth_async.endpoint.simulator.chat import parse_chat
from synth_async.endpoint.simulator.dialogue import favourite_tone
from synth_async.endpoint.simulator.labelling import labels_of_text
from synth_async.endpoint.simulator.lexicon import lexicon_for
from synth_async.endpoint.simulator.plants import Exchange, with_personal_data, with_placeholder
from synth_async.endpoint.simulator.seeds import write_topics
from synth_async.records import ChatRequest, Completion, Example, Message, Topic, Usage, Verdict
from synth_async.stages.filters import build_filters, first_breach
from synth_async.stages.generation import generation_request, plan_task
from synth_async.stages.judging import judge_request, read_verdict
from synth_async.stages.parsing import read_example
from synth_async.stages.topics import TopicBatch, read_topic_lines, topics_request

_DOMAIN = "customer support for a SaaS billing platform"
_CATEGORIES = {"invoices": 3, "payments": {"share": 4, "categories": {"declined cards": 2, "refunds": 1}}, "account": 2}
_PLAIN = Simulation(weak_share=0, duplicate_share=0)


def _config(**changes: Any) -> Config:
    sections = {"judge": {"labels": ["tone", "category"]}, "topics": {"categories": _CATEGORIES}, **changes}
    return small_config(domain=_DOMAIN, **sections)


def _ask(simulation: Simulation, request: ChatRequest) -> Completion:
    form = {"type": "json_object"} if request.response_format == "json_object" else {"type": "text"}
    body = orjson.dumps({"model": "s", "messages": request.messages, "response_format": form})
    said = answer(parse_chat(body), simulation, draws_for(simulation.seed, body))
    return Completion(said.content, said.finish_reason, said.refusal, "s", Usage())


def _topics(config: Config, category: str, count: int = 20) -> list[str]:
    request = topics_request(config, "", TopicBatch(0, count, category), [])
    return read_topic_lines(_ask(_PLAIN, request).content or "", is_cut=False)


def _example(config: Config, simulation: Simulation, topic: Topic, tone: str) -> Example:
    task = plan_task(config, "", topic, 0, {"tone": tone})
    example = read_example(task, _ask(simulation, generation_request(config, task)), turns=1)
    assert isinstance(example, Example)
    return example


def _labels(config: Config, example: Example) -> dict[str, str]:
    assert config.judge is not None
    verdict = read_verdict(config.judge, _ask(_PLAIN, judge_request(config, config.judge, "", example)))
    assert isinstance(verdict, Verdict)
    return dict(verdict.labels)


# --- labels --------------------------------------------------------------------------------------


def test_the_judge_labels_what_the_text_shows() -> None:
    """Tone and category of good examples are those that were asked for, in nineteen of twenty or more."""
    config = _config()
    right, tones = Counter[str](), list(config.facets["tone"].values)
    total = 0
    for category in config.topics.category_weights:
        for number, topic in enumerate(_topics(config, category)):
            tone = tones[number % len(tones)]
            labels = _labels(config, _example(config, _PLAIN, Topic(number, topic, category), tone))
            right.update({"tone": labels["tone"] == tone, "category": labels["category"] == category})
            total += 1
    assert total > 60
    assert min(right["tone"], right["category"]) >= 0.95 * total


def test_the_labels_are_those_of_another_topic_when_the_text_is() -> None:
    """What was asked for is in no prompt of the judge: a text of another category is labelled as that."""
    config = _config()
    topic = _topics(config, "payments / refunds", 1)[0]
    example = _example(config, _PLAIN, Topic(0, topic, "account"), "formal")
    assert _labels(config, example)["category"] == "payments / refunds"


def test_a_text_that_shows_nothing_still_gets_a_label_of_those_named() -> None:
    """Drawn from the text: over many texts, every value comes."""
    axes = [("tone", ("polite", "formal")), ("mood of the day", ("x1", "x2", "x3"))]
    found = [labels_of_text(axes, f"zz{number}", "") for number in range(60)]
    assert {labels["tone"] for labels in found} == {"polite", "formal"}
    assert {labels["mood of the day"] for labels in found} == {"x1", "x2", "x3"}


# --- habits --------------------------------------------------------------------------------------


def test_a_favourite_tone_is_written_whatever_was_asked() -> None:
    """With a share of 0.4 over six tones, the favourite is five times as likely as any other."""
    config = _config()
    simulation = _PLAIN.model_copy(update={"favourite_share": 0.4, "seed": 3})
    tones = list(config.facets["tone"].values)
    topics = _topics(config, "account", 100)
    seen = Counter(
        _labels(config, _example(config, simulation, Topic(number, topic, "account"), tones[number % 6]))["tone"]
        for number, topic in enumerate(topics * 6)
    )
    assert favourite_tone(3) == "chatty"
    others = [count for tone, count in seen.items() if tone != "chatty"]
    assert seen["chatty"] / seen.total() == pytest.approx(0.5, abs=0.08)
    assert len(others) == 5


def test_a_favourite_theme_takes_its_share_of_topics_that_are_asked_without_a_category() -> None:
    """What the field's first remedy is for; where a category is asked for, every topic names it."""
    stems = lexicon_for(_DOMAIN, "").remedies[0][0]

    def share(**options: Any) -> float:
        topics = write_topics(random.Random(1), 0, 1000, _DOMAIN, **options)
        return sum(any(stem in topic.lower() for stem in stems) for topic in topics) / 1000

    assert share(theme_share=0.5) > share() + 0.35
    named = write_topics(random.Random(1), 0, 50, _DOMAIN, category="payments / late payments", theme_share=1.0)
    assert all("late payments" in topic.lower() for topic in named)


@pytest.mark.parametrize(("plant", "reason"), [(with_placeholder, "placeholder"), (with_personal_data, "pii")])
def test_the_filters_catch_everything_that_is_planted(plant: Any, reason: str) -> None:
    """All of a thousand; the same exchange passes without."""
    config = _config()
    example = _example(config, _PLAIN, Topic(0, "a refund", None), "polite")
    filters = build_filters(Filters())
    assert first_breach(example, filters) is None
    rng, caught = random.Random(7), Counter[str]()
    for _ in range(1000):
        planted = plant(rng, Exchange(example.user, example.assistant))
        turns: tuple[Message, Message] = (
            {"role": "user", "content": planted.user},
            {"role": "assistant", "content": planted.assistant},
        )
        drop = first_breach(Example(example.task, turns, "m"), filters)
        caught[drop.reason.partition(":")[0] if drop else "nothing"] += 1
    assert caught == {reason: 1000}


def test_shares_are_those_that_were_asked_for() -> None:
    """A tenth with a placeholder and a twentieth with personal data, give or take chance."""
    config = _config()
    simulation = Simulation(weak_share=0, duplicate_share=0, placeholder_share=0.1, pii_share=0.05)
    filters = build_filters(Filters())
    seen = Counter[str]()
    for number in range(1500):
        example = _example(config, simulation, Topic(number, f"a refund for order {number}", None), "polite")
        drop = first_breach(example, filters)
        seen[drop.reason if drop else ""] += 1
    assert seen["placeholder"] / 1500 == pytest.approx(0.1, abs=0.03)
    assert sum(count for reason, count in seen.items() if reason.startswith("pii")) / 1500 == pytest.approx(
        0.05, abs=0.02
    )


def test_default_settings_plant_nothing() -> None:
    """The habits are off unless they are asked for."""
    assert (Simulation().favourite_share, Simulation().pii_share, Simulation().placeholder_share) == (0, 0, 0)
    assert Judge().labels == ()
