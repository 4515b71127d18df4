"""Finds examples that repeat an evaluation set: by 13 words in a row, or as a near-duplicate.

13 words in a row are the overlap that Brown et al. 2020 (arXiv 2005.14165, appendix C) removed for; what is shorter, or
was changed a little, is found by the dedup engine. Memory grows with the evaluation files: about 100 bytes a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import xxhash

from synth_async.dataset.line_files import numbered_lines
from synth_async.dataset.rows import numbered_rows
from synth_async.stages.conversations import Conversation, UnreadableRow, conversation_of_row
from synth_async.stages.dedup import Deduplicator
from synth_async.stages.words import tokens

__all__ = ["NGRAM_WORDS", "Leak", "Leaks"]

NGRAM_WORDS = 13
_MIN_CHARACTERS = 20  # "yes, please" is no leak


@dataclass(frozen=True, slots=True)
class Leak:
    """Where the evaluation text is that an example repeats, and how: `ngram_overlap` or `near_duplicate`."""

    reason: str
    file: Path
    line: int
    detail: str


class Leaks:
    """Knows evaluation files, and finds what repeats them.

    A row of an evaluation file may have any shape: of a conversation its turns count, without the system message, of
    anything else every text in it. `.txt` holds a text a line.
    """

    def __init__(self, files: tuple[Path, ...], *, threshold: float) -> None:
        self.files = files
        self.texts = 0
        self._dedup = Deduplicator(threshold)
        self._grams: dict[int, tuple[int, int]] = {}
        for index, path in enumerate(files):
            for line, parts in _rows_of_texts(path):
                self._learn(index, line, parts)

    def find(self, conversation: Conversation) -> Leak | None:
        """The first evaluation text that a conversation repeats, or None."""
        parts = conversation.texts()
        for text in parts:
            for gram, words in _ngrams(text):
                if gram in self._grams:
                    index, line = self._grams[gram]
                    return Leak("ngram_overlap", self.files[index], line, words)
        for candidate in (parts, *((text,) for text in parts if len(parts) > 1)):
            match = self._dedup.find(self._dedup.sketch(candidate)) if _is_long(candidate) else None
            if match is not None:
                file, _, number = match.kept.partition(":")
                return Leak("near_duplicate", self.files[int(file)], int(number), f"similarity {match.similarity:.2f}")
        return None

    def _learn(self, index: int, line: int, parts: tuple[str, ...]) -> None:
        self.texts += 1
        for text in parts:
            for gram, _ in _ngrams(text):
                self._grams.setdefault(gram, (index, line))
        for candidate in (parts, *((text,) for text in parts if len(parts) > 1)):
            if _is_long(candidate):
                self._dedup.add(f"{index}:{line}", self._dedup.sketch(candidate))


def _is_long(parts: tuple[str, ...]) -> bool:
    return sum(map(len, parts)) >= _MIN_CHARACTERS


def _ngrams(text: str) -> Iterator[tuple[int, str]]:
    """The hash of every 13 words in a row, with the words."""
    words = tokens(text)
    for start in range(len(words) - NGRAM_WORDS + 1):
        gram = " ".join(words[start : start + NGRAM_WORDS])
        yield xxhash.xxh3_64_intdigest(gram.encode("utf-8", "surrogatepass")), gram


def _rows_of_texts(path: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    if path.suffix == ".txt":
        for _, number, line in numbered_lines([path]):
            yield number, (line.decode("utf-8", "replace"),)
        return
    for number, row in numbered_rows(path):
        if not isinstance(row, UnreadableRow):
            yield number, _texts_of_row(row)


def _texts_of_row(row: object) -> tuple[str, ...]:
    try:
        return conversation_of_row(row).texts()
    except UnreadableRow:
        return tuple(_all_texts(row))


def _all_texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _all_texts(each)
