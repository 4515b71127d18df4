"""What docs/ shows is true: configs validate, snippets run, commands parse, links lead somewhere."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from typer.main import get_command

from synth_async.cli import app
from synth_async.config import Config, load_config, reference
from synth_async.config.schema import json_schema
from synth_async.config.starter import STARTER

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md"])

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MODULE = re.compile(r"# (\w+)\.py\n")
_TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
_ROW = {"messages": _TURNS, "persona": "p", "topic": "t"}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(*kinds: str) -> list[Block]:
    """Every fenced block of these kinds, in order."""
    return [block for page in PAGES for block in blocks_of(page) if block.kind in kinds]


def blocks_of(page: Path) -> Iterator[Block]:
    """Every fenced block of a page."""
    text = page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        yield Block(page, text.count("\n", 0, match.start()) + 1, match[1], match[2])


def module_name(block: Block) -> str | None:
    """The name of the module that a Python block is to be saved as; None where it is a script."""
    found = _MODULE.match(block.text)
    return found[1] if found else None


CONFIGS = [each for each in blocks("yaml") if "endpoints:" in each.text]
SCRIPTS = [each for each in blocks("python") if module_name(each) is None]
MODULES = [each for each in blocks("python") if module_name(each) is not None]


def save_modules(folder: Path, page: Path) -> None:
    """The modules that a page shows, as files."""
    for block in MODULES:
        if block.page == page:
            (folder / f"{module_name(block)}.py").write_text(block.text, encoding="utf-8")


def files_in(tree: Any) -> Iterator[str]:
    """The files that a config names."""
    for key, value in tree.items() if isinstance(tree, dict) else ():
        if key == "file" and isinstance(value, str):
            yield value
        yield from files_in(value)


# --- configs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", CONFIGS, ids=str)
def test_every_config_that_is_shown_has_no_mistake(block: Block, tmp_path: Path) -> None:
    """It loads as it stands, with the files beside it that it names."""
    (tmp_path / "config.yaml").write_text(block.text, encoding="utf-8")
    for name in files_in(yaml.safe_load(block.text)):
        content = orjson.dumps(_ROW) + b"\n" if name.endswith(".jsonl") else b"one\n"
        (tmp_path / name).write_bytes(content)
    save_modules(tmp_path, block.page)
    load_config(tmp_path / "config.yaml")


def test_the_cookbook_shows_whole_configs() -> None:
    """Each of its pages has at least one."""
    assert {page for page in PAGES if page.parent.name == "cookbook"} <= {block.page for block in CONFIGS}


def test_the_reference_is_current() -> None:
    """`python -m synth_async.config.reference` would write the page that is there."""
    assert (DOCS / "config.md").read_text(encoding="utf-8") == reference.render()


def test_the_reference_has_every_key_of_every_model() -> None:
    """Each model of the schema has one section, and each key one row."""
    schema = json_schema()
    first, *others = reference.render().split("\n## ")[1:]
    rows = [re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) for section in others]
    assert set(re.findall(r"^\| `(\w+)` \|", first, re.MULTILINE)) == set(Config.model_fields)
    assert sorted(map(sorted, rows)) == sorted(sorted(model["properties"]) for model in schema["$defs"].values())
    assert len({section.partition("\n")[0] for section in others}) == len(others)


# --- commands ------------------------------------------------------------------------------------


def commands_in(text: str) -> Iterator[list[str]]:
    """The `synth-async` commands of a shell block, comments left out, continued lines joined."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["synth-async"]:
            yield words[1:]


COMMANDS = [(str(block), words) for block in blocks("sh") for words in commands_in(block.text)]


@pytest.mark.parametrize(("where", "words"), COMMANDS, ids=lambda each: each if isinstance(each, str) else each[0])
def test_every_command_that_is_shown_parses(where: str, words: list[str]) -> None:
    """The command line's own parser takes it."""
    command: Any = get_command(app)  # a group of click, which typer brings along under a name of its own
    with command.make_context(where, list(words)) as context:
        name, verb, rest = command.resolve_command(context, list(words))
        verb.make_context(name, list(rest), parent=context)


@pytest.mark.slow
def test_the_quickstart_ends_in_a_file_that_is_valid(tmp_path: Path) -> None:
    """Its commands run one after the other, from `init` to `validate-dataset`."""
    [first, *_] = [block for block in blocks("sh") if block.page.name == "quickstart.md"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for words in commands_in(first.text):
        command = [sys.executable, "-m", "synth_async", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (words, done.stderr)
    assert (tmp_path / "train-files" / "train.jsonl").stat().st_size > 0


# --- Python --------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", SCRIPTS, ids=str)
def test_every_script_that_is_shown_runs(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends without an error, beside a config of the embedded endpoint, and says something."""
    quick = STARTER.replace("model: simulator", "model: simulator\n    simulation: {latency_s: 0.01}")
    (tmp_path / "config.yaml").write_text(quick.replace("target: 200", "target: 15"), encoding="utf-8")
    save_modules(tmp_path, block.page)
    script = tmp_path / "script.py"
    script.write_text(block.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out


@pytest.mark.parametrize("block", MODULES, ids=str)
def test_every_module_that_is_shown_loads(block: Block, tmp_path: Path) -> None:
    """It defines what it says, and does nothing else."""
    save_modules(tmp_path, block.page)
    assert len(runpy.run_path(str(tmp_path / f"{module_name(block)}.py"))) > 0


@pytest.mark.slow
def test_every_snippet_is_typed(tmp_path: Path) -> None:
    """Mypy --strict has nothing to say of them, with no more than what the package ships."""
    for number, block in enumerate([*SCRIPTS, *MODULES]):
        (tmp_path / f"{module_name(block) or f'snippet_{number}'}.py").write_text(block.text, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", os.devnull, str(tmp_path)]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "MYPYPATH": ""}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


# --- links ---------------------------------------------------------------------------------------


def anchors_of(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


LINKS = [
    (page, target)
    for page in PAGES
    for target in re.findall(r"\]\(([^)\s]+)\)", _BLOCK.sub("", page.read_text(encoding="utf-8")))
    if not target.startswith(("http://", "https://"))
]


@pytest.mark.parametrize(("page", "target"), LINKS, ids=lambda each: each if isinstance(each, str) else each.name)
def test_every_link_leads_somewhere(page: Path, target: str) -> None:
    """The file is there, and the heading in it."""
    name, _, anchor = target.partition("#")
    linked = (page.parent / name).resolve() if name else page
    assert linked.exists()
    assert not anchor or anchor in anchors_of(linked)


def test_every_page_is_linked_from_the_readme() -> None:
    """Whoever reads the README finds each page of docs/."""
    linked = {(page.parent / target.partition("#")[0]).resolve() for page, target in LINKS if page.name == "README.md"}
    assert set(DOCS.rglob("*.md")) <= linked
