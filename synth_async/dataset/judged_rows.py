"""Rows of any chat file as the judge sees them, and as they are written with what it said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from synth_async.dataset.rows import numbered_rows
from synth_async.records import Drop, Example, Message, Task, Topic, Verdict
from synth_async.stages.conversations import UnreadableRow, conversation_of_row
from synth_async.stages.lines import judged

__all__ = ["HumanScores", "example_of_row", "human_scores", "judgeable_rows", "scored_row"]

_NO_KEY = "0" * 32


def judgeable_rows(
    path: Path, *, system_prompt: str
) -> Iterator[tuple[int, dict[str, Any], Example] | tuple[int, None, UnreadableRow]]:
    """Each row with its number and the example in it, or with the reason why there is none."""
    for number, row in numbered_rows(path):
        try:
            if isinstance(row, UnreadableRow):
                raise row
            yield number, cast("dict[str, Any]", row), example_of_row(row, number, system_prompt=system_prompt)
        except UnreadableRow as problem:
            yield number, None, problem


def example_of_row(row: object, number: int, *, system_prompt: str) -> Example:
    """The example in a row of any chat shape; raises `UnreadableRow`.

    The judge is told the config's system prompt, so that one is left out; another one is shown with the conversation.
    """
    conversation = conversation_of_row(row)
    turns = list(conversation.turns)
    if turns[0]["role"] == "system" and turns[0]["content"].strip() == system_prompt.strip():
        turns.pop(0)
    if not conversation.answer and not any(turn["role"] == "assistant" for turn in turns):
        raise UnreadableRow("no answer in it to be judged")
    if isinstance(row, dict) and not isinstance(row.get("metadata", {}), dict):
        raise UnreadableRow("metadata is no JSON object")
    metadata = conversation.metadata
    topic = Topic(number, str(metadata.get("topic", "")), metadata.get("category"))
    model = metadata.get("model")
    messages = tuple(cast("Message", dict(turn)) for turn in turns)
    return Example(Task(_NO_KEY, topic, 0, ()), messages, model if isinstance(model, str) else "")


def scored_row(row: Mapping[str, Any], verdict: Verdict | Drop | None, low: Drop | None) -> dict[str, Any]:
    """The row with what the judge said in its metadata, and why it would be dropped in `judge_drop`."""
    drop = verdict if isinstance(verdict, Drop) else low
    metadata = {key: value for key, value in row.get("metadata", {}).items() if key != "judge_drop"}
    if isinstance(verdict, Verdict):
        metadata |= judged(verdict)
    if drop is not None:
        metadata["judge_drop"] = {"reason": drop.reason, "detail": drop.detail}
    return {**row, "metadata": metadata}


# --- what people said ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HumanScores:
    """A person's scores of one row: by criterion, one for the whole, and whether it was accepted, as far as given."""

    scores: Mapping[str, float] = field(default_factory=dict)
    score: float | None = None
    accepted: bool | None = None


def human_scores(row: Mapping[str, Any]) -> HumanScores:
    """`scores`, `score` and `accepted` of a labelled row, under `human` or at its top; raises `UnreadableRow`."""
    given = row.get("human", row)
    if not isinstance(given, dict):
        raise UnreadableRow("human is no JSON object")
    scores, score, accepted = given.get("scores"), given.get("score"), given.get("accepted")
    if scores is None and score is None and accepted is None:
        raise UnreadableRow("none of scores, score, accepted by a person")
    if not isinstance(scores, dict | None) or not isinstance(accepted, bool | None):
        raise UnreadableRow("scores must be an object of numbers, accepted true or false")
    checked = {name: _score(name, value) for name, value in (scores or {}).items()}
    return HumanScores(checked, None if score is None else _score("score", score), accepted)


def _score(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 5:
        raise UnreadableRow(f"{name} is no number from 1 to 5")
    return value
