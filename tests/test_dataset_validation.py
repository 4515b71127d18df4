"""A file is checked to its end, every breach counted, each with its line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from chat_rows import example, write_rows

from synth_async.dataset.formats import FORMATS
from synth_async.dataset.validation import MAX_BREACHES_KEPT, Breach, validate_file
from synth_async.errors import UsageError

GOOD = {"messages": example(1)["messages"]}


def test_breaches_have_the_line_they_stand_in(tmp_path: Path) -> None:
    """Blank lines are counted, broken JSON, encodings and a byte order mark are told."""
    lines = [json.dumps(GOOD).encode(), b"", b"{", b"\xff", b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), b"[NaN]"]
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\n".join(lines))
    found = validate_file(path, FORMATS["jsonl"])
    assert [breach.line for breach in found.breaches] == [3, 4, 5, 6]
    assert "not UTF-8" in found.breaches[1].message
    assert "byte order mark" in found.breaches[2].message
    assert (found.rows, found.rows_in_breach) == (5, 4)


def test_all_are_counted_and_a_thousand_kept(tmp_path: Path) -> None:
    """The count goes on where the list ends."""
    path = write_rows(tmp_path / "x.jsonl", *[{"id": number} for number in range(MAX_BREACHES_KEPT + 5)])
    found = validate_file(path, FORMATS["openai"])
    assert len(found.breaches) == MAX_BREACHES_KEPT
    assert found.breach_count == 2 * (MAX_BREACHES_KEPT + 5)
    assert found.rows_in_breach == MAX_BREACHES_KEPT + 5


def test_a_file_too_small_is_a_breach_of_the_file(tmp_path: Path) -> None:
    """OpenAI takes no fewer than ten examples; nobody takes an empty file."""
    nine = validate_file(write_rows(tmp_path / "9.jsonl", *[GOOD] * 9), FORMATS["openai"])
    assert nine.breaches == [Breach(None, "9 rows; openai takes no fewer than 10")]
    assert validate_file(write_rows(tmp_path / "10.jsonl", *[GOOD] * 10), FORMATS["openai"]).breach_count == 0
    assert validate_file(write_rows(tmp_path / "0.jsonl"), FORMATS["trl-sft"]).breach_count == 1


def test_a_file_holds_one_shape(tmp_path: Path) -> None:
    """Rows of different columns make null columns, which trainers stumble over."""
    other = {"prompt": [GOOD["messages"][1]], "completion": [GOOD["messages"][2]]}
    found = validate_file(write_rows(tmp_path / "x.jsonl", GOOD, other, GOOD), FORMATS["trl-sft"])
    assert [breach.line for breach in found.breaches] == [2]


def test_gzip_and_json_arrays_are_read(tmp_path: Path) -> None:
    """LLaMA-Factory's files are arrays; rows are numbered as lines are."""
    packed = tmp_path / "x.jsonl.gz"
    packed.write_bytes(gzip.compress(json.dumps(GOOD).encode()))
    assert validate_file(packed, FORMATS["jsonl"]).rows == 1
    array = tmp_path / "x.json"
    array.write_text(json.dumps([{"instruction": "Q", "output": "A"}, {"instruction": "Q"}]))
    found = validate_file(array, FORMATS["alpaca"])
    assert (found.rows, found.breaches) == (2, [Breach(2, "no output")])


@pytest.mark.parametrize(("name", "content"), [("missing.jsonl", None), ("x.json", "{"), ("x.json", "{}")])
def test_what_cannot_be_read_at_all_is_no_breach(tmp_path: Path, name: str, content: str | None) -> None:
    """It is the user's mistake, with the file named."""
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=name):
        validate_file(tmp_path / name, FORMATS["alpaca"])
