"""What users bring themselves: lists of words, and functions."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filter_cases import REPLY, breach_of, conversation_of, example_of, reason_of
from hypothesis import given
from hypothesis import strategies as st

from synth_async.config.extensions import function_digest, load_function
from synth_async.errors import UsageError
from synth_async.records import Drop, Stage

# --- profanity -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("darn", "Well, DARN it."),
        ("darn", "(darn)"),
        ("Straße", "in der STRASSE dort"),
        ("strasse", "in der Straße dort"),
        ("ćwok", "Ty C\u0301WOKU? nie, ty c\u0301wok!"),
        ("go to blazes", "Just go  to\nblazes!"),
        ("half-wit", "What a half-wit."),
        ("half-wit", "What a half wit."),
        ("don't", "I don’t know"),
        ("d*rn", "Well, D*RN it"),
        ("@sshat", "you @sshat!"),
        ("笨蛋", "你这个笨蛋真的很笨"),
        ("дурак", "Вот ДУРАК."),
    ],
)
def test_listed_words_are_found_in_any_case_and_script(entry: str, text: str) -> None:
    """Whole words and phrases, letters of scripts without spaces, spellings with signs."""
    assert reason_of(breach_of(example_of(user=text), profanity=[entry])) == "profanity"


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("ass", "The class passes the assembly in Massachusetts, and its assets."),
        ("darn", "She darned the socks, with a darning needle."),
        ("go to blazes", "They go to the place where it blazes."),
        ("d*rn", "darn, and d*rned"),
        ("笨蛋", "我很笨\N{FULLWIDTH COMMA}他买了鸡蛋"),
        ("ж", "уж и ёж"),
    ],
)
def test_parts_of_words_are_not(entry: str, text: str) -> None:
    """A name that holds a listed word is no profanity."""
    assert breach_of(example_of(user=text), profanity=[entry]) is None


@given(st.lists(st.text(st.characters(categories=["L"]), min_size=1, max_size=8), min_size=1, max_size=5), st.data())
def test_any_word_that_stands_in_a_list_is_found(words: list[str], data: st.DataObject) -> None:
    """Whatever its letters, as a word of a text in upper or lower case."""
    word = data.draw(st.sampled_from(words))
    for text in (f"so {word} it is", f"so ({word.lower()}) it is", word):
        assert reason_of(breach_of(example_of(user=text), profanity=words)) == "profanity"


def test_the_side_and_what_was_found_are_told() -> None:
    """One side may swear where only the other is searched."""
    one = example_of("Darn, the lamp is broken", REPLY)
    assert breach_of(one, profanity=["darn"]) == Drop(Stage.FILTER, "profanity", 'user: "darn"')
    assert breach_of(one, profanity={"words": ["darn"], "where": "assistant"}) is None


# --- functions -----------------------------------------------------------------------------------

MODULE = """
LIMIT = 3

def shouts(line):
    line["messages"][0]["content"] = "changed"
    return "too  loud\\n" + "!" * 200 if line["messages"][-1]["content"].isupper() else None

def sees(line):
    return repr(sorted(line)) + repr(sorted(line["metadata"]))

def fails(line):
    raise KeyError("tone")

def odd(line):
    return True

class Rules:
    @staticmethod
    def quiet(line):
        return None
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module of a user's, `shop_checks`, on Python's path."""
    path = tmp_path / "shop_checks.py"
    path.write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield path
    sys.modules.pop("shop_checks", None)


def custom(function: str, one: Any = None) -> Drop | None:
    """The breach by one function."""
    return breach_of(one or example_of(), custom=[f"shop_checks:{function}"])


@pytest.mark.usefixtures("module")
def test_a_function_drops_under_its_own_name() -> None:
    """What it says is the detail, on one line and not without end; it cannot change the example."""
    one = example_of(assistant="ALL IS WELL")
    drop = custom("shouts", one)
    assert drop is not None
    assert drop.reason == "shouts"
    assert drop.detail.startswith("too loud !!!")
    assert len(drop.detail) == 100
    assert one == example_of(assistant="ALL IS WELL")
    assert custom("shouts") is None
    assert custom("Rules.quiet") is None


@pytest.mark.usefixtures("module")
def test_a_function_sees_a_line_of_the_dataset() -> None:
    """Id, messages, and what is known before anything is decided."""
    drop = custom("sees")
    assert drop is not None
    assert drop.detail == "['id', 'messages', 'metadata']['category', 'facets', 'model', 'sample', 'topic']"


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("fails", r"shop_checks:fails failed on example 0{16}: KeyError: 'tone'; mend it"),
        ("odd", r"shop_checks:odd answered with a bool for example 0{16}"),
    ],
)
def test_what_goes_wrong_in_a_function_is_the_users_to_mend(function: str, message: str) -> None:
    """An error names the function and the example; it is no crash."""
    with pytest.raises(UsageError, match=message):
        custom(function, conversation_of("a", "b"))


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shop_checks:nothing", "cannot be loaded: AttributeError"),
        ("shop_checks:LIMIT", "is a int, a function is wanted"),
        ("no_such_module:f", "cannot be loaded: ModuleNotFoundError"),
        ("tone_police", "no entry point of synth_async.filters is named tone_police"),
    ],
)
def test_what_cannot_be_loaded_is_said_by_name(name: str, message: str) -> None:
    """Before the first example, and so before the first request."""
    with pytest.raises(UsageError, match=f"{name} {message}" if name != "tone_police" else message):
        breach_of(example_of(), custom=[name])


def test_a_module_that_fails_when_it_is_imported_is_a_mistake_of_the_user(module: Path) -> None:
    """Whatever its code raises."""
    module.write_text("1 / 0", encoding="utf-8")
    with pytest.raises(UsageError, match="shop_checks:f cannot be loaded: ZeroDivisionError"):
        load_function("shop_checks:f")


def test_the_digest_follows_the_file_of_a_function(module: Path) -> None:
    """Another code is another digest; what is built in has none."""
    first = function_digest("shop_checks:shouts")
    assert first == function_digest("shop_checks:fails")
    module.write_text(MODULE.replace("200", "20"), encoding="utf-8")
    assert function_digest("shop_checks:shouts") != first
    assert function_digest("builtins:len") == ""


def test_an_entry_point_can_be_named(tmp_path: Path, module: Path) -> None:
    """An installed package offers functions in the group `synth_async.filters`."""
    folder = tmp_path / "shop_checks-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: shop-checks\nVersion: 1.0\n", encoding="utf-8")
    (folder / "entry_points.txt").write_text("[synth_async.filters]\ntone = shop_checks:shouts\n", encoding="utf-8")
    assert module.exists()
    assert reason_of(breach_of(example_of(assistant="ALL IS WELL"), custom=["tone"])) == "tone"
