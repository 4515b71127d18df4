"""Which rows of a file are exported, and on which side of the split; every other row is told with its reason.

In this order: what cannot be read, what repeats an evaluation file, what the format cannot carry or its target refuses,
and on the training side what is a near-duplicate of a held-out or of a real example.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from synth_async.dataset.decontaminate import Leaks
from synth_async.dataset.formats import Format, Row, Unfit
from synth_async.dataset.rows import numbered_rows
from synth_async.dataset.split import is_held_out, topic_of
from synth_async.dataset.validation import row_breaches
from synth_async.stages.conversations import Conversation, UnreadableRow, conversation_of_row
from synth_async.stages.dedup import Deduplicator

__all__ = ["LeftOut", "Origin", "Sift", "Sifted"]

Origin = Literal["synthetic", "real"]


@dataclass(frozen=True, slots=True)
class Sifted:
    """A row that is exported: the conversation, and what is written for it."""

    origin: Origin
    line: int
    conversation: Conversation
    row: Row
    topic: str
    is_held_out: bool


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that is not: `reason` is counted, `detail` says what it is about."""

    file: Path
    line: int
    id: str | None
    reason: str
    detail: str


class Sift:
    """Decides about rows, one by one. Memory grows with held-out and real examples (3 KB each), with no others."""

    def __init__(self, target: Format, *, held_out: float = 0.0, seed: int = 0, threshold: float = 0.80) -> None:
        self._target = target
        self._share = held_out
        self._seed = seed
        self._held_out = Deduplicator(threshold)
        self._real = Deduplicator(threshold)
        self._leaks: Leaks | None = None
        self.topics = 0
        self.held_out_topics = 0

    def learn_leaks(self, leaks: Leaks) -> None:
        """Leave out what repeats these evaluation files."""
        self._leaks = leaks

    def learn_held_out(self, source: Path) -> None:
        """Know the held-out examples of a file, so that nothing like them gets to the training side."""
        topics: dict[bool, set[int]] = {True: set(), False: set()}
        for line, row in numbered_rows(source):
            try:
                conversation = conversation_of_row(row)
                self._target.write(conversation)
            except (UnreadableRow, Unfit):
                continue
            topic, is_out = self._side(conversation, row)
            topics[is_out].add(hash(topic))
            if is_out:
                self._held_out.add(str(line), self._held_out.sketch(conversation.texts()))
        self.held_out_topics = len(topics[True])
        self.topics = self.held_out_topics + len(topics[False])

    def learn_real(self, source: Path) -> None:
        """Know the real examples of a file, so that no synthetic one repeats them."""
        for line, row in numbered_rows(source):
            try:
                conversation = conversation_of_row(row)
            except UnreadableRow:
                continue
            self._real.add(str(line), self._real.sketch(conversation.texts()))

    def rows(self, source: Path, origin: Origin) -> Iterator[Sifted | LeftOut]:
        """What becomes of each row. Real rows are never held out."""
        for line, row in numbered_rows(source):
            yield self._decide(source, line, row, origin)

    def _decide(self, source: Path, line: int, row: object, origin: Origin) -> Sifted | LeftOut:
        try:
            conversation = conversation_of_row(row)
        except UnreadableRow as problem:
            message = str(row) if isinstance(row, UnreadableRow) else str(problem)
            return LeftOut(source, line, None, "unreadable", message)
        leak = self._leaks.find(conversation) if self._leaks is not None else None
        if leak is not None:
            where = f"{leak.file}:{leak.line}: {leak.detail}"
            return LeftOut(source, line, conversation.id, f"contaminated_{leak.reason}", where)
        try:
            written = self._target.write(conversation)
        except Unfit as problem:
            return LeftOut(source, line, conversation.id, "unfit", str(problem))
        breach = next(row_breaches(written, self._target), None)
        if breach is not None:
            return LeftOut(source, line, conversation.id, "refused_by_target", breach)
        topic, is_out = self._side(conversation, row) if origin == "synthetic" else ("", False)
        repeated = None if is_out else self._repeats(conversation, origin)
        if repeated is not None:
            return LeftOut(source, line, conversation.id, *repeated)
        return Sifted(origin, line, conversation, written, topic, is_out)

    def _side(self, conversation: Conversation, row: object) -> tuple[str, bool]:
        if not self._share:
            return "", False
        topic = topic_of(conversation, row if isinstance(row, dict) else {})
        return topic, is_held_out(topic, share=self._share, seed=self._seed)

    def _repeats(self, conversation: Conversation, origin: Origin) -> tuple[str, str] | None:
        known = [(self._held_out, "held_out"), *([(self._real, "real")] if origin == "synthetic" else [])]
        for dedup, name in known:
            match = dedup.find(dedup.sketch(conversation.texts())) if len(dedup) else None
            if match is not None:
                return f"near_duplicate_of_{name}", f"{name} line {match.kept}, similarity {match.similarity:.2f}"
        return None
