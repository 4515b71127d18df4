"""The section `filters`: short forms, the files and functions that it names, and what they are to the fingerprint."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from synth_async.config.fingerprint import describe_parts, diff_parts, fingerprints
from synth_async.config.loading import load_config
from synth_async.config.models import Filters, Pii, Profanity, Repetition
from synth_async.errors import ConfigError

BASE = """\
name: a
domain: d
system_prompt: s
target: 10
endpoints: {main: {model: m}}
"""


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A config in a folder with lists of words and a module of the user's."""
    (tmp_path / "words.txt").write_text("# mild ones\ndarn\n\n go to blazes \n", encoding="utf-8")
    (tmp_path / "same.txt").write_text("darn\ngo to blazes\n", encoding="utf-8")
    (tmp_path / "more.txt").write_text("darn\nheck\n", encoding="utf-8")
    (tmp_path / "shop_rules.py").write_text("def tone(line):\n    return None\n", encoding="utf-8")
    (tmp_path / "c.yaml").write_text(BASE, encoding="utf-8")
    before = list(sys.path)
    yield tmp_path / "c.yaml"
    sys.path[:] = before
    sys.modules.pop("shop_rules", None)


def filters_of(path: Path, *overrides: str) -> Filters:
    """The section, with some keys set."""
    return load_config(path, overrides).config.filters


def mistakes(path: Path, *overrides: str) -> str:
    """What is wrong with a config."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value)


def test_a_value_alone_stands_for_a_section(path: Path) -> None:
    """The action of `pii`, the share of `repetition`, the words of `profanity`, one language; `false` is off."""
    given = ("filters.pii=redact", "filters.repetition=0.2", "filters.profanity=[darn]", "filters.language=en")
    filters = filters_of(path, *given)
    assert filters.pii == Pii(action="redact")
    assert filters.repetition == Repetition(share=0.2)
    assert filters.profanity == Profanity(words=("darn",))
    assert filters.language == ("en",)
    off = filters_of(path, *(f"filters.{key}=false" for key in ("pii", "repetition", "profanity", "leakage")))
    assert (off.pii, off.repetition, off.profanity, off.leakage) == (None, None, None, False)
    assert filters_of(path, "filters.pii.kinds=[card]").pii == Pii(kinds=("card",))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("filters.pii=hide", "filters.pii: must be one of drop, redact, keep"),
        ("filters.pii.kinds=[name]", "filters.pii.kinds.0: must be one of email"),
        ("filters.pii.kinds=[]", "must not be empty"),
        ("filters.repetition=true", "must be a section with keys"),
        ("filters.repetition=2", "must be at most 1"),
        ("filters.profanity={where: user}", "has neither words nor a file"),
        ("filters.profanity={file: none.txt}", "there is no file"),
        ("filters.language=no", "Norwegian is 'no' in quotes"),
        ("filters.language=[en, no]", "must be text, got false: put it in quotes"),
        ("filters.language=english", "does not have the form"),
        ("filters.language=[en, qq]", "no language that can be told apart has the code 'qq'"),
        ("filters.custom=[shop_rules:nothing]", "filters.custom.0: shop_rules:nothing cannot be loaded"),
        ("filters.custom=['shop rules']", "filters.custom.0"),
    ],
)
def test_mistakes_are_told_with_their_place(path: Path, override: str, message: str) -> None:
    """Before anything is sent."""
    assert message in mistakes(path, override)


def test_without_its_package_a_language_is_a_mistake(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, "py3langid", None)
    assert "filters.language: needs an optional package: pip install 'synth-async[language]'" in mistakes(
        path, "filters.language=en"
    )


def test_words_of_a_file_stand_beside_those_of_the_config(path: Path) -> None:
    """One a line, comments and blank lines left out; a run reads the file no more."""
    filters = filters_of(path, "filters.profanity={words: [heck], file: words.txt}")
    assert filters.profanity == Profanity(words=("heck", "darn", "go to blazes"), file=path.parent / "words.txt")


def test_a_module_beside_the_config_can_be_named(path: Path) -> None:
    """It is looked for on Python's path first."""
    assert filters_of(path, "filters.custom=[shop_rules:tone]").custom == ("shop_rules:tone",)
    assert sys.path[-1] == str(path.parent)


def test_lists_and_functions_count_by_what_they_hold(path: Path) -> None:
    """Not by the name of a file; a change of a function's code is a change of the filters."""
    config = load_config(path, ["filters.profanity.file=words.txt"]).config
    assert fingerprints(config) == fingerprints(load_config(path, ["filters.profanity.file=same.txt"]).config)
    assert (
        fingerprints(config)["filter"]
        != fingerprints(load_config(path, ["filters.profanity.file=more.txt"]).config)["filter"]
    )
    own = load_config(path, ["filters.custom=[shop_rules:tone]"]).config
    before = describe_parts(own)
    (path.parent / "shop_rules.py").write_text("def tone(line):\n    return 'x'\n", encoding="utf-8")
    [change] = diff_parts(before, describe_parts(own))
    assert change.startswith("filters.custom.shop_rules:tone: ")
    assert change.endswith(" (filter)")
