"""Few-shot examples of the user's own: which ones a request shows, and whether an answer copied from them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from synth_async.config import LoadedConfig
from synth_async.errors import ConfigError, ConfigProblem
from synth_async.records import Drop, DropReason, Example, Message, Stage
from synth_async.stages.conversations import Turn, UnreadableRow, conversation_of_row
from synth_async.stages.words import tokens

__all__ = ["COPIED_WORDS", "CopyCheck", "choose_examples", "example_text", "read_examples"]

COPIED_WORDS = 13
"""Words in a row that two independent texts do not share: the n of contamination checks (Brown et al. 2020, app. C)."""

_NAMES = {"system": "System", "user": "User", "assistant": "Assistant"}


def read_examples(loaded: LoadedConfig) -> list[tuple[Message, ...]]:
    """The conversations of `examples.file`; raises `ConfigError` with every line that holds none."""
    if loaded.config.examples is None:
        return []
    examples, problems = [], []
    for number, row in loaded.examples:
        try:
            examples.append(tuple(_message(turn) for turn in conversation_of_row(row).turns))
        except UnreadableRow as problem:
            problems.append(ConfigProblem(str(loaded.config.examples.file), "", str(problem), number))
    if problems:
        raise ConfigError(problems)
    return examples


def _message(turn: Turn) -> Message:
    if turn["role"] not in _NAMES:
        raise UnreadableRow(f"a turn of the role {turn['role']}; examples are of user and assistant")
    return {"role": turn["role"], "content": turn["content"]}


def choose_examples(seed: int, number: int, count: int, *, of: int) -> tuple[int, ...]:
    """Numbers of the examples that the task `number` shows: `count` of them, none twice, the same for the same seed."""
    return tuple(random.Random(f"{seed}/examples/{number}").sample(range(of), min(count, of)))


def example_text(messages: Sequence[Message]) -> str:
    """An example as the prompt shows it: a line per turn. The system message says nothing about style."""
    turns = (message for message in messages if message["role"] != "system")
    return "\n".join(f"{_NAMES[message['role']]}: {message['content']}" for message in turns)


class CopyCheck:
    """The user's examples by their word 13-grams: an answer that shares one was copied, not written."""

    def __init__(self, examples: Sequence[Sequence[Message]]) -> None:
        self._found_in: dict[int, int] = {}
        for number, messages in enumerate(examples):
            for message in messages:
                if message["role"] != "system":
                    for gram in _grams(message["content"]):
                        self._found_in.setdefault(hash(gram), number)

    def __repr__(self) -> str:
        return f"<CopyCheck grams={len(self._found_in)}>"

    def breach(self, example: Example) -> Drop | None:
        """A drop that names the first example copied from and the words, or None."""
        for message in example.messages:
            for gram in _grams(message["content"]):
                if (number := self._found_in.get(hash(gram))) is not None:
                    detail = f"example {number + 1} of examples.file: {' '.join(gram)}"
                    return Drop(Stage.FILTER, DropReason.COPIED_EXAMPLE, detail)
        return None


def _grams(text: str) -> Iterator[tuple[str, ...]]:
    words = tokens(text.casefold())
    return (tuple(words[start : start + COPIED_WORDS]) for start in range(len(words) - COPIED_WORDS + 1))
