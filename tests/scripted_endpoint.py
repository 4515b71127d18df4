"""A chat endpoint on loopback whose answers a test controls, and a run driven against it.

It serves from a thread of its own, so that both a run in this process and one in a subprocess can be pointed at it.
What it says is a function of the request: the same body gets the same answer. It writes down every request; a body is
named by its hash, the judge's nonce left out, and the name stands as `id` in the answer, so that a
journal shows what it holds.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import anyio
import orjson
from aiohttp import web

from synth_async.config import load_config, resolve_endpoint
from synth_async.pipeline.run import Run, RunOptions
from synth_async.store.run_folder import RunFolder

Kind = Literal["topics", "generate", "judge", "revise", "reply", "compare"]
_NONCE = re.compile(rb"(EXAMPLE )[0-9a-f]{16}")
_ANSWER_ID = re.compile(rb'"id":"chatcmpl-([0-9a-f]{32})"')
_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprst" for vowel in "aeiou"]


@dataclass(frozen=True)
class Asked:
    """A request: its kind, the name of its body, the text that was sent last, and which time it was asked (from 1).

    `response_format` is the type that was asked for, `text` where there was none; `model` the one that was named.
    """

    kind: Kind
    name: str
    text: str
    time: int
    response_format: str
    model: str = "scripted"


@dataclass(frozen=True)
class Reply:
    """What to answer: content in a completion, or a bare status, or any body; or no answer at all."""

    content: str = ""
    status: int = 200
    fault: Literal["", "hang", "reset"] = ""
    delay_s: float = 0.0
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def words(seed: str, number: int) -> str:
    """`number` invented words, the same for the same seed."""
    chance = random.Random(seed)
    return " ".join("".join(chance.choices(_SYLLABLES, k=3)) for _ in range(number))


def good_example(seed: str) -> str:
    """An example that passes every filter and is like no other."""
    return orjson.dumps(
        {"user_message": f"{words(seed + 'u', 25)}?", "assistant_response": f"{words(seed + 'a', 40)}."}
    ).decode()


def scores(value: object) -> str:
    """A verdict with one score for the one criterion of `config_of`."""
    return orjson.dumps({"scores": {"quality": value}, "reason": "as scripted"}).decode()


def choice(winner: object) -> str:
    """A verdict on two replies."""
    return orjson.dumps({"winner": winner, "reason": "as scripted"}).decode()


def usual_reply(asked: Asked) -> Reply:
    """25 new topics, a good example (also as a revision), another reply, a score of 5, a tie."""
    if asked.kind == "topics":
        # Batches that are told nothing yet differ in nothing but their number, which a server does not see.
        return Reply("\n".join(words(f"{asked.name}{asked.time}/{line}", 8) for line in range(25)))
    if asked.kind == "reply":
        return Reply(f"{words(asked.name + 'a', 40)}.")
    if asked.kind == "compare":
        return Reply(choice("tie"))
    return Reply(scores(5) if asked.kind == "judge" else good_example(asked.name))


@dataclass
class ScriptedEndpoint:
    """What was asked of the server, and what it answers."""

    reply: Callable[[Asked], Reply] = usual_reply
    asked: list[Asked] = field(default_factory=list)
    answered: list[tuple[str, float]] = field(default_factory=list)
    """(name, monotonic time) of every whole completion that was made: what a real server would have charged for."""
    most_in_flight: int = 0
    peers: set[tuple[str, int]] = field(default_factory=set)
    """Addresses that requests came from: one for each connection."""
    base_url: str = ""
    on_request: Callable[[Asked], None] = lambda _: None
    _in_flight: int = 0
    _times: Counter[str] = field(default_factory=Counter)

    def count(self, kind: Kind | None = None) -> int:
        """Requests so far, of one kind or of all."""
        return len(self.asked) if kind is None else sum(asked.kind == kind for asked in self.asked)

    def paid_since(self, count: int) -> set[str]:
        """Names of the examples and verdicts that were asked for after the first `count` requests."""
        return {asked.name for asked in self.asked[count:] if asked.kind != "topics"}

    def names(self, kind: Kind) -> list[str]:
        """Names of the bodies that were asked, in order."""
        return [asked.name for asked in self.asked if asked.kind == kind]

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Write a request down and answer it."""
        if request.transport is not None:
            self.peers.add(request.transport.get_extra_info("peername"))
        raw = await request.read()
        body = orjson.loads(raw)
        name = hashlib.md5(_NONCE.sub(rb"\1", raw), usedforsecurity=False).hexdigest()
        self._times[name] += 1
        kind, text = _kind(body["messages"]), body["messages"][-1]["content"]
        wanted = body.get("response_format", {"type": "text"})["type"]
        asked = Asked(kind, name, text, self._times[name], wanted, body["model"])
        self.asked.append(asked)
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            self.on_request(asked)
            return await self._answer(request, asked)
        finally:
            self._in_flight -= 1

    async def _answer(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        reply = self.reply(asked)
        await asyncio.sleep(reply.delay_s)
        if reply.fault == "hang":
            await asyncio.Event().wait()
        if reply.fault == "reset" and request.transport is not None:
            request.transport.abort()
        if reply.body is not None:
            return web.Response(body=reply.body, status=reply.status, headers=reply.headers)
        if reply.status != 200:
            return web.json_response({"error": {"message": "scripted"}}, status=reply.status)
        if not reply.fault:
            self.answered.append((asked.name, time.monotonic()))
        completion = {
            "id": f"chatcmpl-{asked.name}",
            "model": asked.model,
            "choices": [{"message": {"role": "assistant", "content": reply.content}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5},
        }
        return web.Response(body=orjson.dumps(completion), content_type="application/json")


def _kind(messages: list[dict[str, str]]) -> Kind:
    if len(messages) == 1:
        return "topics"
    if "Reply to the user's last message" in messages[0]["content"]:
        return "reply"
    asked = messages[1]["content"]
    if "Rewrite the conversation below" in asked:
        return "revise"
    if asked.startswith("Compare the two replies"):
        return "compare"
    return "judge" if asked.startswith("Score the example") else "generate"


@contextmanager
def scripted_endpoint(reply: Callable[[Asked], Reply] = usual_reply) -> Iterator[ScriptedEndpoint]:
    """A server on a free port of loopback, in a thread; it is gone on leaving."""
    endpoint = ScriptedEndpoint(reply)
    loop = asyncio.new_event_loop()
    app = web.Application(client_max_size=1 << 24)
    app.router.add_post("/v1/chat/completions", endpoint.serve)
    runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)

    async def listen() -> None:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        endpoint.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"

    loop.run_until_complete(listen())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield endpoint
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def config_of(endpoint: ScriptedEndpoint, **changes: Any) -> dict[str, Any]:
    """A small config against the server; `changes` replace whole sections, `endpoints__max_in_flight=...` one key."""
    tree: dict[str, Any] = {
        "name": "scripted",
        "domain": "a shop",
        "system_prompt": "You help customers of a shop.",
        "target": 20,
        "fsync": "never",
        "endpoints": {"only": {"base_url": endpoint.base_url, "model": "scripted", "max_in_flight": 6}},
        "judge": {"criteria": ["quality"]},
    }
    for name, value in changes.items():
        section, _, key = name.partition("__")
        if not key:
            tree[section] = value
        elif section == "endpoints":
            tree["endpoints"]["only"][key] = value
        else:
            tree[section] = {**(tree.get(section) or {}), key: value}
    return tree


def write_config(folder: Path, tree: dict[str, Any]) -> Path:
    """The config as a file; JSON is YAML."""
    path = folder / "config.yaml"
    path.write_bytes(orjson.dumps(tree))
    return path


def prepared_run(folder: Path, tree: dict[str, Any], **options: bool) -> Run:
    """A run in `folder/run`, not driven yet."""
    loaded = load_config(write_config(folder, tree))
    endpoints = loaded.config.endpoints
    resolved = {name: resolve_endpoint(name, endpoints[name], os.environ) for name in loaded.config.used_endpoints}
    return Run(loaded, RunFolder(folder / "run"), resolved, RunOptions(**options))


def drive(folder: Path, tree: dict[str, Any], **options: bool) -> Run:
    """A run, driven to its end; raises what stopped it."""
    run = prepared_run(folder, tree, **options)
    anyio.run(run.drive)
    return run


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file, each line of which ends in LF."""
    content = path.read_bytes()
    assert content.endswith(b"\n") or not content
    return [orjson.loads(line) for line in content.splitlines()]


def dataset_of(run_folder: Path) -> list[dict[str, Any]]:
    """The lines of the dataset."""
    return lines_of(run_folder / "dataset.jsonl")


def rejects_of(run_folder: Path) -> list[dict[str, Any]]:
    """The lines of the rejects."""
    return lines_of(run_folder / "rejects.jsonl")


def truth_of(run_folder: Path) -> dict[str, bytes]:
    """Name -> bytes of what a finished run may not change when it is run again."""
    names = ["dataset.jsonl", "rejects.jsonl", "run.json", *(path.name for path in run_folder.glob("journal-*"))]
    return {name: (run_folder / name).read_bytes() for name in sorted(names)}


def answers_in_journal(run_folder: Path) -> Counter[str]:
    """How many answers to each request the journal holds in whole lines, by name."""
    whole = b"".join(path.read_bytes().rpartition(b"\n")[0] + b"\n" for path in run_folder.glob("journal-*.log"))
    return Counter(match.decode() for match in _ANSWER_ID.findall(whole))


def names_in_journal(run_folder: Path) -> set[str]:
    """Names of the requests whose answers the journal holds in whole lines."""
    return set(answers_in_journal(run_folder))
