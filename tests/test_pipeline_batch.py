"""A whole run by the Batch API, against the embedded endpoint."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest
from batch_server import BatchServer, batch_config, batch_server, driven, journaled_lines
from scripted_endpoint import dataset_of, prepared_run, truth_of

from synth_async.config import load_config
from synth_async.config.models import Simulation
from synth_async.endpoint.batch.exporting import Exported
from synth_async.endpoint.simulator.answers import draws_for
from synth_async.endpoint.simulator.chat import parse_chat
from synth_async.endpoint.simulator.completion import completion_body
from synth_async.errors import Interrupted, StoppedEarly, SynthAsyncError, UsageError
from synth_async.pipeline.batch_desk import cancel_batches, import_responses
from synth_async.pipeline.endpoints import BatchExport
from synth_async.pipeline.fork import fork_run
from synth_async.store.run_folder import RunFolder

_PRICE = {"prompt": 10.0, "completion": 20.0}


def _interrupted(folder: Path, tree: dict[str, Any], when: Callable[[], bool]) -> list[str]:
    """A run that is interrupted as soon as `when` says so; what it said."""
    run, notes = prepared_run(folder, tree), list[str]()
    run.on_note = notes.append

    async def drive() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            await run.drive()

    async def watch() -> None:
        while not when():  # noqa: ASYNC110 - the server runs in another thread
            await anyio.sleep(0.02)
        run.interrupt(Interrupted("by the test"))

    with pytest.raises(BaseExceptionGroup) as raised:
        anyio.run(drive)
    assert raised.group_contains(Interrupted)
    return notes


def _interrupted_in_a_batch(folder: Path, server: BatchServer, tree: dict[str, Any]) -> list[str]:
    """A run that left a batch whose id it knows, and that it never saw the end of."""
    server.holds = True
    notes = _interrupted(folder, tree, lambda: any(call.startswith("GET /v1/batches/") for call in server.calls))
    server.holds = False
    return notes


def test_examples_and_verdicts_come_in_batches_for_half_the_price(tmp_path: Path) -> None:
    """Exactly N lines, no request online, every answer at the batch price; run again, nothing is sent."""
    with batch_server({"batch": {"duration_s": 0.1}}) as server:
        tree = batch_config(server, tmp_path, target=15, endpoint={"price": _PRICE})
        run, stopped, _ = driven(tmp_path, tree)
        assert stopped is None
        assert len(dataset_of(tmp_path / "run")) == 15
        tokens = run.metrics["tokens"]
        full_price = (tokens["prompt"] * _PRICE["prompt"] + tokens["completion"] * _PRICE["completion"]) / 1e6
        assert run.metrics["cost_usd"] == pytest.approx(full_price / 2)
        truth, calls = truth_of(tmp_path / "run"), len(server.calls)
        again, _, _ = driven(tmp_path, tree)
        assert (truth_of(tmp_path / "run"), len(server.calls)) == (truth, calls)
        assert again.tally.cost_usd == pytest.approx(full_price / 2)


@pytest.mark.parametrize("dialect", ["upper", "wrapped"])
def test_other_vendors_batches_are_understood(tmp_path: Path, dialect: str) -> None:
    """In capitals, within a wrapper, without metadata; a lost reply is found by the input file all the same."""
    batch = {"duration_s": 0.1, "dialect": dialect, "lost_reply": 0.5, "line_error": 0.1}
    with batch_server({"seed": 1, "batch": batch}) as server:
        _, stopped, _ = driven(tmp_path, batch_config(server, tmp_path, target=12))
        assert stopped is None
        assert len(dataset_of(tmp_path / "run")) == 12
        assert server.desk.doubled == 0
        assert any(server.desk.loses_reply(batch["id"]) for batch in server.created())


def test_batches_outlive_an_interruption_and_are_taken_up_again(tmp_path: Path) -> None:
    """Ctrl-C leaves them running and says how to come back; the same command attaches, and sends nothing twice."""
    with batch_server({"batch": {"duration_s": 0.1}}) as server:
        tree = batch_config(server, tmp_path, target=10)
        notes = _interrupted_in_a_batch(tmp_path, server, tree)
        assert any("comes back for their answers" in note for note in notes)
        metrics = orjson.loads((tmp_path / "run" / "metrics.json").read_bytes())
        assert [batch["batch"] for batch in metrics["batches"]] == [server.created()[0]["id"]]
        _, stopped, _ = driven(tmp_path, tree)
        assert stopped is None
        assert server.desk.doubled == 0
        assert server.desk.answered == set(journaled_lines(tmp_path / "run"))


def test_cancel_keeps_what_was_done_and_lets_the_rest_go_online(tmp_path: Path) -> None:
    """A batch under way keeps its run from going online; ended by `cancel`, it does not."""
    with batch_server({"batch": {"duration_s": 0.1}}) as server:
        tree = batch_config(server, tmp_path, target=10)
        _interrupted_in_a_batch(tmp_path, server, tree)
        online = batch_config(server, tmp_path, target=10, endpoint={"mode": "online"})
        _, stopped, _ = driven(tmp_path, online)
        assert isinstance(stopped, UsageError)
        [ended] = anyio.run(cancel_batches, RunFolder(tmp_path / "run"), os.environ)
        assert ended.batch == server.created()[0]["id"]
        assert ended.outcome in ("cancelled", "completed")
        assert set(journaled_lines(tmp_path / "run")) == server.desk.answered
        _, stopped, _ = driven(tmp_path, online)
        assert stopped is None
        assert len(dataset_of(tmp_path / "run")) == 10


def test_a_run_with_a_batch_under_way_is_not_forked(tmp_path: Path) -> None:
    """The new run would ask for the same again."""
    with batch_server({"batch": {"duration_s": 0.1}}) as server:
        tree = batch_config(server, tmp_path, target=10)
        _interrupted_in_a_batch(tmp_path, server, tree)
    with pytest.raises(UsageError, match="in batches that are not ended"):
        fork_run(RunFolder(tmp_path / "run"), RunFolder(tmp_path / "new"), load_config(tmp_path / "config.yaml"))


def test_what_is_under_way_when_the_target_is_met_is_cancelled(tmp_path: Path) -> None:
    """Nobody needs it, and what is not executed is not paid; no line was sent twice."""
    with batch_server({"batch": {"duration_s": 0.1}}) as server:
        tree = batch_config(server, tmp_path, target=4, batch={"max_requests": 1})
        tree["judge"] = None
        _, stopped, _ = driven(tmp_path, tree)
        assert stopped is None
        open_still = [batch for batch in server.created() if batch["status"] in ("validating", "in_progress")]
        assert open_still == []


def test_a_batch_that_somebody_cancels_stops_the_run(tmp_path: Path) -> None:
    """What it had done is kept; the same command sends the rest."""
    with batch_server({"seed": 2, "batch": {"duration_s": 0.2, "cancelled": 1.0}}) as server:
        tree = batch_config(server, tmp_path, target=10)
        _, stopped, _ = driven(tmp_path, tree)
        assert isinstance(stopped, StoppedEarly)
        done = server.desk.answered
        assert done
        assert set(journaled_lines(tmp_path / "run")) == done


def test_an_account_without_room_is_waited_for(tmp_path: Path) -> None:
    """Batches that fail for the enqueued-token limit are sent again, smaller, and nothing is lost or doubled."""
    simulation = {"batch": {"duration_s": 0.1, "enqueued_tokens": 1_500}}
    with batch_server(simulation) as server:
        _, stopped, _ = driven(tmp_path, batch_config(server, tmp_path, target=12))
        assert stopped is None
        outcomes = [batch["outcome"] for batch in server.created()]
        assert outcomes[0] == "token_limit"
        assert outcomes.count("completed") > 2
        assert server.desk.doubled == 0


def test_a_file_is_cut_at_its_bounds(tmp_path: Path) -> None:
    """No batch has more lines than the config allows."""
    with batch_server({"batch": {"duration_s": 0.1}}) as server:
        _, stopped, _ = driven(tmp_path, batch_config(server, tmp_path, target=12, batch={"max_requests": 5}))
        assert stopped is None
        assert max(batch["lines"] for batch in server.created()) == 5


def test_a_budget_is_leased_by_the_batch(tmp_path: Path) -> None:
    """A run with room for so many requests stops with work left, and never passes it."""
    with batch_server({"batch": {"duration_s": 0.1}}) as server:
        tree = batch_config(server, tmp_path, target=12, budget={"requests": 17})
        run, stopped, _ = driven(tmp_path, tree)
        assert isinstance(stopped, StoppedEarly)
        assert "the budget is spent" in str(stopped)
        sent = sum(batch["lines"] for batch in server.created())
        assert sent == run.metrics["budget"]["requests"]["spent"] == 17
        again, stopped, _ = driven(tmp_path, tree)
        assert isinstance(stopped, StoppedEarly)
        assert again.metrics["budget"]["requests"]["spent"] == 17
        assert sum(batch["lines"] for batch in server.created()) == 17


def test_a_budget_counts_no_batch_twice_over_an_interruption(tmp_path: Path) -> None:
    """The lease of a batch that outlives its process is neither lost nor added to what its answers take."""
    with batch_server({"batch": {"duration_s": 0.1}}) as server:
        tree = batch_config(server, tmp_path, target=10, budget={"requests": 60})
        _interrupted_in_a_batch(tmp_path, server, tree)
        run, stopped, _ = driven(tmp_path, tree)
        assert stopped is None
        assert run.metrics["budget"]["requests"]["spent"] == sum(batch["lines"] for batch in server.created())


# --- by hand -------------------------------------------------------------------------------------


def _exported(folder: Path, tree: dict[str, Any]) -> list[Path]:
    run, files = prepared_run(folder, tree), list[Path]()
    run.export = BatchExport(folder / "requests", files.append)
    with pytest.raises(SynthAsyncError) as stopped:
        anyio.run(run.drive)
    assert isinstance(stopped.value, Exported)
    return files


def _run_batch(requests: Path, results: Path, *, failing: int = 0) -> None:
    """What `vllm run-batch` makes of a file, in another order; the first lines fail."""
    lines = []
    for number, text in enumerate(requests.read_bytes().splitlines()):
        line = orjson.loads(text)
        body = orjson.dumps(line["body"])
        answer, _ = completion_body(parse_chat(body), Simulation(), draws_for(0, body), 10)
        response: dict[str, Any] = {"status_code": 200, "request_id": "r", "body": orjson.loads(answer)}
        if number < failing:
            response = {"status_code": 500, "request_id": "r", "body": None}
        lines.append(orjson.dumps({"id": "x", "custom_id": line["custom_id"], "response": response, "error": None}))
    results.write_bytes(b"\n".join(reversed(lines)) + b"\n")


def test_requests_are_exported_answered_elsewhere_and_imported(tmp_path: Path) -> None:
    """Examples, then verdicts, by files alone; what failed is exported again, and the run ends as any other."""
    with batch_server() as server:
        tree = batch_config(server, tmp_path, target=8)
        rounds = 0
        while True:
            try:
                files = _exported(tmp_path, tree)
            except pytest.fail.Exception:
                break
            rounds += 1
            assert rounds < 12
            _, stopped, _ = driven(tmp_path, tree)
            assert isinstance(stopped, UsageError), "what was exported would be sent as well"
            for number, file in enumerate(files):
                _run_batch(file, tmp_path / f"results-{number}.jsonl", failing=1 if rounds == 1 else 0)
            results = [tmp_path / f"results-{number}.jsonl" for number in range(len(files))]
            imported = import_responses(RunFolder(tmp_path / "run"), results)
            assert (imported.failed, imported.missing) == ((1, 0) if rounds == 1 else (0, 0))
        assert rounds >= 3
        assert len(dataset_of(tmp_path / "run")) == 8
        assert server.calls == []
        lines = journaled_lines(tmp_path / "run")
        assert len(lines) == len(set(lines))


def test_nothing_is_imported_where_nothing_was_exported(tmp_path: Path) -> None:
    """The mistake is told before a line is read."""
    with batch_server({"batch": {"duration_s": 0.1}}) as server:
        driven(tmp_path, batch_config(server, tmp_path, target=3))
    with pytest.raises(UsageError, match="no exported request"):
        import_responses(RunFolder(tmp_path / "run"), [tmp_path / "none.jsonl"])
