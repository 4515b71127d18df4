"""Real processes, killed between any two calls of the Batch API, against a server that counts what it would be paid."""

from __future__ import annotations

import random
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest
from batch_server import BatchServer, batch_config, batch_server, driven, driven_and_killed, journaled_lines
from scripted_endpoint import dataset_of, rejects_of, truth_of

from synth_async.errors import ExitCode, StoppedEarly, SynthAsyncError

_SHORT = {"seed": 3, "batch": {"duration_s": 0.15}}
_OUTCOMES = {
    "duration_s": 0.3,
    "failed": 0.06,
    "expired": 0.12,
    "cancelled": 0.04,
    "only_errors": 0.05,
    "line_error": 0.02,
    "line_rejected": 0.01,
    "line_missing": 0.01,
    "lost_reply": 0.15,
    "listed_after_s": 0.1,
    "enqueued_tokens": 250_000,
}


def _check(server: BatchServer, run_folder: Path, target: int) -> None:
    """Exactly N lines; no line in a second batch while it was under way or answered; paid answers journaled once."""
    ids = [line["id"] for line in dataset_of(run_folder)]
    assert len(ids) == len(set(ids)) == target
    assert not set(ids) & {line["id"] for line in rejects_of(run_folder)}
    assert server.desk.doubled == 0
    own_ids = [batch["metadata"]["synth_async_batch"] for batch in server.created()]
    assert len(own_ids) == len(set(own_ids)), "a batch was created twice"
    journaled = journaled_lines(run_folder)
    assert len(journaled) == len(set(journaled))
    assert server.desk.answered <= set(journaled), "an answer that was paid for is not in the journal"


def _calls_of_a_run(folder: Path, simulation: dict[str, Any], target: int) -> int:
    folder.mkdir()
    with batch_server(simulation) as server:
        _, stopped, _ = driven(folder, batch_config(server, folder, target=target))
        assert stopped is None
        return len(server.calls)


def test_a_creation_whose_reply_nobody_saw_is_found_and_not_repeated(tmp_path: Path) -> None:
    """The process dies when its batch has just been created; the next one finds it by its metadata."""
    with batch_server(_SHORT) as server:
        tree = batch_config(server, tmp_path, target=8)
        assert driven_and_killed(tmp_path, tree, server, 2, effect=True) == -SIGKILL
        assert server.calls == ["POST /v1/files", "POST /v1/batches"]
        assert len(server.created()) == 1
        _, stopped, _ = driven(tmp_path, tree)
        assert stopped is None
        _check(server, tmp_path / "run", 8)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_kill_between_any_two_calls_pays_for_nothing_twice(tmp_path: Path) -> None:
    """For every call of a whole run: a process that dies just before it, and one that dies just after its effect."""
    calls = _calls_of_a_run(tmp_path / "whole", _SHORT, 12)
    assert calls >= 8
    for call in range(1, calls + 1):
        for effect in (False, True):
            folder = tmp_path / f"{call}{effect}"
            folder.mkdir()
            with batch_server(_SHORT) as server:
                tree = batch_config(server, folder, target=12)
                driven_and_killed(folder, tree, server, call, effect=effect)
                _, stopped, _ = driven(folder, tree)
                assert stopped is None, (call, effect, stopped)
                _check(server, folder / "run", 12)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_five_thousand_examples_in_batches_survive_every_outcome_and_six_kills(tmp_path: Path) -> None:
    """A mix of all outcomes and six kills at random calls: nothing lost, nothing twice, exactly N lines."""
    chance = random.Random(8)
    with batch_server(
        {"seed": 5, "batch": _OUTCOMES, "faults": {"rate_limited": 0.02, "server_error": 0.05}}
    ) as server:
        tree = batch_config(server, tmp_path, target=5_000, topics=4_000, batch={"max_requests": 400, "settle_s": 0.5})
        kills = 0
        while kills < 6:
            # A process that sees a batch cancelled by somebody stops before its turn; the same command goes on.
            call, effect = chance.randrange(1, 60), chance.random() < 0.5
            code = driven_and_killed(tmp_path, tree, server, call, effect=effect)
            assert code in (-SIGKILL, ExitCode.STOPPED_EARLY)
            kills += code == -SIGKILL
        stopped: SynthAsyncError | None = StoppedEarly("not begun")
        while isinstance(stopped, StoppedEarly):
            _, stopped, _ = driven(tmp_path, tree)
        assert stopped is None
        _check(server, tmp_path / "run", 5_000)
        outcomes = {batch["outcome"] for batch in server.created()}
        assert outcomes == {"completed", "failed", "token_limit", "expired", "cancelled", "only_errors"}
        truth, calls = truth_of(tmp_path / "run"), len(server.calls)
        driven(tmp_path, tree)
        assert (truth_of(tmp_path / "run"), len(server.calls)) == (truth, calls)
