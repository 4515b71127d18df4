"""Which side of a held-out split a topic falls on, and the suite of regression tests drawn from the held-out side.

A side depends on the topic, the seed and the share alone: a dataset that grows moves no topic, and a larger share keeps
what a smaller one held out. Pure.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from synth_async.stages.conversations import Conversation
from synth_async.stages.dedup.texts import normalise

__all__ = ["Suite", "is_held_out", "topic_of"]

_SPACE = 1 << 64


def topic_of(conversation: Conversation, row: Mapping[str, Any]) -> str:
    """What must not stand on both sides: the topic, or the first words of the user where a row names none.

    `metadata.topic` or the row's own `topic`, normalised: case, white space and typography make no other topic.
    """
    for topic in (conversation.metadata.get("topic"), row.get("topic")):
        if isinstance(topic, str) and topic.strip():
            return normalise(topic)
    return normalise(next(iter(conversation.texts("user") or conversation.texts()), ""))


def is_held_out(topic: str, *, share: float, seed: int) -> bool:
    """Whether a topic is held out: `share` of all topics are, whatever others there are."""
    return _draw(topic, seed) < share * _SPACE


def _draw(text: str, seed: int) -> int:
    digest = blake2b(f"{seed}\0{text}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest)


class Suite:
    """A few held-out examples as a regression suite: `{"prompt", "reference", "rubric"}`, one per topic.

    Drawn by the hash of the topic, so that a suite changes little as the dataset grows.
    """

    def __init__(self, size: int, *, seed: int, rubric: Mapping[str, Any]) -> None:
        self._size = size
        self._seed = seed
        self._rubric = rubric
        self._drawn: list[tuple[int, str, dict[str, Any]]] = []
        self._topics: set[str] = set()

    def offer(self, topic: str, conversation: Conversation) -> None:
        """Consider a held-out example; the first with an answer stands for its topic."""
        if not self._size or topic in self._topics or not conversation.prompt or not conversation.answer:
            return
        test = {
            "id": conversation.id,
            "topic": topic,
            "prompt": [{"role": turn["role"], "content": turn["content"]} for turn in conversation.prompt],
            "reference": "\n".join(turn["content"] for turn in conversation.answer),
            "rubric": self._rubric,
        }
        drawn = (-_draw(topic, self._seed + 1), topic, test)
        if len(self._drawn) < self._size:
            heapq.heappush(self._drawn, drawn)
        elif drawn > self._drawn[0]:
            self._topics.discard(heapq.heapreplace(self._drawn, drawn)[1])
        else:
            return
        self._topics.add(topic)

    def tests(self) -> list[dict[str, Any]]:
        """What was drawn, in the order of the draw."""
        return [test for _, _, test in sorted(self._drawn, key=lambda drawn: (-drawn[0], drawn[1]))]
