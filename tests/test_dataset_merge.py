"""Merging runs and files: the decisions of one pass, whatever the order of the sources; lines are untouched."""

from __future__ import annotations

import gzip
import json
import random
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth_async.dataset.compared_texts import parsed_row, parts_of_row
from synth_async.dataset.merge import merge_files
from synth_async.errors import UsageError
from synth_async.stages.dedup import Deduplicator

pytest.importorskip("polars", reason="wants the extra merge")

LONG = "My parcel with two lamps arrived broken and the shop in Lyon does not answer my messages, what can I do now?"
OTHER = "How long may a tenant keep the keys after the contract has ended if the landlord is away for a whole month?"


def line(text: str, **more: Any) -> bytes:
    """A row of one text, without a line end."""
    return json.dumps({**more, "text": text}).encode()


def written(path: Path, lines: list[bytes], end: bytes = b"\n") -> Path:
    """The path of a file of these lines, the last without an end."""
    path.write_bytes(end.join(lines))
    return path


def one_pass(lines: list[bytes], threshold: float = 0.80) -> list[bytes]:
    """What the deduplicator keeps of the lines in the order of the merge: by text hash, then by the bytes' hash."""
    dedup = Deduplicator(threshold)
    sketched = [(dedup.sketch(parts_of_row(parsed_row(each))), each) for each in lines]
    sketched.sort(key=lambda pair: (pair[0].exact, blake2b(pair[1], digest_size=8).digest()))
    kept = []
    for sketch, each in sketched:
        if dedup.find(sketch) is None:
            dedup.add("", sketch)
            kept.append(each)
    return kept


WORDS = st.sampled_from(["lamp", "parcel", "Lyon", "refund", "broken", "late", "photo", "order", "tenant", "month"])


@st.composite
def families(draw: st.DrawFn) -> list[bytes]:
    """Texts and edits of them, near the threshold from both sides, some equal, some too short to have shingles."""
    lines = []
    for words in draw(st.lists(st.lists(WORDS, min_size=1, max_size=30), min_size=1, max_size=5)):
        for edits in draw(st.lists(st.lists(st.tuples(st.integers(0, 29), WORDS), max_size=8), max_size=5)):
            edited = list(words)
            for place, word in edits:
                edited[place % len(edited)] = word
            lines.append(line(" ".join(edited), id=draw(st.integers(0, 3))))
    return lines


@settings(max_examples=10)  # 42 group-bys each
@given(families(), st.randoms(use_true_random=False))
def test_a_merge_keeps_what_one_pass_keeps_however_the_lines_are_spread(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], draw: random.Random
) -> None:
    """The output is that of the deduplicator over all lines in their order; neither files nor their order matter."""
    folder = tmp_path_factory.mktemp("merge")
    shares: list[list[bytes]] = [[], [], []]
    for each in lines:
        draw.choice(shares).append(each)
    sources = [written(folder / f"{index}.jsonl", share) for index, share in enumerate(shares)]
    draw.shuffle(sources)
    summary = merge_files(sources, folder / "out.jsonl")
    assert (folder / "out.jsonl").read_bytes() == b"".join(each + b"\n" for each in one_pass(lines))
    assert summary.kept + summary.exact + summary.near == summary.read == len(lines)
    assert sum(summary.kept_of.values()) == summary.kept


def test_families_of_look_alikes_are_decided_as_in_one_pass(tmp_path: Path) -> None:
    """More documents than one block, in chains and families where what is kept decides what is dropped."""
    draw = random.Random(11)
    lines = []
    for family in range(40):
        words = [f"{draw.getrandbits(24):x}" for _ in range(30)]
        for member in range(30):
            words[draw.randrange(30)] = f"{draw.getrandbits(24):x}"
            lines.append(line(" ".join(words), id=f"{family}-{member}"))
    sources = [written(tmp_path / f"{index}.jsonl", lines[index::3]) for index in range(3)]
    summary = merge_files(sources, tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_bytes().splitlines() == one_pass(lines)
    assert 40 < summary.kept < summary.near


def test_the_report_names_file_line_and_id_of_both(tmp_path: Path) -> None:
    """Lines are not changed to say where they came from: the report does."""
    first = written(tmp_path / "a.jsonl", [line(LONG, id="x"), line(OTHER, id="y")], end=b"\r\n")
    second = tmp_path / "b.jsonl.gz"
    second.write_bytes(gzip.compress(b"\n" + line(LONG.upper(), id="z") + b"\n"))
    merge_files([second, first], tmp_path / "out.jsonl", report=tmp_path / "clusters.jsonl")
    (cluster,) = [json.loads(row) for row in (tmp_path / "clusters.jsonl").read_bytes().splitlines()]
    places = {(place["file"], place["line"], place["id"]) for place in (cluster["kept"], *cluster["duplicates"])}
    assert places == {(str(first), 1, "x"), (str(second), 2, "z")}
    assert (cluster["duplicates"][0]["similarity"], cluster["duplicates"][0]["exact"]) == (1.0, True)
    kept = (tmp_path / "out.jsonl").read_bytes().splitlines()
    assert set(kept) < {line(LONG, id="x"), line(LONG.upper(), id="z"), line(OTHER, id="y")}


def run_folder(path: Path, lines: list[bytes], **metrics: Any) -> Path:
    """A finished run: its dataset, its manifest, its counts."""
    path.mkdir()
    written(path / "dataset.jsonl", lines)
    funnel = dict.fromkeys(("asked", "answered", "parsed", "passed", "judged", "accepted"), len(lines))
    counts = {"rejected": {"low_score": 2}, "attempts": 9, "http_429": 1, "tokens": {"prompt": 5, "completion": 7}}
    (path / "metrics.json").write_text(json.dumps({**funnel, **counts, "cost_usd": 0.5, "elapsed_s": 2.0, **metrics}))
    (path / "run.json").write_text(json.dumps({"format": 1, "name": path.name, "simulated": path.name == "sim"}))
    return path


def test_runs_become_a_run_folder(tmp_path: Path) -> None:
    """Sums of what the runs took, the drops of the merge among the reasons, simulated where one of them was."""
    chats = [{"messages": [{"role": "user", "content": text}], "metadata": {"topic": "t"}} for text in (LONG, OTHER)]
    rows = [json.dumps({"id": f"{index}", **chat}).encode() for index, chat in enumerate(chats)]
    sources = [run_folder(tmp_path / "real", rows), run_folder(tmp_path / "sim", rows[:1])]
    out = tmp_path / "new" / "merged"
    assert merge_files(sources, out).kept == 2
    metrics, manifest = (json.loads((out / name).read_bytes()) for name in ("metrics.json", "run.json"))
    assert (metrics["asked"], metrics["accepted"], metrics["target"], metrics["attempts"]) == (3, 2, 2, 18)
    assert metrics["rejected"] == {"low_score": 4, "exact_duplicate": 1}
    assert (metrics["cost_usd"], metrics["tokens"]) == (1.0, {"prompt": 10, "completion": 14})
    assert (manifest["simulated"], manifest["target"], len(manifest["merged"])) == (True, 2, 2)
    (reject,) = [json.loads(row) for row in (out / "rejects.jsonl").read_bytes().splitlines()]
    assert (reject["stage"], reject["reason"], reject["detail"]) == ("dedup", "exact_duplicate", "1.00 of 0")
    assert reject["messages"] == chats[0]["messages"]
    assert sorted(path.name for path in out.parent.iterdir()) == ["merged"]


def test_an_unknown_cost_stays_unknown(tmp_path: Path) -> None:
    """A run without a price, or a plain file, makes the cost of the whole unknown; a file's lines count as accepted."""
    run, file = run_folder(tmp_path / "run", [line(LONG)]), written(tmp_path / "file.jsonl", [line(OTHER)])
    merge_files([run, file], tmp_path / "out")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_bytes())
    assert (metrics["cost_usd"], metrics["asked"], metrics["accepted"]) == (None, 2, 2)


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    """Neither a run nor anything else is written over; an empty folder is taken."""
    source = written(tmp_path / "in.jsonl", [line(LONG)])
    run = run_folder(tmp_path / "run", [line(OTHER)])
    before = {path: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(UsageError, match="holds files already"):
        merge_files([source], run)
    assert before == {path: path.read_bytes() for path in run.iterdir()}
    (tmp_path / "empty").mkdir()
    assert merge_files([source], tmp_path / "empty").kept == 1


def test_what_is_wrong_with_a_source_is_told(tmp_path: Path) -> None:
    """No run in a folder, a source named twice, an output among the inputs, nothing that can be read, strict."""
    good, bad = written(tmp_path / "good.jsonl", [line(LONG), b"{"]), written(tmp_path / "bad.jsonl", [b"{"])
    out = tmp_path / "out.jsonl"
    for sources, target, told in (
        ([tmp_path], out, "no dataset.jsonl in it"),
        ([good, tmp_path / "." / "good.jsonl"], out, "named twice"),
        ([good, bad], bad, "also read"),
        ([tmp_path / "none.jsonl"], out, "no such file"),
        ([bad], out, "no line could be read; .*bad.jsonl:1: not JSON"),
    ):
        with pytest.raises(UsageError, match=told):
            merge_files(sources, target)
    with pytest.raises(UsageError, match=r"bad\.jsonl:1: not JSON"):
        merge_files([good, bad], out, strict=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.jsonl", "good.jsonl"]
    summary = merge_files([good, bad], out)
    assert (summary.read, summary.kept, summary.broken_count) == (3, 1, 2)
    assert summary.broken[0].startswith(f"{bad}:1: not JSON")
