"""Endpoints whose exchanges workers carry out: one run, one set of limits, one folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest
from crew import Crew, tick
from scripted_endpoint import good_example, words

from synth_async.config import LoadedConfig, ResolvedEndpoint, load_config
from synth_async.config.models import Endpoint as EndpointConfig
from synth_async.config.secrets import Secret
from synth_async.distributed.endpoint import RemoteEndpoint, remote_endpoints
from synth_async.endpoint.client import ChatClient
from synth_async.endpoint.service import Endpoint
from synth_async.errors import EndpointRefused, RateLimited, SynthAsyncError
from synth_async.pipeline.run import Run
from synth_async.records import ChatRequest, Stage
from synth_async.store.frames import read_frame
from synth_async.store.journal import open_journal
from synth_async.store.run_folder import RunFolder
from synth_async.testing import Delayed, ScriptedClient, Step, chat_body, run_in_virtual_time

_MINUTE_S = 60.0


def _request(number: int, attempt: int = 1) -> ChatRequest:
    key = f"{number * 0x9E3779B97F4A7C15 % 2**128:032x}"
    return ChatRequest(
        key, Stage.GENERATE, ({"role": "user", "content": str(number)},), None, 100, "text", None, None, attempt
    )


def _settings(**more: Any) -> EndpointConfig:
    return EndpointConfig(model="m", base_url="http://127.0.0.1:1/v1", **more)


@asynccontextmanager
async def _endpoint(
    settings: EndpointConfig, client: Callable[[int], ChatClient], folder: Path | None, size: int = 2
) -> AsyncIterator[tuple[Endpoint, Crew]]:
    async with anyio.create_task_group() as group:
        crew = Crew(group, client, folder)
        fleet = crew.fleet(size)
        await fleet.start()
        group.start_soon(fleet.run)
        group.start_soon(tick)
        yield RemoteEndpoint("e", settings, fleet, give_up_after_s=3600), crew
        group.cancel_scope.cancel()


def _unwanted(_: bytes) -> None:
    raise AssertionError("the worker has journaled it")


def test_an_answer_stands_in_the_workers_journal_as_the_driver_would_have_written_it(tmp_path: Path) -> None:
    """Key, kind, attempt, endpoint and body; the driver keeps nothing itself."""

    async def main() -> None:
        client = ScriptedClient(lambda _: chat_body("an answer"))
        async with _endpoint(_settings(), lambda _: client, tmp_path) as (endpoint, _):
            completion = await endpoint.ask(_request(1, attempt=2), _unwanted)
        assert completion.content == "an answer"

    run_in_virtual_time(main)
    frames = [
        read_frame(line) for _, _, kind, line in open_journal(tmp_path, read_only=True).scan() if kind != "header"
    ]
    assert [(frame.key, frame.kind, frame.fields, frame.body) for frame in frames] == [
        (_request(1).key, "answer-generate", {"attempt": 2, "endpoint": "e"}, chat_body("an answer"))
    ]


def test_without_the_folder_the_driver_keeps_each_answer_itself() -> None:
    """Before anything looks at it, as in a run in one process."""
    kept: list[bytes] = []

    async def main() -> None:
        client = ScriptedClient(lambda _: chat_body("an answer"))
        async with _endpoint(_settings(), lambda _: client, None) as (endpoint, _):
            await endpoint.ask(_request(1), kept.append)

    run_in_virtual_time(main)
    assert kept == [chat_body("an answer")]


async def _ask_for(endpoint: Endpoint, seconds: float, askers: int = 64) -> None:
    """Ask without pause for so long."""
    numbers = iter(range(10**6))

    async def ask() -> None:
        while True:
            await endpoint.ask(_request(next(numbers)), _unwanted)

    with anyio.move_on_after(seconds):
        async with anyio.create_task_group() as group:
            for _ in range(askers):
                group.start_soon(ask)


def test_the_limits_are_those_of_all_workers_together(tmp_path: Path) -> None:
    """Of 1,200 requests a minute, three workers send 95 % and more together, and never more than the limit."""
    sent: list[float] = []

    def step(_: object) -> Step:
        sent.append(anyio.current_time())
        return Delayed(chat_body("an answer"), 0.7)

    async def main() -> None:
        client = ScriptedClient(step)
        async with _endpoint(_settings(rpm=1200), lambda _: client, tmp_path, 3) as (endpoint, crew):
            await _ask_for(endpoint, 120)
            assert all(sum(worker.blocks) > 500 for worker in crew.workers)

    run_in_virtual_time(main)
    per_minute = [sum(start <= at < start + _MINUTE_S for at in sent) for start in range(60)]
    assert max(per_minute) <= 1200 + 1
    assert min(per_minute) >= 0.95 * 1200


def test_a_refusal_of_one_worker_is_a_pause_for_all(tmp_path: Path) -> None:
    """A 429 with a hint of ten seconds: nobody is sent to before they are over."""
    sent: list[float] = []

    def step(_: object) -> Step:
        sent.append(anyio.current_time())
        return RateLimited("slow down", hint_s=10) if len(sent) == 200 else Delayed(chat_body("an answer"), 0.5)

    async def main() -> None:
        client = ScriptedClient(step)
        async with _endpoint(_settings(rpm=1200), lambda _: client, tmp_path) as (endpoint, _):
            await _ask_for(endpoint, 40)

    run_in_virtual_time(main)
    refused_at = sent[199]
    # What had left the driver when the refusal came in is on its way.
    assert not [at for at in sent if refused_at + 0.1 < at < refused_at + 10]
    assert [at for at in sent if at > refused_at + 10]


def test_a_lost_worker_is_nobodys_failed_attempt(tmp_path: Path) -> None:
    """Ten workers die one after the other over the same request: it is asked again each time, and never given up."""
    asked: list[str] = []

    def client(_: int) -> ChatClient:
        def step(body: dict[str, Any]) -> Step:
            asked.append(body["messages"][0]["content"])
            return Delayed(chat_body("an answer"), 5.0)

        return ScriptedClient(step)

    async def main() -> None:
        async with _endpoint(_settings(), client, tmp_path, 1) as (endpoint, crew):

            async def kill_again_and_again() -> None:
                for number in range(10):
                    await crew.until_asked(number)
                    crew.workers[number].kill()

            await endpoint.ask(_request(0), _unwanted)  # it is there: what fails from here on could be its fault
            async with anyio.create_task_group() as group:
                group.start_soon(kill_again_and_again)
                group.start_soon(endpoint.ask, _request(1), _unwanted)
            assert endpoint.counts.answered == 2
            assert set(endpoint.counts.failures) == {"worker_lost"}

    run_in_virtual_time(main)
    held = [key for _, key, kind, _ in open_journal(tmp_path).scan() if kind != "header"]
    assert len(held) == len(set(held)) == 2
    assert len(asked) == 12


# --- a whole run ---------------------------------------------------------------------------------


def _loaded(folder: Path, **more: Any) -> LoadedConfig:
    tree = {
        "name": "remote",
        "domain": "a shop",
        "system_prompt": "You help customers of a shop.",
        "target": 40,
        "fsync": "never",
        "endpoints": {"e": {"base_url": "http://127.0.0.1:1/v1", "model": "m", "max_in_flight": 8}},
        "judge": None,
        **more,
    }
    path = folder / "config.yaml"
    path.write_bytes(orjson.dumps(tree))
    return load_config(path)


def _drive(folder: Path, loaded: LoadedConfig, client: ChatClient, *, size: int = 2) -> Run:
    """A run, driven to its end, whose workers live in this process."""
    endpoint = loaded.config.endpoints["e"]
    resolved = {"e": ResolvedEndpoint("e", str(endpoint.base_url), Secret("none"), endpoint)}
    run = Run(loaded, RunFolder(folder / "run"), resolved)
    stopped_by: list[SynthAsyncError] = []

    async def main() -> None:
        async with anyio.create_task_group() as group:
            crew = Crew(group, lambda _: client, folder / "run")
            run.connect = lambda config, found: remote_endpoints(
                config, crew.fleet(size), {name: each.found.settings for name, each in found.items()}
            )
            try:
                await run.drive()
            except SynthAsyncError as error:
                stopped_by.append(error)
            assert all(worker.is_closed for worker in crew.workers)

    run_in_virtual_time(main)
    if stopped_by:
        raise stopped_by[0]
    return run


def _writer(body: dict[str, Any]) -> Step:
    text = orjson.dumps(body["messages"]).decode()
    if len(body["messages"]) == 1:
        return Delayed(chat_body("\n".join(words(f"{text}{line}", 8) for line in range(25))), 0.1)
    return Delayed(chat_body(good_example(text)), 0.1)


def test_a_run_with_workers_leaves_a_folder_like_any_other(tmp_path: Path) -> None:
    """Its target to the line; taken up in one process it sends nothing, and changes no byte."""
    loaded = _loaded(tmp_path)
    client = ScriptedClient(_writer)
    _drive(tmp_path, loaded, client)
    folder = tmp_path / "run"
    assert len((folder / "dataset.jsonl").read_bytes().splitlines()) == 40
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "run.lock"}
    assert sum(name.startswith("journal-") for name in before) == 3

    again = ScriptedClient([])
    _drive(tmp_path, loaded, again)
    assert again.bodies == []
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "run.lock"} == before


def test_a_higher_target_goes_on_from_the_workers_answers(tmp_path: Path) -> None:
    """Another number of workers takes the folder up: nothing that any of the first ones journaled is asked again."""
    client = ScriptedClient(_writer)
    _drive(tmp_path, _loaded(tmp_path), client, size=3)
    asked = [orjson.dumps(body["messages"]) for body in client.bodies if len(body["messages"]) > 1]
    more = ScriptedClient(_writer)
    _drive(tmp_path, _loaded(tmp_path, target=90), more, size=1)
    assert len((tmp_path / "run" / "dataset.jsonl").read_bytes().splitlines()) == 90
    assert not set(asked) & {orjson.dumps(body["messages"]) for body in more.bodies}


def test_a_budget_counts_the_workers_answers_over_processes(tmp_path: Path) -> None:
    """Each answer closes its lease although another process journaled it: what was spent is what was answered."""
    loaded = _loaded(tmp_path, budget={"requests": 1000})
    spent = _drive(tmp_path, loaded, ScriptedClient(_writer)).metrics["budget"]["requests"]["spent"]
    client = ScriptedClient(_writer)
    later = _drive(tmp_path, _loaded(tmp_path, budget={"requests": 1000}, target=60), client)
    assert later.metrics["budget"]["requests"]["spent"] == spent + len(client.bodies)


def test_what_stops_a_run_with_workers_is_raised_for_itself(tmp_path: Path) -> None:
    """No group around it, so that the exit code is the one of a run in one process."""
    client = ScriptedClient(lambda _: EndpointRefused("no such key"))
    with pytest.raises(EndpointRefused, match="no such key"):
        _drive(tmp_path, _loaded(tmp_path), client)
