"""How many real and synthetic examples make a mix of an exact share, which ones, and in which order. Pure."""

from __future__ import annotations

import random
from array import array
from fractions import Fraction

__all__ = ["drawn_order", "mix_counts"]


def mix_counts(synthetic: int, real: int, real_share: float) -> tuple[int, int]:
    """(synthetic, real) of the largest mix in which the real ones are `real_share`, rounded to one example.

    Of n examples in the mix, round(n x share) are real: no other whole number is nearer to the share.
    """
    share = Fraction(str(real_share))
    half = Fraction(1, 2)  # what rounding may add
    total = int(min((synthetic + half) / (1 - share), (real + half) / share))
    while total:
        wanted = round(total * share)
        if wanted <= real and total - wanted <= synthetic:
            return total - wanted, wanted
        total -= 1
    return 0, 0


def drawn_order(available: tuple[int, int], taken: tuple[int, int], *, seed: int) -> array[int]:
    """Which examples are taken, shuffled: the first kind are numbered from 0, the second from `available[0]`.

    The same seed and counts give the same order. 8 bytes an example.
    """
    draw = random.Random(seed)
    order = array("q", draw.sample(range(available[0]), taken[0]))
    order.extend(draw.sample(range(available[0], sum(available)), taken[1]))
    draw.shuffle(order)
    return order
