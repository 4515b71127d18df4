"""Pairs that are alike in meaning: found block by block, the best first, and nothing is dropped for them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from synth_async.dataset.deduplicate import deduplicate_file
from synth_async.dataset.semantic import semantic_pairs

pytest.importorskip("sklearn", reason="wants the extra semantic")

REFUND = "I would like my money back for the broken lamp that came last week"
REORDERED = "the lamp that came last week would be broken, I like my money back for"
OTHER = "Which documents does a tenant need when the landlord sells the house?"


def test_the_same_words_in_another_order_are_alike_and_other_words_are_not() -> None:
    """A pair has the earlier text first; a text without words is like nothing."""
    texts = [OTHER, REFUND, "", REORDERED, "...", ""]
    (pair,) = semantic_pairs(len(texts), texts.__getitem__, above=0.8)
    assert (pair.first, pair.second) == (1, 3)
    assert 0.8 < pair.similarity <= 1.0001


@pytest.mark.parametrize("texts", [[], [REFUND]])
def test_less_than_two_texts_have_no_pair(texts: list[str]) -> None:
    """Nothing to compare is no error."""
    assert semantic_pairs(len(texts), texts.__getitem__, above=0.0) == []


@pytest.mark.slow
def test_pairs_across_blocks_are_found_and_only_the_best_are_given() -> None:
    """A pair in two blocks counts as any; of more pairs than asked for, the most similar remain, most similar first."""
    draw = random.Random(2)
    texts = [" ".join(f"w{draw.randrange(5000)}" for _ in range(12)) for _ in range(1100)]
    texts[1090] = " ".join(reversed(texts[3].split()))
    texts[1095] = " ".join([*texts[7].split()[:-1], "changed"])
    found = semantic_pairs(len(texts), texts.__getitem__, above=0.5)
    assert [(pair.first, pair.second) for pair in found[:1]] == [(3, 1090)]
    assert (7, 1095) in [(pair.first, pair.second) for pair in found]
    assert [pair.similarity for pair in found] == sorted((pair.similarity for pair in found), reverse=True)
    assert semantic_pairs(len(texts), texts.__getitem__, above=0.5, most=2) == found[:2]


def test_a_report_drops_nothing_and_names_kept_lines_of_the_source(tmp_path: Path) -> None:
    """With the report or without it, the output is the same bytes; what `against` holds is not in it."""
    source, reference = tmp_path / "in.jsonl", tmp_path / "ref.jsonl"
    rows = [{"id": "a", "text": REFUND}, {"text": OTHER}, {"text": REFUND}, {"id": "b", "text": REORDERED}]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    reference.write_text(json.dumps({"text": "money back for the lamp that came broken last week I would like"}) + "\n")
    plain = deduplicate_file(source, tmp_path / "plain.jsonl", against=[reference])
    report = tmp_path / "semantic.jsonl"
    summary = deduplicate_file(
        source, tmp_path / "out.jsonl", against=[reference], semantic_report=report, semantic_threshold=0.8
    )
    assert (summary.kept, summary.semantic_count, plain.semantic_count) == (plain.kept, 1, None)
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "plain.jsonl").read_bytes()
    (pair,) = [json.loads(row) for row in report.read_bytes().splitlines()]
    assert pair["first"] == {"file": str(source), "line": 1, "id": "a"}
    assert pair["second"] == {"file": str(source), "line": 4, "id": "b"}
