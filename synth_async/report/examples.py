"""What of the examples goes into the page: a sample and what it is filtered by, and the largest duplicate clusters.

Both have a budget of bytes, as they stand in the page, so that no text that a model wrote makes the page a large one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import zip_longest
from typing import Any, TypeVar

from rapidfuzz.distance import Indel

from synth_async.report.follow import Follower
from synth_async.report.samples import Samples, Shown, shown

__all__ = ["ClusterView", "Member", "Piece", "chosen_examples", "cluster_views", "labels_of", "opening"]

_SAMPLE_BYTES = 1_200_000
_CLUSTER_BYTES = 500_000
_MARKUP_BYTES = 1_500
"""What stands around an example's texts."""

_MOST_CLUSTERS = 10
_MOST_COMPARED = 1_200
_OPENING = 140
K = TypeVar("K")
_WORDS = re.compile(r"\s+|[^\s]+")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a duplicate's text; `is_other` where what was kept says something else."""

    text: str
    is_other: bool


@dataclass(frozen=True, slots=True)
class Member:
    """A duplicate: its texts side by side with those of what was kept."""

    example: Shown
    similarity: str
    turns: tuple[tuple[str, tuple[Piece, ...]], ...]


@dataclass(frozen=True, slots=True)
class ClusterView:
    """What was kept, where it is in the dataset, and the first of its `count` duplicates."""

    id: str
    count: int
    kept: Shown | None
    members: tuple[Member, ...]


def chosen_examples(samples: Samples) -> list[Shown]:
    """The accepted and each reason's drops in turn, as many as the budget has room for; accepted ones first."""
    columns = [samples.accepted.values(), *(samples.rejected[reason].values() for reason in sorted(samples.rejected))]
    in_turn = (example for row in zip_longest(*columns) for example in row if example is not None)
    chosen = _within(in_turn, _SAMPLE_BYTES)
    return sorted(chosen, key=lambda example: (example.stage != "", example.reason))


def _within(examples: Iterable[Shown], budget_bytes: int) -> Iterator[Shown]:
    for example in examples:
        budget_bytes -= _page_bytes(example)
        if budget_bytes >= 0:
            yield example


def _page_bytes(example: Shown) -> int:
    texts = [turn.text for turn in example.turns] + [example.topic, example.judge_reason, example.detail]
    # Labels stand there twice: to be read, and to be filtered by.
    texts += 2 * [f"{axis}: {value}" for axis, value in example.facets.items()]
    texts += [*example.scores, example.id, example.id, example.model, example.category or "", example.reason]
    texts += [text for _, text in example.notes]
    return _MARKUP_BYTES + sum(len(escape(text).encode("utf-8", "replace")) + 60 for text in texts)


def labels_of(example: Shown) -> list[str]:
    """What an example can be filtered by beside its reason and score."""
    labels = [f"{axis}: {value}" for axis, value in example.facets.items()]
    return labels if example.category is None else [f"category: {example.category}", *labels]


def opening(example: Shown) -> str:
    """The first words of an example, or why there are none."""
    said = example.turns[0].text if example.turns else example.detail
    text = " ".join(said[: 2 * _OPENING].split())
    return text if len(text) <= _OPENING else text[: _OPENING - 1] + "…"


# --- clusters ------------------------------------------------------------------------------------


def cluster_views(follower: Follower) -> list[ClusterView]:
    """The largest clusters that the budget has room for, with their texts."""
    largest = follower.report.clusters.largest(_MOST_CLUSTERS)
    kept = _shown_lines(follower.accepted_lines(cluster.kept for cluster in largest))
    views, left_bytes = [], _CLUSTER_BYTES
    for cluster in largest:
        of = kept.get(cluster.kept)
        dropped = list(_shown_lines(dict(enumerate(follower.rejected_lines(cluster.places)))).values())
        # Each word that differs may be marked.
        left_bytes -= sum(2 * _page_bytes(example) for example in [*dropped, *([of] if of is not None else [])])
        if left_bytes < 0:
            break
        views.append(ClusterView(cluster.kept, cluster.count, of, tuple(_member(example, of) for example in dropped)))
    return views


def _shown_lines(lines: Mapping[K, Mapping[str, Any]]) -> dict[K, Shown]:
    """Lines that could be read before may have been replaced since."""
    found = {}
    for key, line in lines.items():
        try:
            found[key] = shown(line)
        except (KeyError, TypeError, AttributeError, ValueError):
            continue
    return found


def _member(example: Shown, kept: Shown | None) -> Member:
    texts = [turn.text for turn in kept.turns] if kept is not None else []
    turns = tuple(
        (turn.role, tuple(compared(turn.text, texts[index] if index < len(texts) else turn.text)))
        for index, turn in enumerate(example.turns)
    )
    similarity = example.detail.split(" ", 1)[0]
    return Member(example, similarity if similarity[:1].isdigit() else "the same", turns)


def compared(text: str, kept: str) -> Iterator[Piece]:
    """A text in pieces, marked where it differs from what was kept; together they are the text."""
    words, others = _words(text), _words(kept)
    for step in Indel.opcodes(words, others):
        if step.src_start < step.src_end:
            yield Piece("".join(words[step.src_start : step.src_end]), step.tag != "equal")


def _words(text: str) -> Sequence[str]:
    """The words and the spaces between them; what is very long stays in one piece at its end."""
    head, rest = text[:_MOST_COMPARED], text[_MOST_COMPARED:]
    return [*_WORDS.findall(head), *([rest] if rest else [])]
