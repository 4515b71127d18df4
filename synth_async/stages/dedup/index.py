"""The index of band keys: which kept documents share a band of the signature with this one.

Theory of operation
-------------------
`LshIndex` is a hash table in two flat arrays, a band's 32-bit key and the ordinal of the document that has it (or of a
bucket of ordinals, where several have). Sixteen slots are one cell: a look-up reads the 64 cells of a document in one
call. It grows by linear hashing (Litwin 1980): as entries come in, the oldest unsplit cells are split one after the
other, each into itself and one at the end, so no insertion ever pays for moving the whole table. What does not fit into
a full cell (half a percent) waits in a dict until its cell is split.

About 1.2 KB a document at 100,000; datasketch's dicts of sets take 10 to 12 KB, for the same candidates.
"""

from __future__ import annotations

from array import array
from itertools import chain
from typing import Protocol

import numpy as np
import numpy.typing as npt
from datasketch import MinHash, MinHashLSH

from synth_async.stages.dedup.signatures import BANDS, ENTRIES, ROWS, Signature

__all__ = ["BandKeys", "CandidateIndex", "DatasketchIndex", "LshIndex", "Ordinals", "band_keys"]

Ordinals = npt.NDArray[np.uint32]
"""Positions of kept documents in the order they were added, from 0."""

BandKeys = npt.NDArray[np.uint32]
"""`BANDS` keys of a document in the last axis; 0 stands for a document without a signature, and is no band's key."""

Cells = npt.NDArray[np.int64]

# A seed sequence's stream is the same in all numpy versions.
_COEFFICIENTS = np.random.SeedSequence(0).generate_state(ENTRIES).reshape(ROWS, BANDS) | np.uint32(1)
_SHARED = 1 << 31  # a value with this bit names a bucket, the others are ordinals
_SLOTS = 16
_LOAD = 7  # mean entries in a cell; a cell that waits for its split holds up to twice as many
_FIRST_BITS = 6
_MOST_NEW_CELLS = 16_384
_RESTORED_AT_ONCE = 256
_MOST_RECENT = 32
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


def band_keys(signatures: Signature) -> BandKeys:
    """A 32-bit key per band of a signature, or of many (signatures in rows).

    Should two bands share one by accident, the signatures' agreement tells them apart.
    """
    mixed = signatures.reshape(*signatures.shape[:-1], ROWS, BANDS) * _COEFFICIENTS
    keys: BandKeys = np.add.reduce(mixed, axis=-2, dtype=np.uint32)
    return np.maximum(keys, np.uint32(1), out=keys)


class LshIndex:
    """The default index: compact, in memory, not safe to change from several threads.

    The latest documents wait in a small array that a look-up compares with directly: 32 of them go into the table for
    the price of four.
    """

    def __init__(self) -> None:
        self._table = _Table()
        self._buckets: list[array[int]] = []
        self._recent = 0
        self._recent_keys = np.zeros((_MOST_RECENT, BANDS), dtype=np.uint32)
        self._recent_ordinals = np.zeros(_MOST_RECENT, dtype=np.uint32)

    def __repr__(self) -> str:
        return f"<LshIndex {self._table!r} buckets={len(self._buckets)} recent={self._recent}>"

    def add(self, ordinal: int, signature: Signature) -> None:
        self._recent_keys[self._recent] = band_keys(signature)
        self._recent_ordinals[self._recent] = ordinal
        self._recent += 1
        if self._recent == _MOST_RECENT:
            self._flush()

    def restore(self, ordinals: Ordinals, keys: BandKeys) -> None:
        """Make many documents findable by their band keys (a row each), as `add` in this order does."""
        self._flush()
        self._table.expect(keys.size)
        for start in range(0, len(ordinals), _RESTORED_AT_ONCE):
            self._enter(ordinals[start : start + _RESTORED_AT_ONCE], keys[start : start + _RESTORED_AT_ONCE])

    def candidates(self, signature: Signature) -> Ordinals:
        keys = band_keys(signature)
        values = self._table.look_up(keys)
        single = [value for value in values if not value & _SHARED]
        shared = [self._buckets[value ^ _SHARED] for value in values if value & _SHARED]
        hits = np.flatnonzero(self._recent_keys[: self._recent] == keys)
        if len(hits):
            single += self._recent_ordinals[hits // BANDS].tolist()
        return _most_shared(single, shared)

    def _flush(self) -> None:
        self._enter(self._recent_ordinals[: self._recent], self._recent_keys[: self._recent])
        self._recent = 0

    def _enter(self, ordinals: Ordinals, keys: BandKeys) -> None:
        owners, keys = np.repeat(ordinals, BANDS), keys.ravel()
        # Equal keys beside each other, the older first: a plain sort of key and number in one integer.
        order = (keys.astype(np.uint64) << np.uint64(32)) | np.arange(len(keys), dtype=np.uint64)
        order.sort()
        numbers, keys_in_order = (order & np.uint64(0xFFFFFFFF)).astype(np.intp), order >> np.uint64(32)
        is_first = np.ones(len(keys), dtype=np.bool_)
        np.not_equal(keys_in_order[1:], keys_in_order[:-1], out=is_first[1:])
        first, later = numbers[is_first], numbers[~is_first]
        # Of equal keys the first claims a place, the others find it taken.
        self._share(keys[first], owners[first], self._table.claim(keys[first], owners[first]))
        self._share(keys[later], owners[later], self._table.places(keys[later]))

    def _share(self, keys: BandKeys, ordinals: Ordinals, taken: list[tuple[int, int]]) -> None:
        """Add ordinals to the buckets of keys that others have already."""
        numbers = [number for number, _ in taken]
        rows = zip(keys[numbers].tolist(), ordinals[numbers].tolist(), taken, strict=True)
        for key, ordinal, (_, place) in rows:
            value = self._table.value(key, place)
            if value & _SHARED:
                self._buckets[value ^ _SHARED].append(ordinal)
            else:
                self._table.replace(key, place, _SHARED | len(self._buckets))
                self._buckets.append(array("I", (value, ordinal)))


class DatasketchIndex:
    """The reference index: datasketch's in-memory `MinHashLSH` with the same bands."""

    def __init__(self) -> None:
        self._lsh = MinHashLSH(num_perm=ENTRIES, params=(BANDS, ROWS))
        self._permutations = MinHash(num_perm=ENTRIES, scheme="affine32").permutations

    def add(self, ordinal: int, signature: Signature) -> None:
        self._lsh.insert(ordinal, self._minhash(signature))

    def candidates(self, signature: Signature) -> Ordinals:
        return np.array(sorted(self._lsh.query(self._minhash(signature))), dtype=np.uint32)

    def _minhash(self, signature: Signature) -> MinHash:
        by_band = signature.reshape(ROWS, BANDS).T.ravel()  # datasketch takes neighbours as the rows of a band
        return MinHash(hashvalues=by_band, permutations=self._permutations, scheme="affine32")


_SPILLED = -1


class _Table:
    """Key -> value by linear hashing. A place is cell x 16 + slot, or `_SPILLED` for a key that waits in the dict."""

    def __init__(self) -> None:
        self._cells = self._low = 1 << _FIRST_BITS  # cells there are, and at the begin of this round of splits
        self._keys = np.zeros((self._cells, _SLOTS), dtype=np.uint32)
        self._values = np.zeros((self._cells, _SLOTS), dtype=np.uint32)
        self._entries = 0
        self._spilled: dict[int, int] = {}
        self._waiting: dict[int, list[int]] = {}

    def __repr__(self) -> str:
        return f"entries={self._entries} cells={self._cells} spilled={len(self._spilled)}"

    def expect(self, entries: int) -> None:
        """Take the size for so many entries at once, as long as there are none."""
        if not self._entries and entries > _LOAD * self._cells:
            self._cells = entries // _LOAD
            self._low = 1 << (self._cells.bit_length() - 1)
            self._reserve(self._cells)

    def look_up(self, keys: BandKeys) -> list[int]:
        """The values of the keys that are there."""
        cells, rows, hits = self._hits(keys)
        found: list[int] = self._values.ravel()[cells[hits >> 4] * _SLOTS + (hits & 15)].tolist()
        if self._spilled:
            full = np.flatnonzero(rows[:, -1])
            found += [self._spilled[key] for key in keys[full].tolist() if key in self._spilled]
        return found

    def places(self, keys: BandKeys) -> list[tuple[int, int]]:
        """Which of the keys are there, by their numbers, and where."""
        cells, rows, hits = self._hits(keys)
        numbers = hits >> 4
        found = list(zip(numbers.tolist(), (cells[numbers] * _SLOTS + (hits & 15)).tolist(), strict=True))
        if self._spilled:
            full = np.flatnonzero(rows[:, -1]).tolist()
            found += [(number, _SPILLED) for number in full if int(keys[number]) in self._spilled]
        return found

    def claim(self, keys: BandKeys, values: npt.NDArray[np.uint32]) -> list[tuple[int, int]]:
        """Put the values under the keys that are new; gives `places` of the others, whose values stay."""
        self._split()  # first, as it moves entries
        taken = self.places(keys)
        is_new = np.ones(len(keys), dtype=np.bool_)
        is_new[[number for number, _ in taken]] = False
        keys, values = keys[is_new], values[is_new]
        self._entries += len(keys)
        while len(keys):
            keys, values = self._place(keys, values)
        return taken

    def value(self, key: int, place: int) -> int:
        return self._spilled[key] if place == _SPILLED else int(self._values[place >> 4, place & 15])

    def replace(self, key: int, place: int, value: int) -> None:
        if place == _SPILLED:
            self._spilled[key] = value
        else:
            self._values[place >> 4, place & 15] = value

    def _hits(self, keys: BandKeys) -> tuple[Cells, npt.NDArray[np.uint32], Cells]:
        """The cell of each key, the cells' contents, and the hits in them as number of the key x 16 + slot."""
        cells = self._homes(keys)
        rows = self._keys.take(cells, axis=0)
        return cells, rows, np.flatnonzero(rows == keys[:, None])

    def _homes(self, keys: BandKeys) -> Cells:
        homes = (keys & np.uint32(2 * self._low - 1)).astype(np.int64)
        # A cell that is not split yet stands for its later half too.
        np.subtract(homes, self._low, out=homes, where=homes >= self._cells)
        return homes

    def _place(self, keys: BandKeys, values: npt.NDArray[np.uint32]) -> tuple[BandKeys, npt.NDArray[np.uint32]]:
        """Put new keys into free slots or the dict; gives those that have to look again.

        Two keys may want the same slot: the one written last has it.
        """
        cells = self._homes(keys)
        rows = self._keys.take(cells, axis=0)
        slots = rows.argmin(axis=1)
        places = cells * _SLOTS + slots
        if rows[:, -1].any():
            is_free = rows[np.arange(len(keys)), slots] == 0
            for number in np.flatnonzero(~is_free).tolist():
                self._spill(int(cells[number]), int(keys[number]), int(values[number]))
            keys, values, places = keys[is_free], values[is_free], places[is_free]
        flat = self._keys.reshape(-1)
        flat[places] = keys
        self._values.reshape(-1)[places] = values
        lost = flat[places] != keys
        return keys[lost], values[lost]

    def _spill(self, cell: int, key: int, value: int) -> None:
        self._spilled[key] = value
        self._waiting.setdefault(cell, []).append(key)

    def _split(self) -> None:
        """Split cells until the load is right again: about nine for a document."""
        while (wanted := self._entries // _LOAD - self._cells) > 0:
            first, cells = self._cells - self._low, self._cells
            count = min(wanted, self._low - first)
            self._reserve(cells + count)
            rows = self._keys[first : first + count]
            moving = (rows & np.uint32(self._low)) != 0
            np.multiply(rows, moving, out=self._keys[cells : cells + count])
            self._values[cells : cells + count] = self._values[first : first + count]
            rows[moving] = 0
            self._cells += count
            if self._cells == 2 * self._low:
                self._low = self._cells
            if self._waiting:
                self._take_back(first, count)

    def _take_back(self, first: int, count: int) -> None:
        keys = [key for cell in range(first, first + count) for key in self._waiting.pop(cell, ())]
        values = [self._spilled.pop(key) for key in keys]
        left = np.array(keys, dtype=np.uint32), np.array(values, dtype=np.uint32)
        while len(left[0]):
            left = self._place(*left)

    def _reserve(self, cells: int) -> None:
        """Make room, at most a megabyte at a time: new pages have to be zeroed, large arrays' old ones stay or move."""
        if cells > len(self._keys):
            shape = (cells + min(cells // 16, _MOST_NEW_CELLS), _SLOTS)
            self._keys.resize(shape, refcheck=False)
            self._values.resize(shape, refcheck=False)


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
