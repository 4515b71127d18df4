"""Drawing from tuples with one call of `random` each: `random.choice` and `random.sample` do more than is needed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def pick(rng: random.Random, pool: Sequence[T]) -> T:
    """One of the pool."""
    return pool[int(rng.random() * len(pool))]


def pick_some(rng: random.Random, pool: Sequence[T], count: int) -> list[T]:
    """`count` different places of the pool, in random order. The pool must hold so many."""
    size, draw = len(pool), rng.random
    places: list[int] = []
    while len(places) < count:
        place = int(draw() * size)
        if place not in places:
            places.append(place)
    return [pool[place] for place in places]
