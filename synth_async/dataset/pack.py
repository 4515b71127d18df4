"""Which examples share a block. Pure, and the same for the same lengths.

Best-fit decreasing: the longest example first, each into the fullest block that still has room for it (Ding et al.
2024, arXiv 2404.10830, for language models). Lengths are whole numbers up to the block's, so blocks are kept by the
room that is left, and one integer remembers which rooms there are: O(n) after the sorting.

It is near the optimum unless all examples are about as long as each other, a few to a block: then every block ends with
a gap too short for any of them (9 % at four to a block). `packed_blocks` fills such data block by block instead,
choosing the last two so that they fit best.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

__all__ = ["best_fit_decreasing", "packed_blocks", "pieces_of"]

_GOOD_FILL = 0.985


def packed_blocks(lengths: Sequence[int], block_tokens: int) -> list[list[int]]:
    """The blocks, each a list of indices into `lengths`: every index whose length is not 0 is in one of them.

    Raises `ValueError` for a length above `block_tokens`.
    """
    blocks = best_fit_decreasing(lengths, block_tokens)
    if sum(lengths) >= _GOOD_FILL * len(blocks) * block_tokens:
        return blocks
    fitted = _Fitting(lengths, block_tokens).blocks()
    return fitted if len(fitted) < len(blocks) else blocks


def best_fit_decreasing(lengths: Sequence[int], block_tokens: int) -> list[list[int]]:
    """The blocks by best-fit decreasing alone; otherwise as `packed_blocks`."""
    blocks: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(block_tokens + 1)]
    rooms = 0  # bit r is set where a block has exactly r tokens of room
    for index in _longest_first(lengths, block_tokens):
        length = lengths[index]
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            block = with_room[room].pop()
            if not with_room[room]:
                rooms ^= 1 << room
        else:
            room, block = block_tokens, len(blocks)
            blocks.append([])
        blocks[block].append(index)
        with_room[room - length].append(block)
        if room > length:
            rooms |= 1 << (room - length)
    return blocks


def pieces_of(length: int, block_tokens: int) -> list[tuple[int, int]]:
    """(start, end) of the pieces of an example that is split: whole blocks, and what is left."""
    return [(start, min(start + block_tokens, length)) for start in range(0, length, block_tokens)]


def _longest_first(lengths: Sequence[int], block_tokens: int) -> list[int]:
    longest = max(lengths, default=0)
    if longest > block_tokens:
        raise ValueError(f"an example of {longest} tokens in blocks of {block_tokens}")
    return sorted((index for index, length in enumerate(lengths) if length), key=lambda index: -lengths[index])


class _Fitting:
    """Fills one block after the other: with what is drawn at random, and at last with the two that fit best.

    That leaves short and long ones for later blocks, as the order of best-fit decreasing would not. What is longer than
    half a block begins one, the longest first.
    """

    def __init__(self, lengths: Sequence[int], block_tokens: int) -> None:
        self._block_tokens = block_tokens
        self._of_length: list[list[int]] = [[] for _ in range(block_tokens + 1)]
        self._present = 0  # bit l is set where an example of length l is left
        self._drawn = [index for index, length in enumerate(lengths) if length]
        random.Random(0).shuffle(self._drawn)
        self._lengths = lengths
        for index in self._drawn:
            self._of_length[lengths[index]].append(index)
            self._present |= 1 << lengths[index]

    def blocks(self) -> list[list[int]]:
        blocks = []
        while self._present:
            blocks.append(self._next_block())
        return blocks

    def _next_block(self) -> list[int]:
        longest = self._present.bit_length() - 1
        block = [self._take(longest if 2 * longest > self._block_tokens else self._draw())]
        room = self._block_tokens - self._lengths[block[0]]
        while self._present and room >= (shortest := (self._present & -self._present).bit_length() - 1):
            drawn = self._draw()
            if room - drawn >= 2 * shortest:
                chosen = [drawn]
                self._drawn.pop()
            else:
                chosen = self._best_two(room)
            for length in chosen:
                block.append(self._take(length))
                room -= length
        return block

    def _draw(self) -> int:
        """The length of the next one in the drawn order for which an example is left."""
        while not self._present >> self._lengths[self._drawn[-1]] & 1:
            self._drawn.pop()
        return self._lengths[self._drawn[-1]]

    def _best_two(self, room: int) -> list[int]:
        """The one or two lengths that leave the least of the room."""
        best: list[int] = [self._longest_within(room)]
        first = best[0]
        while first:
            rest = self._longest_within(min(first, room - first))
            if rest == first and len(self._of_length[first]) < 2:
                rest = self._longest_within(first - 1)
            if first + rest > sum(best):
                best = [first, rest]
            if sum(best) == room or 2 * first < sum(best):
                break
            first = self._longest_within(first - 1)
        return best

    def _longest_within(self, room: int) -> int:
        """The greatest length up to `room` that is left; 0 where there is none."""
        return max(0, (self._present & ((1 << (room + 1)) - 1)).bit_length() - 1)

    def _take(self, length: int) -> int:
        found = self._of_length[length]
        index = found.pop()
        if not found:
            self._present ^= 1 << length
        return index
