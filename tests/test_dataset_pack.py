"""Packing loses no token, splits nothing unasked, and leaves little room."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_async.dataset.pack import best_fit_decreasing, packed_blocks, pieces_of

BLOCK = 64
many_lengths = st.lists(st.integers(0, BLOCK), max_size=120)
alike_lengths = st.lists(st.integers(13, 17), max_size=120)


@given(st.one_of(many_lengths, alike_lengths))
def test_every_example_is_in_one_block_and_no_block_is_over_full(lengths: list[int]) -> None:
    """Whatever way the blocks are filled; an example without tokens is in none."""
    for blocks in (best_fit_decreasing(lengths, BLOCK), packed_blocks(lengths, BLOCK)):
        assert sorted(index for block in blocks for index in block) == [i for i, n in enumerate(lengths) if n]
        assert all(0 < sum(lengths[index] for index in block) <= BLOCK for block in blocks)


@given(many_lengths)
def test_best_fit_leaves_no_two_blocks_that_would_fit_into_one(lengths: list[int]) -> None:
    """The property behind its bound: at most one block is no more than half full."""
    sums = [sum(lengths[index] for index in block) for block in best_fit_decreasing(lengths, BLOCK)]
    assert sum(2 * total <= BLOCK for total in sums) <= 1


def test_an_example_longer_than_a_block_is_the_callers_business() -> None:
    """It is never cut here."""
    with pytest.raises(ValueError, match="65 tokens in blocks of 64"):
        packed_blocks([1, 65], 64)


@given(st.integers(1, 1000), st.integers(1, 100))
def test_pieces_are_the_whole_in_order(length: int, block: int) -> None:
    """Each piece begins where the one before it ended, and fits a block."""
    pieces = pieces_of(length, block)
    assert [pieces[0][0], *(end for _, end in pieces)] == [*(start for start, _ in pieces), length]
    assert all(0 < end - start <= block for start, end in pieces)


@pytest.mark.parametrize("block_tokens", [1024, 2048, 4096])
@pytest.mark.parametrize("spread", [0.15, 0.6, 1.0])
def test_ten_thousand_examples_fill_their_blocks(block_tokens: int, spread: float) -> None:
    """At least 97 % of the room is taken: chats of 250 tokens, alike in length or very different ones."""
    draw = random.Random(0)
    lengths = [max(8, min(block_tokens, int(draw.lognormvariate(5.5, spread)))) for _ in range(10_000)]
    blocks = packed_blocks(lengths, block_tokens)
    assert sum(lengths) >= 0.97 * len(blocks) * block_tokens
