"""What the README says of configs, verbs and exit codes is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from typer.main import get_command

from synth_async.cli import app
from synth_async.errors import ExitCode

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_config_that_is_shown_is_the_one_that_ships() -> None:
    """The block is configs/customer_support.yaml without its first line, which is for editors."""
    shown = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    shipped = (ROOT / "configs" / "customer_support.yaml").read_text(encoding="utf-8").split("\n", 1)[1]
    assert shown is not None
    assert shown[1] == shipped


def test_every_verb_is_named_and_no_other() -> None:
    """The table of verbs and the command line agree."""
    table = README.split("## Verbs", 1)[1].split("##", 1)[0]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    named = {verb for cell in cells for verb in re.findall(r"`([a-z-]+)", cell)}
    assert named == set(get_command(app).commands)  # type: ignore[attr-defined]


def test_every_exit_code_is_named() -> None:
    """The table of exit codes and the enum agree."""
    rows = re.findall(r"^\| (\d+) \|", README, re.MULTILINE)
    assert [int(row) for row in rows] == [int(code) for code in ExitCode]


def test_every_test_that_is_named_exists() -> None:
    """A promise is as good as its test: each one named is defined in one of the files beside this one."""
    section = README.split("## What is promised", 1)[1].split("\n## ", 1)[0]
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", section))
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    assert named
    assert named <= set(re.findall(r"^(?:async )?def (test_[a-z0-9_]+)\(", sources, re.MULTILINE))


def test_every_promise_names_a_test() -> None:
    """No line of the two tables stands without one."""
    section = README.split("## What is promised", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in section.splitlines() if line.startswith("| ") and not line.endswith("| test |")]
    assert len(rows) >= 18
    assert [row for row in rows if not re.search(r"\| `test_\w+`(, `test_\w+`)* \|$", row)] == []
