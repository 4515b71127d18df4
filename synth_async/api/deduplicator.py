"""Near-duplicates among any texts: the engine of the runs, by two methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synth_async.dataset.compared_texts import parts_of_row
from synth_async.errors import UsageError
from synth_async.stages import dedup
from synth_async.stages.conversations import UnreadableRow
from synth_async.stages.dedup import Fields, Sketch, Verify

__all__ = ["Comparable", "Deduplicator", "Duplicate"]

Comparable = str | Sequence[Mapping[str, Any]] | Mapping[str, Any]
"""A text, the messages of a conversation, or a chat row of any shape that `synth-async dedup` reads."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """What is repeated: the id of the kept document, the similarity (0-1), and whether the texts are equal."""

    of: str
    similarity: float
    exact: bool


class Deduplicator:
    """Keeps what is new, and says what it repeats otherwise. Deterministic: the first one added is the one kept.

    `threshold` is the verified similarity (0-1]: strictly above is a duplicate. `verify` and `fields` are the keys of
    `dedup` in a config: `indel` (rapidfuzz), `article` (difflib), `jaccard` or `none`; which turns are compared.

    A kept document takes about 2.4 KB and its text (3.9 KB in all for chats of 1,500 characters, measured at 100,000);
    a duplicate takes nothing. One thread at a time.
    """

    def __init__(self, threshold: float = 0.80, *, verify: Verify = "indel", fields: Fields = "both") -> None:
        if not 0 < threshold <= 1:
            raise UsageError(f"threshold: a similarity above 0 and up to 1 is wanted, got {threshold}")
        self._engine = dedup.Deduplicator(threshold, verify, fields)

    def __len__(self) -> int:
        """How many documents are kept."""
        return len(self._engine)

    def __repr__(self) -> str:
        return repr(self._engine)

    def add(self, key: str, document: Comparable) -> Duplicate | None:
        """What the document repeats; or None, and it is kept under `key`, an id of the caller's."""
        sketch = self._sketch(document)
        found = self._found(sketch)
        if found is None:
            self._engine.add(key, sketch)
        return found

    def find(self, document: Comparable) -> Duplicate | None:
        """What the document repeats, or None. Changes nothing."""
        return self._found(self._sketch(document))

    def _found(self, sketch: Sketch) -> Duplicate | None:
        match = self._engine.find(sketch)
        return None if match is None else Duplicate(match.kept, match.similarity, match.exact)

    def _sketch(self, document: Comparable) -> Sketch:
        if isinstance(document, str):
            return self._engine.sketch([document])
        row = dict(document) if isinstance(document, Mapping) else {"messages": list(document)}
        try:
            return self._engine.sketch(parts_of_row(row, self._engine.fields))
        except UnreadableRow as problem:
            raise UsageError(f"not a document that can be compared: {problem}") from None
