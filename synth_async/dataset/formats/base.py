"""What a format is: how a conversation is written in it, and what its target refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from synth_async.stages.conversations import Conversation, Turn

__all__ = ["Format", "Row", "Unfit", "turns_with"]

Row = dict[str, Any]


class Unfit(ValueError):
    """A conversation that a format cannot carry; the message says why. It is left out and told, never bent to fit."""


@dataclass(frozen=True, slots=True)
class Format:
    """One target.

    `write` gives the row of a conversation, or raises `Unfit`. `breaches` yields what the target refuses in a row.
    `keys` are the only keys that a row may have where the target refuses others. `shape` names which of its shapes a
    row has: a file holds one. `source` is where the rules are written down.
    """

    name: str
    purpose: str
    source: str
    write: Callable[[Conversation], Row]
    breaches: Callable[[Mapping[str, Any]], Iterator[str]]
    shape: Callable[[Mapping[str, Any]], str | None]
    keys: frozenset[str] | None = None
    suffix: str = ".jsonl"
    min_rows: int = 1
    max_bytes: int | None = None


def turns_with(turns: tuple[Turn, ...], *keys: str) -> list[dict[str, Any]]:
    """The turns as messages with role, content and, of what else they have, these keys.

    Raises `Unfit` where a turn has a weight of 0 that would be lost: its text would be trained on after all.
    """
    if "weight" not in keys and any(turn.get("weight") == 0 for turn in turns):
        raise Unfit("a message of weight 0, which this format cannot carry")
    carried = ("role", "content", *keys)
    return [{key: turn[key] for key in carried if key in turn} for turn in turns]
