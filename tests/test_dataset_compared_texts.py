"""The texts of a row: every common shape of chat gives the same turns, and what cannot be read says why."""

from __future__ import annotations

from typing import Any

import pytest

from synth_async.dataset.compared_texts import id_of_row, parsed_row, parts_of_row
from synth_async.stages.conversations import UnreadableRow

SYSTEM, USER, ASSISTANT = ({"role": r, "content": c} for r, c in (("system", "S"), ("user", "Q"), ("assistant", "A")))


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [SYSTEM, USER, ASSISTANT]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Q"}]}, ASSISTANT]},
        {
            "conversations": [
                {"from": "system", "value": "S"},
                {"from": "human", "value": "Q"},
                {"from": "gpt", "value": "A"},
            ]
        },
        {"instruction": "Q", "output": "A"},
        {"instruction": "Q", "input": "", "output": "A"},
        {"prompt": "Q", "completion": "A"},
        {"prompt": "Q", "chosen": "A", "rejected": "B"},
        {"prompt": [USER], "chosen": [ASSISTANT], "rejected": []},
        {"chosen": [USER, ASSISTANT], "rejected": []},
    ],
)
def test_every_chat_shape_gives_the_same_texts(row: dict[str, Any]) -> None:
    """messages, ShareGPT, alpaca, prompt/completion and prompt/chosen compare the same turns."""
    assert parts_of_row(row) == ("Q", "A")
    assert parts_of_row(row, "user") == ("Q",)
    assert parts_of_row(row, "assistant") == ("A",)


def test_alpaca_input_plain_text_and_one_field() -> None:
    """The alpaca input belongs to the question; `text` and a named field are compared whatever `fields` says."""
    assert parts_of_row({"instruction": "I", "input": "N", "output": "O"}, "user") == ("I", "N")
    assert parts_of_row({"text": "T"}, "user") == ("T",)
    assert parts_of_row({"text": "T", "body": "B"}, field="body") == ("B",)


def test_different_calls_after_the_same_question_differ() -> None:
    """A tool call is part of what an assistant turn says."""
    rows = [
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"name": name}]}]} for name in ("a", "b")
    ]
    assert parts_of_row(rows[0]) != parts_of_row(rows[1])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"foo": 1}, "--field"),
        ({"messages": "x", "text": 1}, None),
        ({"messages": 3}, "int where"),
        ({"messages": ["x"]}, "str where a message"),
        ({"messages": [{"content": "x"}]}, "without a role"),
        ({"messages": [{"role": "user", "content": 3}]}, "content is int"),
        ({"messages": [{"role": "system", "content": "x"}]}, "no turns"),
    ],
)
def test_a_row_of_no_known_shape_says_why(row: dict[str, Any], message: str | None) -> None:
    """What cannot be compared is named, never taken for an empty text."""
    if message is None:
        assert parts_of_row(row) == ("x",)
        return
    with pytest.raises(UnreadableRow, match=message):
        parts_of_row(row)


@pytest.mark.parametrize("line", [b"[]", b"3", b'"x"', b"null"])
def test_a_line_that_is_no_object_is_refused(line: bytes) -> None:
    """An array, a number, a text and null are no rows."""
    with pytest.raises(UnreadableRow, match="not a JSON object"):
        parsed_row(line)


def test_an_id_is_text_or_nothing() -> None:
    """Texts and numbers name a row, anything else does not."""
    rows: list[dict[str, Any]] = [{"id": "a"}, {"id": 7}, {"id": None}, {"id": [1]}, {"id": {}}]
    assert [id_of_row(row) for row in rows] == ["a", "7", None, None, None]
    assert id_of_row({}) is None
