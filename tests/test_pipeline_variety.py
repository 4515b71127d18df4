"""Categories, shares, personas and the user's examples in whole runs, against an endpoint that the test controls."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import orjson
import pytest
from scripted_endpoint import (
    Asked,
    Reply,
    ScriptedEndpoint,
    config_of,
    dataset_of,
    drive,
    good_example,
    rejects_of,
    scripted_endpoint,
    truth_of,
    usual_reply,
    words,
)

from synth_async.errors import ConfigError, StoppedEarly

CATEGORIES = {"billing": 3, "refunds": 1}


def _category(asked: Asked) -> str:
    found = re.search(r"belongs to the category: (.*)\.$", asked.text, re.MULTILINE)
    return found[1] if found else ""


def _assert_again_changes_nothing(folder: Path, tree: dict[str, object], endpoint: ScriptedEndpoint) -> None:
    before, sent = truth_of(folder / "run"), endpoint.count()
    drive(folder, tree)
    assert truth_of(folder / "run") == before
    assert endpoint.count() == sent


def test_categories_get_their_shares(tmp_path: Path) -> None:
    """Topics are asked for by category, and the accepted examples are divided as the config says."""
    with scripted_endpoint() as endpoint:
        tree = config_of(endpoint, target=80, topics={"categories": CATEGORIES, "count": 40})
        run = drive(tmp_path, tree)
        assert {_category(asked) for asked in endpoint.asked if asked.kind == "topics"} == set(CATEGORIES)
        counts = Counter(line["metadata"]["category"] for line in dataset_of(tmp_path / "run"))
        assert counts == pytest.approx({"billing": 60, "refunds": 20}, abs=2)
        assert run.metrics["coverage"]["category"]["billing"]["wished"] == 0.75
        _assert_again_changes_nothing(tmp_path, tree, endpoint)


def test_a_category_that_is_judged_worse_gets_more_tasks(tmp_path: Path) -> None:
    """What falls short of its share is asked for more often until it has it."""

    def reply(asked: Asked) -> Reply:
        if asked.kind == "generate" and "\nCategory: refunds\n" in asked.text and int(asked.name[:2], 16) < 192:
            return Reply("I cannot put that into JSON.")
        return usual_reply(asked)

    with scripted_endpoint(reply) as endpoint:
        drive(tmp_path, config_of(endpoint, target=80, topics={"categories": {"billing": 1, "refunds": 1}}))
        counts = Counter(line["metadata"]["category"] for line in dataset_of(tmp_path / "run"))
        assert counts == pytest.approx({"billing": 40, "refunds": 40}, abs=2)
        asked = Counter("\nCategory: refunds\n" in each.text for each in endpoint.asked if each.kind == "generate")
        assert asked[True] > 2 * asked[False]


def test_the_model_names_the_categories(tmp_path: Path) -> None:
    """A number asks for so many names once; a run that is taken up has them from its journal."""

    def reply(asked: Asked) -> Reply:
        if asked.kind == "topics" and "categories that together cover" in asked.text:
            return Reply("1. Parcels\n2. Returns\n3. Accounts\n4. Too many")
        return usual_reply(asked)

    with scripted_endpoint(reply) as endpoint:
        tree = config_of(endpoint, target=30, topics={"categories": 3})
        drive(tmp_path, tree)
        counts = Counter(line["metadata"]["category"] for line in dataset_of(tmp_path / "run"))
        assert counts == pytest.approx({"Parcels": 10, "Returns": 10, "Accounts": 10}, abs=2)
        drive(tmp_path, {**tree, "target": 60})
        counts = Counter(line["metadata"]["category"] for line in dataset_of(tmp_path / "run"))
        assert counts == pytest.approx({"Parcels": 20, "Returns": 20, "Accounts": 20}, abs=2)
        assert sum("categories that together cover" in asked.text for asked in endpoint.asked) == 1


def test_topics_grow_out_of_others_when_no_new_ones_come(tmp_path: Path) -> None:
    """With `evolve` a model that has nothing new to say is shown its own topics and asked to go on from them."""

    def reply(asked: Asked) -> Reply:
        if asked.kind != "topics":
            return usual_reply(asked)
        if "Take the topics below" not in asked.text:
            return Reply("the parcel is late\nthe cup is broken")
        assert "the parcel is late" in asked.text
        return Reply("\n".join(words(f"{asked.name}{asked.time}/{line}", 8) for line in range(5)))

    generation = {"examples_per_topic": 1, "max_examples_per_topic": 1}
    with scripted_endpoint(reply) as endpoint:
        tree = config_of(endpoint, target=12, topics={"evolve": True, "batch_size": 5}, generation=generation)
        drive(tmp_path, tree)
        assert len({line["metadata"]["topic"] for line in dataset_of(tmp_path / "run")}) == 12
        _assert_again_changes_nothing(tmp_path, tree, endpoint)


def test_a_planned_batch_of_topics_is_asked_for_in_the_same_words(tmp_path: Path) -> None:
    """A batch whose request found no answer is planned in the journal: the next process asks for that, and no other."""
    with scripted_endpoint(lambda _: Reply(status=422)) as endpoint:
        tree = config_of(endpoint, target=9, topics={"categories": CATEGORIES, "batch_size": 5})
        with pytest.raises(StoppedEarly, match="no more topics to write about"):
            drive(tmp_path, tree)
        unanswered = set(endpoint.names("topics"))
        endpoint.reply = usual_reply
        before = endpoint.count()
        drive(tmp_path, tree)
        assert unanswered <= {asked.name for asked in endpoint.asked[before:]}
        assert len(dataset_of(tmp_path / "run")) == 9


def _labelled(tone: str) -> str:
    return orjson.dumps({"scores": {"quality": 5}, "labels": {"tone": tone}, "reason": "seen"}).decode()


def test_what_the_judge_sees_is_what_counts(tmp_path: Path) -> None:
    """Labels stand in the lines, are held to the shares, and come out of the journal again with the same decisions."""

    def reply(asked: Asked) -> Reply:
        return (
            Reply(_labelled("calm" if int(asked.name[:2], 16) < 192 else "angry"))
            if asked.kind == "judge"
            else (usual_reply(asked))
        )

    with scripted_endpoint(reply) as endpoint:
        tree = config_of(
            endpoint, target=40, facets={"tone": ["calm", "angry"]}, judge={"criteria": ["quality"], "labels": ["tone"]}
        )
        run = drive(tmp_path, tree)
        counts = Counter(line["metadata"]["observed"]["tone"] for line in dataset_of(tmp_path / "run"))
        assert counts == pytest.approx({"calm": 20, "angry": 20}, abs=2)
        waiting = [line for line in rejects_of(tmp_path / "run") if line["reason"] == "over_share"]
        assert len(waiting) == run.metrics["rejected"]["over_share"] > 0
        _assert_again_changes_nothing(tmp_path, tree, endpoint)
        sent = endpoint.count("judge")
        drive(tmp_path, {**tree, "coverage": None, "target": 40 + len(waiting)}, offline=True)
        assert endpoint.count("judge") == sent
        assert {line["id"] for line in waiting} <= {line["id"] for line in dataset_of(tmp_path / "run")}


def test_examples_are_shown_and_not_copied(tmp_path: Path) -> None:
    """Each request shows the configured number of the user's examples; an answer that repeats one is dropped."""
    shown = [(words(f"{number}q", 20), words(f"{number}r", 20)) for number in range(4)]
    rows = [{"prompt": asked, "completion": said} for asked, said in shown]
    (tmp_path / "examples.jsonl").write_bytes(b"\n".join(orjson.dumps(row) for row in rows))

    def reply(asked: Asked) -> Reply:
        if asked.kind == "generate" and int(asked.name[:2], 16) < 64:
            example = orjson.loads(good_example(asked.name))
            return Reply(orjson.dumps({**example, "user_message": shown[0][0]}).decode())
        return usual_reply(asked)

    with scripted_endpoint(reply) as endpoint:
        tree = config_of(endpoint, target=20, examples={"file": "examples.jsonl", "per_request": 2})
        drive(tmp_path, tree)
        for asked in endpoint.asked:
            if asked.kind == "generate":
                assert sum(question in asked.text for question, _ in shown) == 2
        assert "copied_example" in {line["reason"] for line in rejects_of(tmp_path / "run")}
        assert not any(shown[0][0] in line["messages"][1]["content"] for line in dataset_of(tmp_path / "run"))
        _assert_again_changes_nothing(tmp_path, tree, endpoint)


def test_an_example_that_is_none_is_named_by_its_line(tmp_path: Path) -> None:
    """Nothing is sent for a file of examples that cannot all be read."""
    (tmp_path / "examples.jsonl").write_text('{"prompt": "a", "completion": "b"}\n\n{"question": "c"}\n', "utf-8")
    with scripted_endpoint() as endpoint:
        with pytest.raises(ConfigError, match=r"examples\.jsonl:3: none of messages, conversations"):
            drive(tmp_path, config_of(endpoint, examples={"file": "examples.jsonl"}))
        assert endpoint.count() == 0


def test_personas_are_used_in_turn(tmp_path: Path) -> None:
    """Each person of the file writes as often as the others, and stands in the line."""
    (tmp_path / "people.txt").write_text("a gardener\na pilot\na baker\n", encoding="utf-8")
    with scripted_endpoint() as endpoint:
        drive(tmp_path, config_of(endpoint, target=30, personas={"file": "people.txt"}))
        counts = Counter(line["metadata"]["facets"]["persona"] for line in dataset_of(tmp_path / "run"))
        assert counts == pytest.approx({"a gardener": 10, "a pilot": 10, "a baker": 10}, abs=1)
