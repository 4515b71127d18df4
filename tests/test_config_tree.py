"""A config as plain values, in place of a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from synth_async.config import fingerprints, load_config
from synth_async.config.extensions import function_digest, function_name
from synth_async.config.loading import config_of_tree, tree_of
from synth_async.errors import ConfigError, UsageError

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_is_the_same_after_a_detour_over_its_values(path: Path, tmp_path: Path) -> None:
    """What it says, read again from any folder, is equal and has the same fingerprints and inputs."""
    (tmp_path / "words.txt").write_text("c\nb\n", encoding="utf-8")
    own = f"filters.profanity={{words: [b, a], file: '{tmp_path / 'words.txt'}'}}"
    loaded = load_config(path.absolute(), [own])
    again = config_of_tree(tree_of(loaded.config), tmp_path / "config")
    assert again.config == loaded.config
    assert fingerprints(again.config) == fingerprints(loaded.config)
    assert (again.context, again.topics, again.personas) == (loaded.context, loaded.topics, loaded.personas)


def test_paths_and_tuples_may_stand_in_a_mapping(tmp_path: Path) -> None:
    """Values of Python that YAML has no name for are read as what they stand for."""
    (tmp_path / "topics.txt").write_text("one\n", encoding="utf-8")
    tree = {
        "name": "n",
        "domain": "d",
        "system_prompt": "s",
        "target": 1,
        "endpoints": {"e": {"model": "m"}},
        "topics": {"file": tmp_path / "topics.txt"},
        "facets": {"tone": ("calm", "loud")},
    }
    loaded = config_of_tree(tree, Path("config"))
    assert [topic.text for topic in loaded.topics] == ["one"]
    assert list(loaded.config.facets["tone"].values) == ["calm", "loud"]


def test_mistakes_in_a_mapping_bear_the_name_that_it_was_given() -> None:
    """They have no lines."""
    with pytest.raises(ConfigError) as caught:
        config_of_tree({"name": "n"}, Path("config"))
    assert {(problem.file, problem.line) for problem in caught.value.problems} == {("config", None)}


def test_a_function_is_named_as_a_config_names_it() -> None:
    """`package.module:function`; what is not found by that is refused."""
    assert function_name(load_config) == "synth_async.config.loading:load_config"
    for unnamed in (lambda: None, Path().exists, function_name.__get__(1)):
        with pytest.raises(UsageError, match="cannot be found by its name"):
            function_name(unnamed)


def test_a_function_of_a_notebook_has_a_digest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cell has the name of a file that is not there; its source tells one version from the next."""
    import linecache  # noqa: PLC0415
    import sys  # noqa: PLC0415
    from types import ModuleType  # noqa: PLC0415

    def digest_of(body: str) -> str:
        cell, source = str(tmp_path / "cell.py"), f"def check(example):\n    {body}\n"
        module = ModuleType("notebook")
        exec(compile(source, cell, "exec"), module.__dict__)  # noqa: S102 - this is what a notebook does
        monkeypatch.setitem(linecache.cache, cell, (len(source), None, source.splitlines(keepends=True), cell))
        monkeypatch.setitem(sys.modules, "notebook", module)
        return function_digest("notebook:check")

    assert len(digest_of("return None")) == 32
    assert digest_of("return None") == digest_of("return None") != digest_of("return 'no'")
