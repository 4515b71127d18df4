"""Which worker asks for a key: the same one every time, while it lives.

Rendezvous hashing (Thaler and Ravishankar, 1998): each worker draws a number from the key, the highest one has it. So
when a worker goes, only its own keys move, and they spread evenly over the others; one that comes takes an even share.
"""

from __future__ import annotations

from collections.abc import Iterable

from xxhash import xxh64_intdigest

__all__ = ["worker_for"]


def worker_for(key: str, workers: Iterable[int]) -> int:
    """The number of the worker that asks for a key, of those that live; about 0.3 us for each of them."""
    digits = key.encode()
    return max(workers, key=lambda worker: (xxh64_intdigest(digits, worker), worker))
