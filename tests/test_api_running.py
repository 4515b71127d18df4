"""`synth_async.run` and `synth_async.generate`, against a server on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scripted_endpoint import (
    Asked,
    Reply,
    ScriptedEndpoint,
    config_of,
    dataset_of,
    names_in_journal,
    scores,
    scripted_endpoint,
    truth_of,
    usual_reply,
    write_config,
)

import synth_async
from synth_async.api.running import ConfigLike
from synth_async.config import load_config
from synth_async.errors import ConfigError, RunLocked, StoppedEarly, UsageError
from synth_async.store.run_folder import RunFolder, RunLock

pytestmark = pytest.mark.anyio


@pytest.fixture
def server() -> Iterator[ScriptedEndpoint]:
    """A server that gives the usual replies."""
    with scripted_endpoint() as endpoint:
        yield endpoint


def has_an_even_id(example: synth_async.DatasetLine) -> str | None:
    """A filter of the user's own."""
    return None if int(example["id"], 16) % 2 else "even"


async def ids_of(config: ConfigLike, out: Path) -> list[str]:
    """The ids that `generate` yields."""
    return [example["id"] async for example in synth_async.generate(config, out)]


def ids_in(out: Path) -> list[str]:
    """The ids in the dataset file."""
    return [line["id"] for line in dataset_of(out)]


# --- run -----------------------------------------------------------------------------------------


async def test_a_run_gives_its_target(server: ScriptedEndpoint, tmp_path: Path) -> None:
    """The result names the folder, its counts are those of metrics.json, its examples are those of the file."""
    told: list[synth_async.Snapshot] = []
    result = await synth_async.run(config_of(server), tmp_path / "run", on_progress=told.append)
    assert (result.folder, result.accepted, result.metrics["accepted"]) == (tmp_path / "run", 20, 20)
    assert list(result.examples()) == dataset_of(tmp_path / "run")
    assert told[-1].tally.accepted == 20


async def test_every_form_of_a_config_is_the_same_run(server: ScriptedEndpoint, tmp_path: Path) -> None:
    """A path, the same keys as a mapping, and a checked config go on with each other's folder."""
    tree = config_of(server, filters={"profanity": {"words": ["b", "a"]}}, topics={"categories": {"x": 1, "y": 2}})
    path = write_config(tmp_path, tree)
    await synth_async.run(tree, tmp_path / "run")
    before, asked = truth_of(tmp_path / "run"), server.count()
    forms: list[ConfigLike] = [path, str(path), load_config(path).config, tree]
    for form in forms:
        assert (await synth_async.run(form, tmp_path / "run")).accepted == 20
    assert truth_of(tmp_path / "run") == before
    assert server.count() == asked


async def test_the_folder_is_the_one_of_the_command_line(
    server: ScriptedEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `out` it is runs/<name> under the working folder."""
    monkeypatch.chdir(tmp_path)
    result = await synth_async.run(config_of(server, target=1))
    assert result.folder == Path("runs/scripted")
    assert len(ids_in(tmp_path / "runs" / "scripted")) == 1


async def test_mistakes_of_a_mapping_come_all_at_once(server: ScriptedEndpoint, tmp_path: Path) -> None:
    """Nothing is made or sent before they are mended."""
    with pytest.raises(ConfigError) as caught:
        await synth_async.run({**config_of(server), "target": 0, "tagret": 1}, tmp_path / "run")
    assert sorted(problem.key for problem in caught.value.problems) == ["tagret", "target"]
    assert str(caught.value).startswith("config: ")
    assert not (tmp_path / "run").exists()


async def test_a_missing_key_is_told_before_anything_is_sent(
    server: ScriptedEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys come from the variables that the config names."""
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(UsageError, match="the variable NO_SUCH_KEY is not set"):
        await synth_async.run(config_of(server, endpoints__api_key_env="NO_SUCH_KEY"), tmp_path / "run")
    assert server.count() == 0


async def test_what_stops_a_run_is_raised_for_itself(server: ScriptedEndpoint, tmp_path: Path) -> None:
    """A run out of topics ends in StoppedEarly and leaves a folder to go on with."""
    tree = config_of(server, generation={"examples_per_topic": 1, "max_examples_per_topic": 1})
    with pytest.raises(StoppedEarly, match="3 of 20 examples accepted"):
        await synth_async.run(tree, tmp_path / "run", topics=["one thing", "another", "a third"])
    more = {**tree, "generation": {"examples_per_topic": 1, "max_examples_per_topic": 9}}
    result = await synth_async.run(more, tmp_path / "run", topics=["one thing", "another", "a third"])
    assert result.accepted == 20


async def test_an_error_of_a_listener_is_raised_for_itself(server: ScriptedEndpoint, tmp_path: Path) -> None:
    """The caller's own error comes out of the call, and not an error of a group."""

    def refuse(_snapshot: synth_async.Snapshot) -> None:
        raise ZeroDivisionError("the listener's own")

    with pytest.raises(ExceptionGroup) as caught:
        await synth_async.run(config_of(server), tmp_path / "run", on_progress=refuse)
    assert caught.group_contains(ZeroDivisionError)


def test_another_event_loop_is_refused(server: ScriptedEndpoint, tmp_path: Path) -> None:
    """Outside asyncio the error says what to do."""
    never = synth_async.run(config_of(server), tmp_path / "run")
    with pytest.raises(UsageError, match="asyncio's event loop only"):
        never.send(None)


# --- the caller's own functions and topics -------------------------------------------------------


async def test_a_function_filters_under_its_name(server: ScriptedEndpoint, tmp_path: Path) -> None:
    """What it says drops an example; a config that names the function goes on with the same folder."""
    tree = config_of(server)
    result = await synth_async.run(tree, tmp_path / "run", filters=[has_an_even_id])
    assert all(int(each, 16) % 2 for each in ids_in(tmp_path / "run"))
    assert result.metrics["rejected"]["has_an_even_id"] > 0
    before, asked = truth_of(tmp_path / "run"), server.count()
    named = {**tree, "filters": {"custom": [f"{__name__}:has_an_even_id"]}}
    await synth_async.run(named, tmp_path / "run")
    assert truth_of(tmp_path / "run") == before
    assert server.count() == asked


async def test_a_filter_can_be_added_to_a_finished_run(server: ScriptedEndpoint, tmp_path: Path) -> None:
    """Offline it decides again from the journal, and sends nothing."""
    await synth_async.run(config_of(server), tmp_path / "run")
    before, asked = ids_in(tmp_path / "run"), server.count()
    options = synth_async.RunOptions(offline=True)
    result = await synth_async.run(config_of(server), tmp_path / "run", filters=[has_an_even_id], options=options)
    assert server.count() == asked
    assert set(before) >= {each for each in before if int(each, 16) % 2}
    assert result.accepted >= sum(int(each, 16) % 2 for each in before)
    assert all(int(each, 16) % 2 for each in ids_in(tmp_path / "run"))


def nested() -> Callable[[Any], None]:
    """A function that no name leads to."""
    return lambda _: None


@pytest.mark.parametrize("unnamed", [nested(), [].append], ids=["lambda", "method"])
async def test_a_function_without_a_name_is_refused(
    server: ScriptedEndpoint, tmp_path: Path, unnamed: Callable[[Any], None]
) -> None:
    """What cannot be found again by its name could not be told from another when the run goes on."""
    with pytest.raises(UsageError, match="define it with def at the top of a module"):
        await synth_async.run(config_of(server), tmp_path / "run", filters=[unnamed])
    assert not (tmp_path / "run").exists()


async def test_topics_may_be_any_texts(server: ScriptedEndpoint, tmp_path: Path) -> None:
    """No model is asked for topics; the folder keeps those that were given, and goes on with them."""
    topics = ["a late parcel", 'a "quoted" one: with, signs', "ein Übermaß"]
    await synth_async.run(config_of(server), tmp_path / "run", topics=iter(topics))
    assert server.count("topics") == 0
    before, kept = truth_of(tmp_path / "run"), tmp_path / "run" / "topics.jsonl"
    file = kept.stat().st_ino
    await synth_async.run(config_of(server), tmp_path / "run", topics=topics)
    assert kept.stat().st_ino == file
    await synth_async.run(config_of(server, topics={"file": str(kept)}), tmp_path / "run")
    assert {line["metadata"]["topic"] for line in dataset_of(tmp_path / "run")} == set(topics)
    assert truth_of(tmp_path / "run") == before


async def test_topics_come_from_one_place(server: ScriptedEndpoint, tmp_path: Path) -> None:
    """A config with a file of topics is not overruled in silence."""
    (tmp_path / "topics.txt").write_text("one\n")
    tree = config_of(server, topics={"file": str(tmp_path / "topics.txt")})
    with pytest.raises(UsageError, match="leave out one"):
        await synth_async.run(tree, tmp_path / "run", topics=["two"])


async def test_no_topics_at_all_are_a_mistake(server: ScriptedEndpoint, tmp_path: Path) -> None:
    """An empty iterable is told as an empty file is."""
    with pytest.raises(ConfigError, match="is empty"):
        await synth_async.run(config_of(server), tmp_path / "run", topics=[])


# --- generate ------------------------------------------------------------------------------------


async def test_examples_come_in_the_order_of_the_file(server: ScriptedEndpoint, tmp_path: Path) -> None:
    """Each once and whole; a finished run yields the same again and sends nothing."""
    found = [example async for example in synth_async.generate(config_of(server), tmp_path / "run")]
    asked = server.count()
    again = [example async for example in synth_async.generate(config_of(server), tmp_path / "run")]
    assert found == again == dataset_of(tmp_path / "run")
    assert len(found) == 20
    assert server.count() == asked


async def test_what_was_accepted_before_comes_first(server: ScriptedEndpoint, tmp_path: Path) -> None:
    """A higher target yields the earlier examples, then the new ones."""
    earlier = await ids_of(config_of(server, target=7), tmp_path / "run")
    later = await ids_of(config_of(server), tmp_path / "run")
    assert later[:7] == earlier
    assert later == ids_in(tmp_path / "run")


async def test_what_a_change_takes_out_is_not_yielded(server: ScriptedEndpoint, tmp_path: Path) -> None:
    """The file of an earlier config is not read before it has been brought in line with this one."""

    def reply(asked: Asked) -> Reply:
        return Reply(scores(3 + int(asked.name, 16) % 3)) if asked.kind == "judge" else usual_reply(asked)

    server.reply = reply
    await ids_of(config_of(server, judge__min_score=3.0), tmp_path / "run")
    found = [each async for each in synth_async.generate(config_of(server, judge__min_score=5.0), tmp_path / "run")]
    assert [example["metadata"]["score"] for example in found] == [5.0] * 20
    assert found == dataset_of(tmp_path / "run")


async def test_a_slow_reader_does_not_hold_the_run_up(server: ScriptedEndpoint, tmp_path: Path) -> None:
    """The run meets its target while the first example is looked at; the others are read from the file."""
    is_met = asyncio.Event()

    def look(snapshot: synth_async.Snapshot) -> None:
        if snapshot.tally.accepted == 20:
            is_met.set()

    found = []
    async for example in synth_async.generate(config_of(server), tmp_path / "run", on_progress=look):
        await is_met.wait()
        found.append(example["id"])
    assert found == ids_in(tmp_path / "run")


async def take_all(examples: AsyncIterator[synth_async.DatasetLine], found: list[str]) -> None:
    """Put the ids into `found`, however the loop ends."""
    async for example in examples:
        found.append(example["id"])  # noqa: PERF401 - what came before an error is kept


async def test_an_error_comes_after_every_example(server: ScriptedEndpoint, tmp_path: Path) -> None:
    """A run that stops early yields all that was accepted first."""
    found: list[str] = []
    tree = config_of(server, generation={"examples_per_topic": 1, "max_examples_per_topic": 1})
    with pytest.raises(StoppedEarly):
        await take_all(synth_async.generate(tree, tmp_path / "run", topics=["one thing", "another"]), found)
    assert found == ids_in(tmp_path / "run")
    assert len(found) == 2


async def test_a_folder_of_another_process_yields_nothing(server: ScriptedEndpoint, tmp_path: Path) -> None:
    """What another process is writing is not read as ours."""
    found: list[str] = []
    await ids_of(config_of(server), tmp_path / "run")
    with RunLock(RunFolder(tmp_path / "run").lock), pytest.raises(RunLocked):
        await take_all(synth_async.generate(config_of(server), tmp_path / "run"), found)
    assert found == []


async def test_leaving_the_loop_stops_the_run(server: ScriptedEndpoint, tmp_path: Path) -> None:
    """On closing, what is in flight is let finish into the journal; the next call yields what was not read, too."""
    # Slow enough that the first examples are seen long before the last one is there.
    server.reply = lambda asked: replace(usual_reply(asked), delay_s=0.2)
    tree = config_of(server, target=60)
    async with aclosing(synth_async.generate(tree, tmp_path / "run")) as examples:
        async for _ in examples:
            break
    server.reply = usual_reply
    assert {name for name, _ in server.answered} <= names_in_journal(tmp_path / "run")
    before, asked = ids_in(tmp_path / "run"), server.count()
    assert 0 < len(before) < 60
    assert (await ids_of(tree, tmp_path / "run"))[: len(before)] == before
    assert not server.paid_since(asked) & {one.name for one in server.asked[:asked]}
