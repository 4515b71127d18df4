"""`export` and `validate-dataset` as a user runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from chat_rows import example, read_rows, write_rows

from synth_async.cli import ExportFormat
from synth_async.dataset.formats import FORMATS

ROOT = Path(__file__).parent.parent


def synth(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The finished process of one verb."""
    return subprocess.run(
        [sys.executable, "-m", "synth_async", *map(str, arguments)],
        cwd=cwd, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of twelve examples."""
    return write_rows(tmp_path / "in.jsonl", *[example(number) for number in range(12)])


def test_the_choices_are_the_formats() -> None:
    """What the command line offers is what there is."""
    assert [choice.value for choice in ExportFormat] == list(FORMATS)


def test_export_prints_the_path_and_validate_takes_what_it_wrote(source: Path) -> None:
    """Stdout holds the path alone; the check of the file is exit 0 with nothing on stdout."""
    done = synth("export", source, "--format", "openai", cwd=source.parent)
    written = source.parent / "export-openai" / "train.jsonl"
    assert (done.returncode, done.stdout) == (0, f"{written}\n")
    checked = synth("validate-dataset", written, "--format", "openai", cwd=source.parent)
    assert (checked.returncode, checked.stdout) == (0, "")


def test_export_prints_its_counts_as_json(source: Path) -> None:
    """Everything that the summary tells, also what was left out."""
    with source.open("a") as file:
        file.write("{\n")
    done = synth("export", source, "--format", "sharegpt", "--out", "x.jsonl", "--json", cwd=source.parent)
    told = json.loads(done.stdout)
    assert (done.returncode, told["rows"], told["dropped"]) == (0, 12, {"unreadable": 1})
    assert len(read_rows(source.parent / "x.jsonl")) == 12


def test_breaches_are_exit_1_with_their_lines(source: Path) -> None:
    """Each is a line on stdout, `--show` bounds them, and the count goes to stderr."""
    done = synth("validate-dataset", source, "--format", "openai", "--show", "3", cwd=source.parent)
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == f"{source}:1: unknown key 'id'"
    assert len(done.stdout.splitlines()) == 3
    assert "24 breaches in 12 of 12 rows; 21 are not shown" in done.stderr
    told = json.loads(synth("validate-dataset", source, "--format", "openai", "--json", cwd=source.parent).stdout)
    assert (told["breach_count"], len(told["breaches"])) == (24, 24)


@pytest.mark.parametrize(
    "arguments",
    [
        ("export", "missing.jsonl", "--format", "openai"),
        ("export", ".", "--format", "openai"),
        ("export", "in.jsonl", "--format", "trl-dpo"),
        ("export", "in.jsonl", "--format", "csv"),
        ("export", "in.jsonl"),
        ("validate-dataset", "missing.jsonl", "--format", "openai"),
        ("validate-dataset", "in.jsonl", "--format", "csv"),
    ],
)
def test_what_only_the_user_can_put_right_is_exit_2(source: Path, arguments: tuple[str, ...]) -> None:
    """A message on stderr, nothing on stdout."""
    done = synth(*arguments, cwd=source.parent)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr
    assert "Traceback" not in done.stderr
