"""A file scored by the judge: every answer journaled, nothing asked twice, the rows in their order."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import orjson
import pytest
from scripted_endpoint import Asked, Reply, config_of, lines_of, scores, scripted_endpoint, write_config

from synth_async.config import load_config, resolve_endpoint
from synth_async.errors import Interrupted, StoppedEarly, UsageError
from synth_async.pipeline.calibration import Calibration
from synth_async.pipeline.judge_file import FileJudging, Scored, journal_folder

_SYSTEM = "You help customers of a shop."
_ROWS: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "one"}, {"role": "assistant", "content": "good"}], "metadata": {"a": 1}},
    {"prompt": "two", "completion": "bad"},
    {"conversations": [{"from": "human", "value": "three"}, {"from": "gpt", "value": "good"}]},
    {"instruction": "four", "output": "odd"},
]


def _score_by_text(asked: Asked) -> Reply:
    return Reply(scores(2 if "bad" in asked.text else "none" if "odd" in asked.text else 5))


def _write(path: Path, rows: list[Any]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def _judging(folder: Path, tree: dict[str, Any], rows: list[Any] | None = None) -> FileJudging:
    source = _write(folder / "chats.jsonl", _ROWS if rows is None else rows)
    return FileJudging(load_config(write_config(folder, tree)), source, folder / "scored.jsonl")


def _drive(folder: Path, tree: dict[str, Any], rows: list[Any] | None = None, **hooks: Any) -> Scored:
    judging = _judging(folder, tree, rows)
    loaded = load_config(folder / "config.yaml")
    resolved = {name: resolve_endpoint(name, each, os.environ) for name, each in loaded.config.endpoints.items()}

    async def drive() -> None:
        await judging.drive(resolved, **hooks)

    anyio.run(drive)
    return judging.scored


def test_rows_of_any_shape_are_scored_in_their_order(tmp_path: Path) -> None:
    """Each line is its row with the verdict in its metadata; a malformed verdict, asked for twice, is told in it."""
    with scripted_endpoint(_score_by_text) as endpoint:
        scored = _drive(tmp_path, config_of(endpoint))
        assert endpoint.count() == endpoint.count("judge") == 5
    lines = lines_of(tmp_path / "scored.jsonl")
    assert [{key: value for key, value in line.items() if key != "metadata"} for line in lines] == [
        {key: value for key, value in row.items() if key != "metadata"} for row in _ROWS
    ]
    assert [line["metadata"].get("score") for line in lines] == [5, 2, 5, None]
    assert lines[0]["metadata"]["a"] == 1
    assert [line["metadata"].get("judge_drop", {}).get("reason") for line in lines] == [
        *(None, "low_score", None, "no_verdict")
    ]
    assert (scored.rows, scored.scored, scored.passed) == (4, 3, 2)


def test_a_second_time_nothing_is_sent(tmp_path: Path) -> None:
    """Another bound decides anew from the journal, and no request is made."""
    with scripted_endpoint(_score_by_text) as endpoint:
        _drive(tmp_path, config_of(endpoint))
        before, sent = (tmp_path / "scored.jsonl").read_bytes(), endpoint.count()
        _drive(tmp_path, config_of(endpoint))
        assert (tmp_path / "scored.jsonl").read_bytes() == before
        scored = _drive(tmp_path, config_of(endpoint, judge={"criteria": ["quality"], "min_score": 2}))
        assert endpoint.count() == sent
    assert (scored.passed, scored.requests) == (3, 0)


def test_a_text_that_comes_twice_is_paid_for_once(tmp_path: Path) -> None:
    """Rows with one text share a verdict; the system prompt of the config is what the judge is told anyway."""
    told = {"messages": [{"role": "system", "content": _SYSTEM}, *_ROWS[0]["messages"]]}
    with scripted_endpoint(_score_by_text) as endpoint:
        scored = _drive(tmp_path, config_of(endpoint), [_ROWS[0], _ROWS[0], told])
        assert endpoint.count() == 1
    assert scored.scored == 3


def test_another_system_message_is_shown_to_the_judge(tmp_path: Path) -> None:
    """It stands in the conversation, inside the fence."""
    row = {"messages": [{"role": "system", "content": "Speak like a pirate."}, *_ROWS[0]["messages"]]}
    with scripted_endpoint(_score_by_text) as endpoint:
        _drive(tmp_path, config_of(endpoint), [row])
        assert "Speak like a pirate." in endpoint.asked[0].text


def test_rows_without_a_conversation_are_left_out_and_named(tmp_path: Path) -> None:
    """By their number, with the reason; blank lines are none."""
    with scripted_endpoint(_score_by_text) as endpoint:
        scored = _drive(tmp_path, config_of(endpoint), [{"text": "no chat"}, _ROWS[0], {"prompt": "no answer"}])
    assert [number for number, _ in scored.broken] == [1, 3]
    assert len(lines_of(tmp_path / "scored.jsonl")) == 1


def test_a_stop_leaves_the_file_as_it_was_and_the_journal_complete(tmp_path: Path) -> None:
    """What was answered before an interrupt is not asked again."""
    rows = [{"prompt": f"question {number}", "completion": "good"} for number in range(40)]
    with scripted_endpoint(_score_by_text) as endpoint:
        tree = config_of(endpoint, endpoints__max_in_flight=2)
        judging = _judging(tmp_path, tree, rows)
        loaded = load_config(tmp_path / "config.yaml")
        resolved = {"only": resolve_endpoint("only", loaded.config.endpoints["only"], os.environ)}

        async def drive() -> None:
            # The server's thread calls `stop`, as a signal would: on the loop.
            loop = anyio.lowlevel.current_token()
            endpoint.on_request = lambda _: (
                anyio.from_thread.run_sync(judging.stop, Interrupted("stop"), token=loop)
                if endpoint.count() == 10
                else None
            )
            await judging.drive(resolved)

        with pytest.raises(Interrupted):
            anyio.run(drive)
        assert not (tmp_path / "scored.jsonl").exists()
        assert 10 <= endpoint.count() < 40
        scored = _drive(tmp_path, tree, rows)
        assert endpoint.count() == 40
    assert scored.scored == 40


def test_a_request_that_is_refused_is_told_in_its_row(tmp_path: Path) -> None:
    """The others are scored, and the next run asks for it again."""
    with scripted_endpoint(lambda asked: Reply(status=422) if "two" in asked.text else _score_by_text(asked)) as server:
        scored = _drive(tmp_path, config_of(server, endpoints__response_format="text"), _ROWS[:2])
        refused = server.count()
        _drive(tmp_path, config_of(server, endpoints__response_format="text"), _ROWS[:2])
        assert server.count() == refused + 1
    assert scored.dropped == {"request_rejected": 1}
    assert lines_of(tmp_path / "scored.jsonl")[1]["metadata"]["judge_drop"]["reason"] == "request_rejected"


def test_the_budget_holds_for_a_file(tmp_path: Path) -> None:
    """Over two runs of the same command no more requests are sent than are allowed."""
    rows = [{"prompt": f"question {number}", "completion": "good"} for number in range(20)]
    with scripted_endpoint(_score_by_text) as endpoint:
        tree = config_of(endpoint, budget={"requests": 7})
        for _ in range(2):
            with pytest.raises(StoppedEarly, match="budget"):
                _drive(tmp_path, tree, rows)
        assert endpoint.count() == 7


def test_a_file_is_not_written_over_by_its_own_scores(tmp_path: Path) -> None:
    """The scored file is another one, and its journal stands beside it."""
    with scripted_endpoint(_score_by_text) as endpoint:
        loaded = load_config(write_config(tmp_path, config_of(endpoint)))
        source = _write(tmp_path / "chats.jsonl", _ROWS)
        with pytest.raises(UsageError, match="is also read"):
            FileJudging(loaded, source, source)
    assert journal_folder(tmp_path / "scored.jsonl") == tmp_path / "scored.jsonl.journal"


# --- calibration ---------------------------------------------------------------------------------


def test_calibration_pairs_labels_with_verdicts(tmp_path: Path) -> None:
    """By criterion, for the whole, and by what people accepted; a row without a label is named."""
    labels: list[dict[str, Any]] = [
        {"scores": {"quality": 5}},
        {"human": {"score": 1, "accepted": False}},
        {},
        {"accepted": True},
    ]
    rows = [{**row, **label} for row, label in zip(_ROWS[:3], labels[:3], strict=True)]
    rows.append({"prompt": "five", "completion": "good", **labels[3]})
    with scripted_endpoint(_score_by_text) as endpoint:
        calibration = Calibration(load_config(write_config(tmp_path, config_of(endpoint))).config)
        _drive(tmp_path, config_of(endpoint), rows, on_scored=calibration.note)
    report = calibration.report()
    assert calibration.unlabelled == [(3, "none of scores, score, accepted by a person")]
    assert report["agreement"]["quality"]["rows"] == 1
    assert (report["agreement"]["score"]["rows"], report["agreement"]["score"]["exact"]) == (2, 0.5)
    assert report["now"]["accuracy"] == 1
    assert report["suggested"]["min_score"] == 4
