"""Deduplicating a file: kept lines are untouched, dropped ones accounted for, inputs safe."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_async.dataset.deduplicate import deduplicate_file
from synth_async.errors import DiskFailure, UsageError

LONG = "My parcel with two lamps arrived broken and the shop in Lyon does not answer my messages, what can I do now?"
OTHER = "How long may a tenant keep the keys after the contract has ended if the landlord is away for a whole month?"


def chat(text: str) -> dict[str, Any]:
    """A row of two turns."""
    return {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "Please send a photo."}]}


def write(path: Path, *rows: object) -> Path:
    """The path, with one line a row; bytes are written as they are."""
    path.write_bytes(b"".join(row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows))
    return path


def test_first_stays_and_the_summary_adds_up(tmp_path: Path) -> None:
    """Exact and near-duplicates of an earlier line go, the others keep their order."""
    rows = [chat(LONG), chat(OTHER), chat(LONG.upper()), chat(LONG.replace("Lyon", "Bern"))]
    source, target = write(tmp_path / "in.jsonl", *rows), tmp_path / "out.jsonl"
    summary = deduplicate_file(source, target)
    assert (summary.read, summary.kept, summary.exact, summary.near) == (4, 2, 1, 1)
    assert target.read_bytes() == b"".join(source.read_bytes().splitlines(keepends=True)[:2])


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=60), max_size=8), st.sampled_from(["utf-8", "ascii"]))
def test_kept_lines_are_input_lines_and_a_second_pass_keeps_all(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], encoding: str
) -> None:
    """The output is a subsequence of the input's bytes; deduplicating it again changes no byte."""
    folder = tmp_path_factory.mktemp("dedup")
    source = folder / "in.jsonl"
    source.write_bytes(
        b"".join(json.dumps({"text": t}, ensure_ascii=encoding == "ascii").encode() + b"\r\n" for t in texts)
    )
    deduplicate_file(source, folder / "once.jsonl")
    deduplicate_file(folder / "once.jsonl", folder / "twice.jsonl")
    remaining = iter(source.read_bytes().split(b"\n"))
    assert all(line in remaining for line in (folder / "once.jsonl").read_bytes().split(b"\n"))
    assert (folder / "once.jsonl").read_bytes() == (folder / "twice.jsonl").read_bytes()


def test_a_last_line_without_an_end_is_kept_as_it_is(tmp_path: Path) -> None:
    """No byte is added; blank lines are no rows and are passed over."""
    source = write(tmp_path / "in.jsonl", b'{"text": "one"}\n', b"\n", b'{"text":  "two"}')
    summary = deduplicate_file(source, tmp_path / "out.jsonl")
    assert summary.read == 2
    assert (tmp_path / "out.jsonl").read_bytes() == b'{"text": "one"}\n{"text":  "two"}'


def test_broken_lines_are_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    """Cut JSON, bytes that are no UTF-8, depth without end and unknown shapes are named by line and left out."""
    bad = [b'{"text": "cu\n', b'{"text": "\xff"}\n', b"[" * 200_000 + b"\n", {"foo": 1}]
    source = write(tmp_path / "in.jsonl", chat(LONG), *bad, chat(OTHER))
    summary = deduplicate_file(source, tmp_path / "out.jsonl")
    assert [line for line, _ in summary.broken] == [2, 3, 4, 5]
    assert (summary.read, summary.kept, summary.broken_count) == (6, 2, 4)
    assert summary.broken[1][1] == "not UTF-8"
    assert summary.broken[0][1].startswith("not JSON")


def test_lone_surrogates_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    """Lines that other tools write and orjson refuses are no broken lines."""
    source = write(
        tmp_path / "in.jsonl", b'\xef\xbb\xbf{"text": "a"}\n', b'{"text": "\\ud800"}\n', b'{"text": "\\ud800"}\n'
    )
    summary = deduplicate_file(source, tmp_path / "out.jsonl")
    assert (summary.kept, summary.exact, summary.broken) == (2, 1, ())


def test_strict_names_the_file_and_the_line_and_leaves_the_target(tmp_path: Path) -> None:
    """Under `strict` the first broken line stops, and what was there before is still there."""
    source, target = write(tmp_path / "in.jsonl", chat(LONG), b"{\n"), write(tmp_path / "out.jsonl", b"before\n")
    with pytest.raises(UsageError, match=r"in\.jsonl:2: not JSON"):
        deduplicate_file(source, target, strict=True)
    assert target.read_bytes() == b"before\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_gzip_in_and_out(tmp_path: Path) -> None:
    """Compressed files are known by their first bytes, whatever their name, and written with the same bytes always."""
    source = tmp_path / "in.jsonl"
    line = json.dumps(chat(LONG)).encode() + b"\n"
    source.write_bytes(gzip.compress(line * 3))
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        assert deduplicate_file(source, tmp_path / name).exact == 2
    assert gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()) == line
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_a_cut_gzip_file_is_the_users_to_mend(tmp_path: Path) -> None:
    """A download that broke off is an error, not a shorter dataset."""
    source = tmp_path / "in.jsonl.gz"
    source.write_bytes(gzip.compress(json.dumps(chat(LONG)).encode() * 50)[:-9])
    with pytest.raises(UsageError, match="gzip"):
        deduplicate_file(source, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_against_drops_and_the_report_says_what_repeats_what(tmp_path: Path) -> None:
    """A line that repeats one of `against` goes, the reference itself is not written, the report names both lines."""
    reference = write(tmp_path / "ref.jsonl", b"{\n", chat(OTHER))
    source = write(tmp_path / "in.jsonl", chat(LONG), chat(OTHER), chat(LONG), chat(LONG.replace("two", "ten")))
    report = tmp_path / "clusters.jsonl"
    summary = deduplicate_file(source, tmp_path / "out.jsonl", against=[reference], report=report)
    assert (summary.kept, summary.exact, summary.near) == (1, 2, 1)
    assert summary.against_broken[0][0] == 1
    first, second = [json.loads(line) for line in report.read_bytes().splitlines()]
    duplicate = {"file": str(source), "line": 2, "similarity": 1.0, "exact": True}
    assert first == {"kept": {"file": str(reference), "line": 2}, "duplicates": [duplicate]}
    assert second["kept"] == {"file": str(source), "line": 1}
    assert [(row["line"], row["exact"]) for row in second["duplicates"]] == [(3, True), (4, False)]
    assert 0.8 < second["duplicates"][1]["similarity"] < 1


def test_a_cluster_is_one_line_that_names_rows_by_their_ids(tmp_path: Path) -> None:
    """Duplicates stand with what they repeat, in order, under their own ids, even odd ones that are no name."""
    ids = ["a", 7, "x:y", "\ud800", "a"]
    texts = [LONG, OTHER, LONG, OTHER, LONG]
    source = write(tmp_path / "in.jsonl", *({"id": i, "text": t} for i, t in zip(ids, texts, strict=True)))
    report = tmp_path / "clusters.jsonl"
    deduplicate_file(source, tmp_path / "out.jsonl", report=report)
    clusters = [json.loads(line) for line in report.read_bytes().splitlines()]
    assert [(c["kept"]["id"], [d["id"] for d in c["duplicates"]]) for c in clusters] == [
        ("a", ["x:y", "a"]),
        ("7", ["\ud800"]),
    ]


def test_a_reference_of_near_duplicates_is_taken_whole(tmp_path: Path) -> None:
    """Both of two similar reference lines count, so a source line is held against the nearer one too."""
    words = LONG.split()
    middle, far = " ".join([*words[2:], "thanks"]), " ".join([*words[6:], "thanks", "to", "all", "of", "you"])
    reference = write(tmp_path / "ref.jsonl", {"text": LONG}, {"text": middle})
    source = write(tmp_path / "in.jsonl", {"text": far})
    alone = write(tmp_path / "alone.jsonl", {"text": LONG})
    assert deduplicate_file(source, tmp_path / "out.jsonl", against=[alone]).near == 0
    assert deduplicate_file(source, tmp_path / "out.jsonl", against=[reference]).near == 1


def test_an_input_is_never_overwritten(tmp_path: Path) -> None:
    """The same path, another spelling of it, a link to it, a reference, or the report as the target: all refused."""
    source = write(tmp_path / "in.jsonl", chat(LONG))
    before = source.read_bytes()
    (tmp_path / "hard.jsonl").hardlink_to(source)
    (tmp_path / "soft.jsonl").symlink_to(source)
    for target in (source, tmp_path / "x" / ".." / "in.jsonl", tmp_path / "hard.jsonl", tmp_path / "soft.jsonl"):
        with pytest.raises(UsageError, match="also read"):
            deduplicate_file(source, target)
    other = tmp_path / "other.jsonl"
    with pytest.raises(UsageError, match="also read"):
        deduplicate_file(source, other, report=source)
    with pytest.raises(UsageError, match="also read"):
        deduplicate_file(source, other, report=other)
    with pytest.raises(UsageError, match="regular file"):
        deduplicate_file(source, tmp_path)
    assert source.read_bytes() == before


def test_missing_input_and_missing_folder(tmp_path: Path) -> None:
    """An input that is not there is the user's mistake; a folder that cannot be written is the disk's."""
    with pytest.raises(UsageError, match="no such file"):
        deduplicate_file(tmp_path / "none.jsonl", tmp_path / "out.jsonl")
    source = write(tmp_path / "in.jsonl", chat(LONG))
    with pytest.raises(DiskFailure, match="could not be written"):
        deduplicate_file(source, tmp_path / "none" / "out.jsonl")
    with pytest.raises(UsageError, match="is a folder"):
        deduplicate_file(source, tmp_path / "out.jsonl", against=[tmp_path])
    with pytest.raises(UsageError, match="threshold"):
        deduplicate_file(source, tmp_path / "out.jsonl", threshold=80)


@pytest.mark.parametrize("name", ["in.jsonl", "in.jsonl.gz"])
def test_a_file_of_broken_lines_only_is_no_empty_dataset(tmp_path: Path, name: str) -> None:
    """What is no JSONL at all is refused with its first problem; an empty file is an empty dataset."""
    pack = gzip.compress if name.endswith(".gz") else bytes
    source, target = tmp_path / name, tmp_path / "out.jsonl"
    source.write_bytes(pack(b'{\n  "text": "pretty-printed"\n}\n'))
    with pytest.raises(UsageError, match="none of its 3 lines could be read; line 1: not JSON"):
        deduplicate_file(source, target)
    assert not target.exists()
    source.write_bytes(pack(b"\n"))
    assert deduplicate_file(source, target).read == 0
    assert target.read_bytes() == b""


def test_lines_are_long_mixed_and_end_as_they_like(tmp_path: Path) -> None:
    """A line of 10 MB, three shapes of the same chat, CRLF and a line without an end pass byte for byte."""
    long = json.dumps({"text": "long " * 2_000_000}).encode() + b"\r\n"
    same: list[Any] = [
        {"instruction": LONG, "output": OTHER},
        {"conversations": [{"from": "human", "value": LONG}, {"from": "gpt", "value": OTHER}]},
        {"prompt": [{"role": "user", "content": LONG}], "completion": OTHER},
    ]
    source = write(tmp_path / "in.jsonl", long, *same, long, b' {"text": "the last"} ')
    summary = deduplicate_file(source, tmp_path / "out.jsonl")
    assert (summary.kept, summary.exact) == (3, 3)
    first = json.dumps(same[0]).encode() + b"\n"
    assert (tmp_path / "out.jsonl").read_bytes() == long + first + b' {"text": "the last"} '


def test_progress_is_heard(tmp_path: Path) -> None:
    """Every hundred lines and at the end."""
    source = write(tmp_path / "in.jsonl", *({"text": str(number)} for number in range(250)))
    heard: list[int] = []
    deduplicate_file(source, tmp_path / "out.jsonl", on_progress=heard.append)
    assert heard == [100, 200, 250]
