"""A run in a process of its own, disturbed under the fault mix of the embedded endpoint, against a server that counts.

What a server made a whole answer to was paid for. A run may lose such an answer only by dying while it was in flight,
or by a power loss within 100 ms; everything else that was paid for is in the journal once, and is never asked again.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripted_endpoint import (
    Asked,
    Reply,
    ScriptedEndpoint,
    answers_in_journal,
    config_of,
    dataset_of,
    rejects_of,
    scripted_endpoint,
    truth_of,
    usual_reply,
    write_config,
)

from synth_async.config.models import FaultMix
from synth_async.endpoint.simulator.faults import (
    ContentFault,
    FaultyResponse,
    TransportFault,
    arrival_draw,
    content_fault,
    rate_limited,
    server_error,
    transport_fault,
    truncated,
)
from synth_async.testing import chat_body

_ROOT = Path(__file__).parent.parent
_PATIENCE_S = 300
_IN_FLIGHT = 16
_SYNCED_AFTER_S = 0.1

MIX = FaultMix(
    rate_limited=0.001, server_error=0.01, reset=0.01, truncated_body=0.005,
    invalid_json=0.04, empty=0.01, refusal=0.01, length=0.01,
)  # fmt: skip
LONG_MIX = MIX.model_copy(update={"hang": 0.0005})
_USELESS = {
    ContentFault.INVALID_JSON: "no JSON at all",
    ContentFault.EMPTY: "",
    ContentFault.REFUSAL: "I'm sorry, but I can't help with that.",
    ContentFault.LENGTH: '{"user_message": "cut in the mid',
}


# --- the server ----------------------------------------------------------------------------------


@dataclass
class _Faults:
    """The embedded endpoint's faults: those of HTTP by arrival, those of content by the request."""

    mix: FaultMix
    usual: Callable[[Asked], Reply]
    endpoint: ScriptedEndpoint | None = None
    turns: int = 0

    def __call__(self, asked: Asked) -> Reply:
        arrival = self.endpoint.count() - 1 if self.endpoint is not None else 0
        fault = transport_fault(self.mix, arrival_draw(7, arrival))
        if fault is not None:
            self.turns += 1
            return self._failure(fault)
        if asked.kind != "topics" and (useless := content_fault(self.mix, _share(asked.name))) is not None:
            return Reply(_USELESS[useless])
        return Reply(self.usual(asked).content, delay_s=0.1 if _share(asked.name[8:]) < 0.05 else 0.004)

    def _failure(self, fault: TransportFault) -> Reply:
        match fault:
            case TransportFault.RESET:
                return Reply(fault="reset")
            case TransportFault.HANG:
                return Reply(fault="hang")
            case TransportFault.RATE_LIMITED:
                return _as_reply(rate_limited(self.turns, unix_time=time.time()))
            case TransportFault.SERVER_ERROR:
                return _as_reply(server_error(self.turns))
            case TransportFault.TRUNCATED_BODY:
                return _as_reply(truncated(self.turns, chat_body("cut")))

    def most_answers(self, kinds: dict[str, str], name: str) -> int:
        """How often an answer to a request is worth paying for: a verdict that cannot be read, twice."""
        is_useless = content_fault(self.mix, _share(name)) is not None
        return 2 if kinds[name] in {"judge", "compare"} and is_useless else 1


def _as_reply(response: FaultyResponse) -> Reply:
    return Reply(status=response.status, body=response.body, headers=response.headers)


def _share(name: str) -> float:
    return int(name[:8], 16) / 2**32


# --- the process ---------------------------------------------------------------------------------


def _start(config: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "synth_async", "run", str(config), "--out", str(config.parent / "run"), "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _finish(config: Path) -> None:
    with _start(config) as process:
        _, said = process.communicate(timeout=_PATIENCE_S)
    assert process.returncode == 0, said.decode()


@contextmanager
def _at_an_instant(endpoint: ScriptedEndpoint, config: Path, requests: int) -> Iterator[subprocess.Popen[bytes]]:
    """A run in the middle: the server has just seen `requests` more of them."""
    seen = threading.Event()
    until = endpoint.count() + requests
    endpoint.on_request = lambda _: seen.set() if endpoint.count() >= until else None
    with _start(config) as process:
        if not seen.wait(_PATIENCE_S):
            process.kill()
            raise AssertionError(f"only {endpoint.count() - until + requests} of {requests} requests came")
        yield process
        process.communicate(timeout=_PATIENCE_S)


def _halt(process: subprocess.Popen[bytes], duration_s: float) -> None:
    """Stop a process, and let it go on."""
    process.send_signal(signal.SIGSTOP)
    threading.Event().wait(duration_s)
    process.send_signal(signal.SIGCONT)


# --- the disk ------------------------------------------------------------------------------------


def _tear(run_folder: Path, chance: random.Random) -> None:
    """What a crash may leave: the first part of a frame, without its end."""
    journal = max(run_folder.glob("journal-*.log"))
    line = chance.choice(journal.read_bytes().splitlines(keepends=True))
    with journal.open("ab") as segment:
        segment.write(line[: chance.randrange(1, len(line) - 1)])


def _lose_power(endpoint: ScriptedEndpoint, run_folder: Path, died_at: float, chance: random.Random) -> int:
    """Drop bytes that were younger than a sync when the process died, down to any byte; returns the answers in them.

    A frame is younger than the answer in it, and so is every frame behind it. The outputs lose any tail, or none: they
    may be ahead of the journal.
    """
    journal = max(run_folder.glob("journal-*.log"))
    content = journal.read_bytes()
    young = [name for name, answered_at in endpoint.answered if died_at - answered_at < _SYNCED_AFTER_S]
    found = [place for name in young if (place := content.find(f'"id":"chatcmpl-{name}"'.encode())) >= 0]
    before = answers_in_journal(run_folder).total()
    if found:
        first = content.rfind(b"\n", 0, min(found)) + 1
        os.truncate(journal, chance.randrange(first, len(content)))
    if chance.random() < 0.5:
        dataset = run_folder / "dataset.jsonl"
        os.truncate(dataset, chance.randrange(dataset.stat().st_size + 1))
    return before - answers_in_journal(run_folder).total()


# --- what must hold ------------------------------------------------------------------------------


@dataclass
class DisturbedRun:
    """One run, disturbed again and again, and what it may have lost by that."""

    folder: Path
    config: Path
    endpoint: ScriptedEndpoint
    faults: _Faults
    chance: random.Random
    may_be_lost: int = 0

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def kill(self, requests: int) -> None:
        """SIGKILL at an instant; then, by chance, a torn tail, or the bytes gone that no sync had reached."""
        held = self._final()
        before = self.endpoint.count()
        with _at_an_instant(self.endpoint, self.config, requests) as process:
            threading.Event().wait(self.chance.uniform(0, 0.03))
            process.kill()
            died_at = time.monotonic()
        assert process.returncode == -signal.SIGKILL, "the run was over before it was killed"
        assert not held & self.endpoint.paid_since(before), "what the journal held was asked again"
        self.may_be_lost += _IN_FLIGHT
        match self.chance.randrange(3):
            case 0:
                _tear(self.run, self.chance)
            case 1:
                self.may_be_lost += _lose_power(self.endpoint, self.run, died_at, self.chance)

    def signal(self, requests: int, number: signal.Signals) -> None:
        """A signal that lets what is in flight end: nothing is lost by it."""
        with _at_an_instant(self.endpoint, self.config, requests) as process:
            process.send_signal(number)
        assert process.returncode == 130

    def halt(self, requests: int) -> None:
        """SIGSTOP for a while, SIGCONT, and then an interruption: nothing is lost by either."""
        with _at_an_instant(self.endpoint, self.config, requests) as process:
            _halt(process, 2.0)
            process.send_signal(signal.SIGINT)
        assert process.returncode == 130

    def _final(self) -> set[str]:
        """Requests that the journal holds the last answer to that is worth paying for."""
        kinds = self._kinds()
        held = answers_in_journal(self.run) if self.run.exists() else {}
        return {name for name, times in held.items() if times >= self.faults.most_answers(kinds, name)}

    def _kinds(self) -> dict[str, str]:
        return {asked.name: asked.kind for asked in self.endpoint.asked}

    def finish(self, target: int) -> None:
        """Let the run end, and count: nothing lost, nothing twice, nothing missing, and no request or byte more."""
        _finish(self.config)
        kinds, journal = self._kinds(), answers_in_journal(self.run)
        worth = {name: self.faults.most_answers(kinds, name) for name, kind in kinds.items() if kind != "topics"}
        held_twice = [name for name in worth if journal[name] > worth[name]]
        assert not held_twice, "answers were paid for although the journal held them"
        paid = Counter(name for name, _ in self.endpoint.answered)
        repeated = sum(max(0, paid[name] - times) for name, times in worth.items())
        assert repeated <= self.may_be_lost, f"{repeated} paid again, {self.may_be_lost} may have been lost"
        # What is in flight when the target is met is surplus, and is not waited for long.
        lost = paid.total() - journal.total()
        assert 0 <= lost <= self.may_be_lost + _IN_FLIGHT
        ids = [line["id"] for line in dataset_of(self.run)]
        assert len(ids) == len(set(ids)) == target
        assert not set(ids) & {line["id"] for line in rejects_of(self.run)}
        truth, sent = truth_of(self.run), self.endpoint.count()
        _finish(self.config)
        assert truth_of(self.run) == truth
        assert self.endpoint.count() == sent


@contextmanager
def disturbed_run(
    folder: Path,
    mix: FaultMix,
    *,
    target: int,
    seed: int,
    usual: Callable[[Asked], Reply] = usual_reply,
    **changes: Any,
) -> Iterator[DisturbedRun]:
    """A run in `folder/run`, not begun yet; `usual` answers where no fault does, `changes` are those of `config_of`."""
    faults = _Faults(mix, usual)
    with scripted_endpoint(faults) as endpoint:
        faults.endpoint = endpoint
        tree = config_of(endpoint, target=target, fsync="100ms", endpoints__max_in_flight=_IN_FLIGHT, **changes)
        yield DisturbedRun(folder, write_config(folder, tree), endpoint, faults, random.Random(seed))
