from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_async.config.source import MAX_DEPTH, MAX_NODES, Mistake, dotted, looks_secret, parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1e3", 1000.0),
        ("a: +.5", 0.5),
        ("a: 1_000", 1000),
        ("a: 0x1f", 31),
        ("a: 2024-01-02", "2024-01-02"),
        ("a: 11:30", "11:30"),
        ("a: 007", "007"),
        ("a: ~", None),
        ("a:", None),
        ("a: off", False),
        ("a: '5'", "5"),
        ("a: .inf", ".inf"),
    ],
)
def test_plain_values(text: str, value: object) -> None:
    """Plain values are null, booleans, decimal or hexadecimal integers, decimal numbers, and else text."""
    assert parse_yaml(text).tree == {"a": value}


def test_keys_are_the_text_as_written() -> None:
    """A key is never read as a number, a boolean or null."""
    assert parse_yaml("1: a\nyes: b\n~: c").tree == {"1": "a", "yes": "b", "~": "c"}


def test_lines_of_keys_entries_and_block_texts() -> None:
    """Every key and entry has its line, and a block text the line of its first character."""
    source = parse_yaml("a:\n  - x\n  - b: |\n\n      text\n")
    assert source.lines == {("a",): 1, ("a", 0): 2, ("a", 1): 3, ("a", 1, "b"): 3}
    assert source.text_lines == {("a", 1, "b"): 4}


def test_a_merge_gives_way_to_keys_that_stand_there() -> None:
    """`<<` fills in what is left out, the first of several first."""
    assert parse_yaml("x: &x {a: 1, b: 2}\nw: &w {b: 9, c: 9}\ny: {<<: [*x, *w], a: 3}").tree["y"] == {
        "a": 3,
        "b": 2,
        "c": 9,
    }


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("a: 1\nb: 2\na: 3", Mistake(("a",), "given twice, first in line 1", 3)),
        ("a: b: c", Mistake((), "not valid YAML: mapping values are not allowed in this context (column 5)", 1)),
        ("a: 1\n\tb: 2", Mistake((), "not valid YAML: a tab in the indentation, use spaces", 2)),
        ("a: 1\n---\nb: 1", Mistake((), "holds several YAML documents, one is wanted", 2)),
        ("a: \x07", Mistake((), "not valid YAML: a character that YAML does not allow", 1)),
        ("? [a]\n: b", Mistake((), "a key must be text", 1)),
        ("a: !!python/object:os.system x", Mistake(("a",), "has a YAML tag that is not known here", 1)),
        ("a: !!int foo", Mistake(("a",), "is not a YAML int", 1)),
        ("a: 99999999999999999999", Mistake(("a",), "does not fit in 64 bits", 1)),
        ("a: 1e999", Mistake(("a",), "must be a finite number", 1)),
        ("a: &a [*a]", Mistake(("a", 0), "an alias stands inside its own anchor", 1)),
        ("a: {<<: 3}", Mistake(("a",), "<< wants a mapping, or a list of mappings", 1)),
        ("[" * 100_000, Mistake((), f"nested deeper than {MAX_DEPTH} levels", None)),
    ],
)
def test_mistakes_have_words_and_a_line(text: str, mistake: Mistake) -> None:
    """What is not a config is said in plain words, at its line."""
    assert parse_yaml(text).mistakes == [mistake]


def test_aliases_cannot_multiply_without_end() -> None:
    """Nine levels of nine aliases are refused, and read in bounded time."""
    levels = "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    mistakes = parse_yaml("a0: &a0 [x]\n" + levels).mistakes
    assert [mistake.message for mistake in mistakes] == [
        f"holds more than {MAX_NODES} values, counting aliases each time"
    ]


@given(st.text(alphabet=st.characters() | st.sampled_from("{}[]:,-&*!|>'\"%@`#?\n \t<~.0123456789abe"), max_size=60))
def test_any_text_gives_a_tree_or_mistakes(text: str) -> None:
    """No text raises."""
    source = parse_yaml(text)
    assert source.tree is None or isinstance(source.tree, str | int | float | list | dict)


@pytest.mark.parametrize(
    "text",
    ["sk-proj-abcdef", "gsk_a1b2c3d4e5f6g7h8", "hf_aBcDeFgHiJ0123456789", "AIzaSyA1234567890abcdef", "9f" * 16],
)
def test_keys_are_recognised(text: str) -> None:
    """The usual prefixes and long mixed runs count as secrets, and are left out of a dotted path."""
    assert looks_secret(text)
    assert dotted(("endpoints", text, "model")) == "endpoints.***.model"


@pytest.mark.parametrize(
    "text", ["OPENAI_API_KEY", "HF_TOKEN_PRODUCTION_2", "KEY_FOR_BILLING_TEAM", "gpt-4o-mini", "hot"]
)
def test_names_are_not_taken_for_keys(text: str) -> None:
    """Names of variables and of models are no secrets."""
    assert not looks_secret(text)
