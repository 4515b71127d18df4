"""An export holds what was asked for, tells what it left out, and never shows half a file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from chat_rows import example, read_rows, write_rows

from synth_async.dataset.export import ExportSummary, ExportWishes, export
from synth_async.dataset.formats import FORMATS
from synth_async.dataset.validation import validate_file
from synth_async.errors import UsageError
from synth_async.stages.conversations import conversation_of_row
from synth_async.stages.dedup import Deduplicator


def run_folder(folder: Path, *rows: object, simulated: bool = False) -> Path:
    """A run folder with a dataset and the manifest of a run."""
    folder.mkdir()
    write_rows(folder / "dataset.jsonl", *rows)
    judge = {"judge.criteria": ["truth"], "judge.criteria.truth.description": "Is it true?"}
    manifest = {"format": 1, "name": "billing", "simulated": simulated, "parts": {"judge": judge}}
    (folder / "run.json").write_text(json.dumps(manifest))
    (folder / "metrics.json").write_text(json.dumps({"asked": 200, "accepted": 100, "rejected": {"low_score": 100}}))
    return folder


def exported(source: Path, format_name: str = "openai", **wishes: Any) -> ExportSummary:
    """The summary of an export to a folder beside the source."""
    return export(ExportWishes(source, format_name, out=wishes.pop("out", source.parent / "out"), **wishes))


def texts(rows: list[dict[str, Any]]) -> set[str]:
    """The user's turns."""
    return {row["messages"][1]["content"] for row in rows}


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in {"trl-dpo", "parquet"}])
def test_an_export_is_what_its_target_takes(tmp_path: Path, name: str) -> None:
    """All rows in the order of the source, and no breach in the file."""
    rows = [example(number) for number in range(12)]
    done = exported(write_rows(tmp_path / "in.jsonl", *rows), name)
    assert (done.read, done.rows, dict(done.dropped)) == (12, 12, {})
    assert validate_file(Path(done.out), FORMATS[name]).breach_count == 0
    written = [conversation_of_row(row).texts("user") for row in read_rows(Path(done.out))]
    assert written == [(row["messages"][1]["content"],) for row in rows]


def test_metadata_is_kept_where_it_is_asked_for(tmp_path: Path) -> None:
    """`id` and `metadata` stand in the line; without the wish nothing but messages does."""
    source = write_rows(tmp_path / "in.jsonl", example(1))
    assert list(read_rows(Path(exported(source, "jsonl").out))[0]) == ["messages"]
    kept = read_rows(Path(exported(source, "jsonl", keep_metadata=True).out))[0]
    assert (kept["id"], kept["metadata"]["model"]) == (example(1)["id"], "writer")


def test_what_cannot_be_exported_is_told_line_by_line(tmp_path: Path) -> None:
    """Unreadable and unfit rows are in dropped.jsonl with their reason, and counted; the others are there."""
    calling = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]}
    unfit = {"id": "u", "messages": [{"role": "user", "content": "Q"}, calling]}
    trailing = {"messages": [*example(2)["messages"], {"role": "user", "content": "and?"}]}
    source = write_rows(tmp_path / "in.jsonl", example(1), {"foo": 1}, unfit, trailing)
    done = exported(source, "mistral")
    assert dict(done.dropped) == {"unreadable": 1, "refused_by_target": 2}
    assert [row["line"] for row in read_rows(tmp_path / "out" / "dropped.jsonl")] == [2, 3, 4]
    assert done.rows == 1
    assert dict(exported(source, "together").dropped) == {"unreadable": 1, "unfit": 1}


def test_nothing_left_is_a_mistake_and_leaves_no_file(tmp_path: Path) -> None:
    """A DPO export of a dataset without rejected answers says so, and writes nothing."""
    source = write_rows(tmp_path / "in.jsonl", example(1))
    with pytest.raises(UsageError, match="no rejected answer"):
        exported(source, "trl-dpo")
    assert list((tmp_path / "out").iterdir()) == []


# --- split ---------------------------------------------------------------------------------------


def test_no_topic_and_no_near_duplicate_is_on_both_sides(tmp_path: Path) -> None:
    """Twins of held-out examples under other topics leave the training side, with the held-out line they repeat."""
    rows = [example(number, topic=f"topic {number // 2}") for number in range(80)]
    twins = [example(number, topic=f"other {number}") for number in range(80)]
    for twin in twins:
        twin["messages"][2]["content"] += " indeed"
    source = write_rows(tmp_path / "in.jsonl", *rows, *twins)
    done = exported(source, "jsonl", held_out=0.3, keep_metadata=True)
    train, test = read_rows(tmp_path / "out" / "train.jsonl"), read_rows(tmp_path / "out" / "held_out.jsonl")
    assert not {row["metadata"]["topic"] for row in train} & {row["metadata"]["topic"] for row in test}
    dedup = Deduplicator()
    for row in test:
        dedup.add(row["id"], dedup.sketch(conversation_of_row(row).texts()))
    assert not [row for row in train if dedup.find(dedup.sketch(conversation_of_row(row).texts()))]
    assert done.dropped["near_duplicate_of_held_out"] > 0
    assert done.rows + done.held_out + sum(done.dropped.values()) == done.read == 160


def test_a_growing_dataset_moves_no_held_out_example(tmp_path: Path) -> None:
    """What was held out of the first half is held out of the whole, and the split of the card is named."""
    rows = [example(number, topic=f"topic {number}") for number in range(100)]
    exported(write_rows(tmp_path / "half.jsonl", *rows[:50]), held_out=0.2)
    before = texts(read_rows(tmp_path / "out" / "held_out.jsonl"))
    exported(write_rows(tmp_path / "whole.jsonl", *rows), held_out=0.2)
    after = texts(read_rows(tmp_path / "out" / "held_out.jsonl"))
    assert before
    assert before == after & texts([{"messages": row["messages"]} for row in rows[:50]])


def test_a_split_without_a_held_out_topic_is_refused(tmp_path: Path) -> None:
    """An empty evaluation set would be silent; the message says what to change."""
    with pytest.raises(UsageError, match="--seed"):
        exported(write_rows(tmp_path / "in.jsonl", example(1), example(2)), held_out=0.0001)


def test_the_suite_has_the_rubric_of_the_run(tmp_path: Path) -> None:
    """Prompt, reference and the judge's criteria, from held-out topics only."""
    folder = run_folder(tmp_path / "run", *[example(number) for number in range(60)])
    done = export(ExportWishes(folder, "openai", held_out=0.3, suite=5))
    suite = read_rows(folder / "export-openai" / "suite.jsonl")
    assert len(suite) == done.suite == 5
    assert suite[0]["rubric"] == {"truth": "Is it true?"}
    held_out = texts(read_rows(folder / "export-openai" / "held_out.jsonl"))
    assert {test["prompt"][-1]["content"] for test in suite} <= held_out


# --- mix and decontaminate -----------------------------------------------------------------------


def test_a_mix_has_its_share_and_says_where_each_line_is_from(tmp_path: Path) -> None:
    """40 % real, shuffled by the seed; synthetic twins of real examples are dropped; provenance line by line."""
    rows = [example(number) for number in range(60)]
    real = [{"instruction": f"real {row['messages'][1]['content']}", "output": "yes"} for row in rows[:40]]
    real.append({"prompt": rows[59]["messages"][1]["content"], "response": rows[59]["messages"][2]["content"]})
    source, mix = write_rows(tmp_path / "in.jsonl", *rows), write_rows(tmp_path / "real.jsonl", *real)
    done = exported(source, mix=mix, real_share=0.4)
    assert dict(done.dropped) == {"near_duplicate_of_real": 1}
    assert (done.rows, done.real, done.surplus) == (99, 40, 1)
    lines, origins = read_rows(Path(done.out)), read_rows(tmp_path / "out" / "provenance.jsonl")
    assert [origin["line"] for origin in origins] == list(range(1, 100))
    for line, origin in zip(lines, origins, strict=True):
        came = real if origin["source"] == "real" else rows
        assert conversation_of_row(came[origin["file_line"] - 1]).texts("user") == conversation_of_row(line).texts(
            "user"
        )
    again = exported(source, mix=mix, real_share=0.4, out=tmp_path / "again")
    assert Path(again.out).read_bytes() == Path(done.out).read_bytes()
    kept = read_rows(Path(exported(source, "jsonl", mix=mix, keep_metadata=True).out))
    assert sum(row["metadata"]["provenance"] == "real" for row in kept) == 40


def test_what_repeats_an_evaluation_file_is_on_neither_side(tmp_path: Path) -> None:
    """Each contaminated example is told with the evaluation line it repeats."""
    rows = [example(number) for number in range(40)]
    leaked = [{"question": rows[number]["messages"][1]["content"]} for number in (3, 30)]
    source, evaluation = write_rows(tmp_path / "in.jsonl", *rows), write_rows(tmp_path / "eval.jsonl", *leaked)
    done = exported(source, held_out=0.3, decontaminate=(evaluation,))
    assert done.dropped["contaminated_ngram_overlap"] == 2
    told = read_rows(tmp_path / "out" / "dropped.jsonl")
    assert [row["line"] for row in told if "contaminated" in row["reason"]] == [4, 31]
    assert "eval.jsonl:1:" in told[0]["detail"]


# --- places and the card -------------------------------------------------------------------------


def test_the_card_says_what_it_is(tmp_path: Path) -> None:
    """Front matter for the hub, models, counts, licence; simulated data is called so at the top."""
    folder = run_folder(
        tmp_path / "run", *[example(n, simulated=True, judge_model="j") for n in range(12)], simulated=True
    )
    export(ExportWishes(folder, "openai", license="cc-by-4.0"))
    text = (folder / "export-openai" / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == "cc-by-4.0"
    assert {"synthetic", "simulated"} <= set(front["tags"])
    assert front["configs"][0]["data_files"] == [{"split": "train", "path": "train.jsonl"}]
    assert all(part in text for part in ("# billing", "SIMULATED DATA", "`writer`: 12", "`j`: 12", "low_score: 100"))
    plain = run_folder(tmp_path / "plain", *[example(n) for n in range(12)])
    export(ExportWishes(plain, "openai"))
    assert "SIMULATED" not in (plain / "export-openai" / "README.md").read_text()


def test_a_readme_of_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    """The card takes another name; the card of an earlier export is written over."""
    source = write_rows(tmp_path / "in.jsonl", example(1))
    (tmp_path / "README.md").write_text("mine")
    for _ in range(2):
        exported(source, "jsonl", out=tmp_path / "x.jsonl")
    assert (tmp_path / "README.md").read_text() == "mine"
    assert (tmp_path / "x.README.md").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "in.jsonl", "x.README.md", "x.jsonl"]


def test_an_export_to_the_same_place_leaves_nothing_stale(tmp_path: Path) -> None:
    """A held-out file of an earlier export would leak into nothing, but would be believed."""
    source = write_rows(tmp_path / "in.jsonl", *[example(number) for number in range(30)])
    exported(source, held_out=0.3)
    exported(source)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", "train.jsonl"]


def test_gzip_by_the_name(tmp_path: Path) -> None:
    """`x.jsonl.gz` is compressed, and what stands beside it is named after it."""
    source = write_rows(tmp_path / "in.jsonl", *[example(number) for number in range(30)])
    exported(source, held_out=0.3, out=tmp_path / "x.jsonl.gz")
    lines = gzip.decompress((tmp_path / "x.jsonl.gz").read_bytes()).splitlines()
    assert json.loads(lines[0])["messages"]
    assert (tmp_path / "x.held_out.jsonl.gz").is_file()


def test_llama_factory_and_axolotl_find_their_files(tmp_path: Path) -> None:
    """dataset_info.json keeps the entries of others; the Axolotl config names files that are there."""
    source = write_rows(tmp_path / "in.jsonl", *[example(number) for number in range(30)])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "dataset_info.json").write_text('{"theirs": {}}')
    exported(source, "sharegpt", held_out=0.3)
    info = json.loads((tmp_path / "out" / "dataset_info.json").read_text())
    assert list(info) == ["theirs", "in", "in_held_out"]
    assert info["in"]["file_name"] == "train.jsonl"
    exported(source, "axolotl", held_out=0.3, out=tmp_path / "ax")
    config = yaml.safe_load((tmp_path / "ax" / "axolotl.yaml").read_text())
    assert all(Path(entry["path"]).is_file() for entry in config["datasets"] + config["test_datasets"])


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"held_out": 1.0}, "held-out share"),
        ({"real_share": 0.0}, "real share"),
        ({"pack": 10}, "--tokenizer"),
        ({"out": "x.parquet"}, "JSON Lines"),
        ({"out": "in.jsonl"}, "also read"),
        ({"mix": Path("missing.jsonl")}, "(?i)no such file"),
        ({"tokenizer": "missing.json"}, "no such file"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused(tmp_path: Path, wishes: dict[str, Any], message: str) -> None:
    """Before anything is written, with what to change."""
    source = write_rows(tmp_path / "in.jsonl", example(1))
    if "out" in wishes:
        wishes["out"] = tmp_path / wishes["out"]
    with pytest.raises(UsageError, match=message):
        exported(source, **wishes)
    assert source.read_text()
