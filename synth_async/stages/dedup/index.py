"""The index of band keys: which kept documents share a band of the signature with this one.

`LshIndex` is one open-addressing table in two flat arrays: a band's 64-bit key and the ordinal of the document that has
it (or of a bucket, where several have). 12 bytes an entry at a load of 0.40 to 0.60 make 0.8 to 1.3 KB a document;
one dict of integers takes 2.4 to 3.9 KB, datasketch's sets 10 to 12 KB, for the same candidates.
"""

from __future__ import annotations

from array import array
from itertools import chain
from typing import Protocol

import numpy as np
import numpy.typing as npt
from datasketch import MinHash, MinHashLSH

from synth_async.stages.dedup.signatures import BANDS, NUM_PERM, ROWS, Signature

__all__ = ["CandidateIndex", "DatasketchIndex", "LshIndex", "Ordinals"]

Ordinals = npt.NDArray[np.uint32]
"""Positions of kept documents in the order they were added, from 0."""

Keys = npt.NDArray[np.uint64]
Slots = npt.NDArray[np.int64]

_COEFFICIENTS = np.random.SeedSequence(0).generate_state(NUM_PERM, np.uint64).reshape(BANDS, ROWS) | np.uint64(1)
_SHARED = 1 << 31  # a value with this bit names a bucket, the others are ordinals
_MAX_LOAD = 0.60
_GROWTH = 1.5
_FIRST_SLOTS = 512
_WINDOW = 16  # slots that a probe looks at in one step
_STEPS = np.arange(_WINDOW)
_TAIL = 4 * BANDS
MAX_CANDIDATES = 8192
"""Candidates that a look-up goes on with, those that share the most bands: bounds a bucket that all texts fall into."""


class CandidateIndex(Protocol):
    """Proposes kept documents that may be near-duplicates."""

    def add(self, ordinal: int, signature: Signature) -> None:
        """Make a document findable."""
        ...

    def candidates(self, signature: Signature) -> Ordinals:
        """The ordinals that share at least one band, each once, oldest first."""
        ...


class LshIndex:
    """The default index: compact, in memory, not safe to change from several threads."""

    def __init__(self) -> None:
        self._table = _Table(_FIRST_SLOTS)
        self._buckets: list[array[int]] = []

    def add(self, ordinal: int, signature: Signature) -> None:
        keys = _band_keys(signature)
        for slot in self._table.claim(keys, ordinal).tolist():
            value = int(self._table.values[slot])
            if value & _SHARED:
                self._buckets[value ^ _SHARED].append(ordinal)
            else:
                self._table.values[slot] = _SHARED | len(self._buckets)
                self._buckets.append(array("I", (value, ordinal)))

    def candidates(self, signature: Signature) -> Ordinals:
        values = self._table.look_up(_band_keys(signature)).tolist()
        single = [value for value in values if not value & _SHARED]
        return _most_shared(single, [self._buckets[value ^ _SHARED] for value in values if value & _SHARED])


class DatasketchIndex:
    """The reference index: datasketch's in-memory `MinHashLSH` with the same bands."""

    def __init__(self) -> None:
        self._lsh = MinHashLSH(num_perm=NUM_PERM, params=(BANDS, ROWS))
        self._permutations = MinHash(num_perm=NUM_PERM, scheme="affine32").permutations

    def add(self, ordinal: int, signature: Signature) -> None:
        self._lsh.insert(ordinal, self._minhash(signature))

    def candidates(self, signature: Signature) -> Ordinals:
        return np.array(sorted(self._lsh.query(self._minhash(signature))), dtype=np.uint32)

    def _minhash(self, signature: Signature) -> MinHash:
        return MinHash(hashvalues=signature, permutations=self._permutations, scheme="affine32")


class _Table:
    """Open addressing with linear probing. It never wraps round: the last slots stay empty and end every probe."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries = 0
        self._last = 0
        self._allocate(size)

    def look_up(self, keys: Keys) -> npt.NDArray[np.uint32]:
        """The values of the keys that are there."""
        slots = self._slots(keys)
        found: npt.NDArray[np.uint32] = self.values[slots[self.keys[slots] == keys]]
        return found

    def claim(self, keys: Keys, value: int) -> Slots:
        """Put `value` under the keys that are new; gives the slots of the others, whose values stay."""
        if self._entries + len(keys) > _MAX_LOAD * self._size or self._last >= len(self.keys) - _TAIL // 2:
            self._grow()
        slots = self._slots(keys)
        is_new = self.keys[slots] != keys
        taken: Slots = slots[~is_new]
        self._place(slots[is_new], keys[is_new], value)
        # Two new keys may have wanted the same slot: the last one written has it, the others look again.
        while len(left := keys[self.keys[slots] != keys]):
            keys, slots = left, self._slots(left)
            self._place(slots, keys, value)
        return taken

    def _place(self, slots: Slots, keys: Keys, values: npt.NDArray[np.uint32] | int) -> None:
        self.keys[slots] = keys
        self.values[slots] = values
        self._entries += len(slots)  # a slot wanted twice counts twice: the table grows that little earlier
        self._last = max(self._last, int(slots.max(initial=0)))

    def _slots(self, keys: Keys) -> Slots:
        """Where each key stands, or the empty slot (its key is 0) where it would go."""
        slots = self._homes(keys)
        window = self.keys[slots[:, None] + _STEPS]
        ends = (window == keys[:, None]) | (window == 0)
        slots += ends.argmax(axis=1)
        for late in np.flatnonzero(~ends.any(axis=1)).tolist():
            slots[late] = self._probe(keys[late], int(slots[late]) + _WINDOW)
        return slots

    def _homes(self, keys: Keys) -> Slots:
        homes: Slots = (keys % np.uint64(self._size)).astype(np.int64)
        return homes

    def _probe(self, key: np.uint64, slot: int) -> int:
        while self.keys[slot] not in {0, key}:
            slot += 1
        return slot

    def _grow(self) -> None:
        taken = np.flatnonzero(self.keys)
        keys, values = self.keys[taken], self.values[taken]
        self._size = int(self._size * _GROWTH)
        homes = self._homes(keys)
        order = np.argsort(homes, kind="stable")
        # In order of their homes, an entry stands at its home or right behind the one before it.
        steps = np.arange(len(order))
        slots = np.maximum.accumulate(homes[order] - steps) + steps
        self._allocate(max(self._size, int(slots[-1]) + 1))
        self._place(slots, keys[order], values[order])

    def _allocate(self, slots: int) -> None:
        self.keys: Keys = np.zeros(slots + _TAIL, dtype=np.uint64)
        self.values: npt.NDArray[np.uint32] = np.zeros(slots + _TAIL, dtype=np.uint32)
        self._entries = self._last = 0


def _band_keys(signature: Signature) -> Keys:
    """A 64-bit key per band, never 0. Should two bands share one, the signatures' agreement tells them apart."""
    keys: Keys = (signature.reshape(BANDS, ROWS) * _COEFFICIENTS).sum(axis=1, dtype=np.uint64)
    keys ^= keys >> np.uint64(29)  # the table takes a remainder: let the high half of the sum count too
    keys |= np.uint64(1)
    return keys


def _most_shared(single: list[int], shared: list[array[int]]) -> Ordinals:
    if not shared:
        return np.array(sorted(set(single)), dtype=np.uint32)
    if sum(map(len, shared)) < 64:
        return np.array(sorted(set(chain(single, *shared))), dtype=np.uint32)
    parts = [np.frombuffer(bucket, dtype=np.uint32) for bucket in shared]
    ordinals, bands = np.unique(np.concatenate([np.array(single, dtype=np.uint32), *parts]), return_counts=True)
    if len(ordinals) > MAX_CANDIDATES:
        most = np.argsort(-bands, kind="stable")[:MAX_CANDIDATES]
        ordinals = ordinals[np.sort(most)]
    return ordinals
