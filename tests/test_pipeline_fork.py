"""`--fork`: a new folder that takes over what another config still asks in the same words, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest
from scripted_endpoint import (
    Asked,
    Reply,
    config_of,
    dataset_of,
    drive,
    rejects_of,
    scores,
    scripted_endpoint,
    truth_of,
    usual_reply,
    write_config,
)

from synth_async.config import load_config, resolve_endpoint
from synth_async.errors import EndpointRefused, UsageError
from synth_async.pipeline.fork import Forked, fork_run
from synth_async.pipeline.run import Run, RunOptions
from synth_async.store.run_folder import RunFolder

_TONES = ["calm", "cross", "solemn", "pompous"]


def _fork(folder: Path, tree: dict[str, Any], *, new: str = "new", **options: bool) -> tuple[Forked | None, Run]:
    """What `run --fork` does: the fork of `folder/run`, driven to its end."""
    loaded = load_config(write_config(folder, tree))
    target = RunFolder(folder / new)
    forked = fork_run(RunFolder(folder / "run"), target, loaded)
    endpoints = loaded.config.endpoints
    resolved = {name: resolve_endpoint(name, endpoints[name], os.environ) for name in loaded.config.used_endpoints}
    run = Run(loaded, target, resolved, RunOptions(**options))
    anyio.run(run.drive)
    return forked, run


def _bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _ids(folder: Path) -> list[str]:
    return [line["id"] for line in dataset_of(folder)]


def test_a_fork_asks_only_what_does_not_match(tmp_path: Path) -> None:
    """Without one of four tones, examples of the other three are reused in their order, and only the rest is asked."""
    with scripted_endpoint() as endpoint:
        drive(tmp_path, config_of(endpoint, target=40, facets={"tone": _TONES}))
        before, sent = _bytes_of(tmp_path / "run"), endpoint.count()
        changed = config_of(endpoint, target=40, facets={"tone": _TONES[:3]})
        forked, _ = _fork(tmp_path, changed)
        assert forked is not None
        assert _bytes_of(tmp_path / "run") == before
        kept = [line["id"] for line in dataset_of(tmp_path / "run") if line["metadata"]["facets"]["tone"] != "pompous"]
        assert _ids(tmp_path / "new")[: len(kept)] == kept
        assert len(set(_ids(tmp_path / "new"))) == 40
        assert {line["metadata"]["facets"]["tone"] for line in dataset_of(tmp_path / "new")} == set(_TONES[:3])
        asked = endpoint.asked[sent:]
        assert sum(each.kind == "topics" for each in asked) == 0
        assert len(kept) <= forked.verdicts <= forked.answers <= forked.tasks
        assert not {each.name for each in asked} & {each.name for each in endpoint.asked[:sent]}
        assert sum(each.kind == "generate" for each in asked) <= 40 - len(kept) + 6 + 8
        again, sent = truth_of(tmp_path / "new"), endpoint.count()
        assert _fork(tmp_path, changed)[0] is None
        assert truth_of(tmp_path / "new") == again
        assert endpoint.count() == sent


def test_another_temperature_keeps_the_topics_alone(tmp_path: Path) -> None:
    """A parameter that every request has leaves no answer to reuse; the topics were asked in the same words."""
    with scripted_endpoint() as endpoint:
        drive(tmp_path, config_of(endpoint))
        sent = endpoint.count()
        forked, run = _fork(tmp_path, config_of(endpoint, generation={"temperature": 0.2}))
        assert forked is not None
        assert (forked.topics > 0, forked.tasks, forked.answers) == (True, 0, 0)
        assert "topics" not in {asked.kind for asked in endpoint.asked[sent:]}
        assert len(dataset_of(tmp_path / "new")) == 20
        assert run.metrics["asked"] < 20 + 14


def test_categories_of_the_model_go_along_with_their_topics(tmp_path: Path) -> None:
    """Names of categories that were asked for are not asked for again, and the topics stay in theirs."""
    with scripted_endpoint() as endpoint:
        drive(tmp_path, config_of(endpoint, topics={"categories": 2}))
        sent = endpoint.count()
        categories = {line["metadata"]["topic"]: line["metadata"]["category"] for line in dataset_of(tmp_path / "run")}
        assert len(set(categories.values()) - {None}) == 2
        changed = config_of(endpoint, topics={"categories": 2}, generation={"temperature": 0.2})
        _fork(tmp_path, changed)
        assert "topics" not in {asked.kind for asked in endpoint.asked[sent:]}
        for line in dataset_of(tmp_path / "new"):
            topic, category = line["metadata"]["topic"], line["metadata"]["category"]
            assert categories.get(topic, category) == category is not None


def test_other_topics_take_nothing_along(tmp_path: Path) -> None:
    """Where the model is asked for other topics, neither they nor the examples about them are taken over."""
    with scripted_endpoint() as endpoint:
        drive(tmp_path, config_of(endpoint))
        forked, _ = _fork(tmp_path, config_of(endpoint, topics={"temperature": 0.1}))
        assert forked is not None
        assert (forked.topics, forked.tasks, forked.answers, forked.verdicts) == (0, 0, 0, 0)
        assert len(dataset_of(tmp_path / "new")) == 20


def test_a_listed_topic_that_is_still_listed_keeps_its_examples(tmp_path: Path) -> None:
    """A topics file with other lines first and one gone: the examples of the lines that stayed are reused."""
    (tmp_path / "topics.txt").write_text("\n".join(f"case {number}" for number in range(8)), encoding="utf-8")
    with scripted_endpoint() as endpoint:
        tree = config_of(endpoint, target=8, topics={"file": "topics.txt"}, generation={"examples_per_topic": 1})
        drive(tmp_path, tree)
        sent = endpoint.count()
        lines = ["fresh", *(f"case {number}" for number in (7, 6, 5, 4, 3, 2, 0))]
        (tmp_path / "topics.txt").write_text("\n".join(lines), encoding="utf-8")
        forked, _ = _fork(tmp_path, tree)
        assert forked is not None
        assert (forked.topics, forked.tasks, forked.answers, forked.verdicts) == (7, 7, 7, 7)
        assert [asked.kind for asked in endpoint.asked[sent:]] == ["generate", "judge"]
        assert "Topic: fresh\n" in endpoint.asked[sent].text
        topics = {line["metadata"]["topic"] for line in dataset_of(tmp_path / "new")}
        assert topics == set(lines)


def test_a_fork_decides_anew_what_the_lost_ones_decided(tmp_path: Path) -> None:
    """An example that was like one of those left behind is accepted in the fork, offline, without a request."""

    def reply(asked: Asked) -> Reply:
        if asked.kind != "generate":
            return usual_reply(asked)
        same = "solemn" in asked.text or "pompous" in asked.text
        topic = next(line for line in asked.text.splitlines() if line.startswith("Topic: "))
        return Reply(usual_reply(Asked("generate", topic if same else asked.name, "", 1, "text")).content)

    with scripted_endpoint(reply) as endpoint:
        tree = config_of(endpoint, target=30, facets={"tone": _TONES}, topics={"count": 6}, endpoints__max_in_flight=1)
        tree["generation"] = {"examples_per_topic": 20, "max_examples_per_topic": 20}
        drive(tmp_path, tree)
        dropped = {line["id"] for line in rejects_of(tmp_path / "run") if line["reason"] == "exact_duplicate"}
        assert dropped
        sent = endpoint.count()
        kept = [tone for tone in _TONES if tone != _first_of_the_same(tmp_path / "run")]
        forked, _ = _fork(tmp_path, {**tree, "facets": {"tone": kept}}, offline=True)
        assert forked is not None
        assert endpoint.count() == sent
        assert dropped & set(_ids(tmp_path / "new"))


def _first_of_the_same(run_folder: Path) -> str:
    tones: list[str] = [line["metadata"]["facets"]["tone"] for line in dataset_of(run_folder)]
    return next(tone for tone in tones if tone in ("solemn", "pompous"))


def test_refused_for_good_stays_refused_in_a_fork(tmp_path: Path) -> None:
    """A request that the endpoint refused is not asked again because its folder has another name."""

    def reply(asked: Asked) -> Reply:
        if asked.kind == "generate" and int(asked.name[0], 16) < 4:
            return Reply(status=400)
        return usual_reply(asked)

    with scripted_endpoint(reply) as endpoint:
        drive(tmp_path, config_of(endpoint))
        refused = {line["id"] for line in rejects_of(tmp_path / "run") if line["reason"] == "request_rejected"}
        assert refused
        sent = endpoint.count()
        _fork(tmp_path, config_of(endpoint, judge__min_score=3.0))
        assert refused <= {line["id"] for line in rejects_of(tmp_path / "new")}
        assert endpoint.count() == sent


def test_a_fork_of_a_fork_takes_its_verdicts_along(tmp_path: Path) -> None:
    """Another rubric in the fork asks for verdicts only, and a fork of that with the first one has those again."""
    with scripted_endpoint(lambda asked: Reply(scores(5)) if asked.kind == "judge" else usual_reply(asked)) as endpoint:
        drive(tmp_path, config_of(endpoint))
        sent = endpoint.count()
        other = config_of(endpoint, judge={"criteria": {"quality": "Would you send this?"}})
        forked, _ = _fork(tmp_path, other)
        assert forked is not None
        assert forked.verdicts == 0
        assert {asked.kind for asked in endpoint.asked[sent:]} == {"judge"}
        assert _ids(tmp_path / "new") != []


@pytest.mark.parametrize("obstacle", ["other files", "another run", "its own folder", "no run"])
def test_a_folder_that_is_no_place_for_a_fork_is_refused(tmp_path: Path, obstacle: str) -> None:
    """Neither one with other files, nor one with another run, nor the run's own; and there has to be a run to fork."""
    with scripted_endpoint() as endpoint:
        tree = config_of(endpoint, target=2)
        new = "new"
        if obstacle != "no run":
            drive(tmp_path, tree)
        if obstacle == "other files":
            (tmp_path / "new").mkdir()
            (tmp_path / "new" / "notes.txt").write_text("mine")
        elif obstacle == "another run":
            (tmp_path / "run").rename(tmp_path / "new")
            drive(tmp_path, tree)
        elif obstacle == "its own folder":
            new = "run"
        write_config(tmp_path, tree)
        before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
        told = {"no run": "no run to fork", "its own folder": "its own folder"}.get(obstacle, "choose an empty folder")
        with pytest.raises(UsageError, match=told):
            _fork(tmp_path, tree, new=new)
        assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()} == before


def test_a_fork_that_was_killed_half_way_is_begun_again(tmp_path: Path) -> None:
    """What a killed fork left beside its place is no fork: it is thrown away, and the next one is whole."""
    with scripted_endpoint() as endpoint:
        drive(tmp_path, config_of(endpoint))
        scratch = tmp_path / ".new.forking"
        scratch.mkdir()
        whole = (tmp_path / "run" / "journal-000001.log").read_bytes()
        (scratch / "journal-000001.log").write_bytes(whole[: len(whole) // 2])
        _fork(tmp_path, config_of(endpoint, judge__min_score=3.0), offline=True)
        assert not scratch.exists()
        assert _ids(tmp_path / "new") == _ids(tmp_path / "run")


def test_a_torn_journal_is_forked_as_it_stands(tmp_path: Path) -> None:
    """The earlier folder is not even mended: its torn tail stays where it is, and is not taken over."""
    with scripted_endpoint() as endpoint:
        drive(tmp_path, config_of(endpoint))
        with (tmp_path / "run" / "journal-000001.log").open("ab") as journal:
            journal.write(b'00000000 {"k":"')
        before = _bytes_of(tmp_path / "run")
        _fork(tmp_path, config_of(endpoint, judge__min_score=3.0), offline=True)
        assert _bytes_of(tmp_path / "run") == before
        assert _ids(tmp_path / "new") == _ids(tmp_path / "run")


def test_a_fork_can_be_left_and_taken_up(tmp_path: Path) -> None:
    """A fork whose run was stopped is gone on with by the same command, and asks nothing twice."""
    with scripted_endpoint() as endpoint:
        drive(tmp_path, config_of(endpoint))
        changed = config_of(endpoint, generation={"temperature": 0.2})
        endpoint.reply = lambda asked: Reply(status=401) if endpoint.count() > 60 else usual_reply(asked)
        with pytest.raises(EndpointRefused):
            _fork(tmp_path, {**changed, "target": 60})
        endpoint.reply = usual_reply
        _fork(tmp_path, {**changed, "target": 60})
        assert len(set(_ids(tmp_path / "new"))) == 60
        body = (tmp_path / "new" / "journal-000001.log").read_bytes()
        assert orjson.loads(body.splitlines()[1][9:])["t"] == "fork"
