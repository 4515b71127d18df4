"""Where the keys of a journal stand: about 170 bytes a key, however many kinds of frames it has.

One dict gives every key a row, and each kind of place is a column of integers beside it. So a key is held once, and a
place costs 8 bytes instead of an integer object and a slot in a dict of its own.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from itertools import repeat

__all__ = ["NOWHERE", "Places", "Rows"]

Rows = dict[bytes, int]
"""16-byte keys to rows, shared by the columns of one journal."""

NOWHERE = 0
"""No frame stands there: segments are numbered from 1, so every place is larger."""


class Places(Mapping[bytes, int]):
    """Key to the place of its last frame of one kind, in the order in which those frames stand."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._places: array[int] = array("Q")
        self._count = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._count} of {len(self._rows)} keys>"

    def __getitem__(self, key: bytes) -> int:
        place = self._place(key)
        if place == NOWHERE:
            raise KeyError(key)
        return place

    def __contains__(self, key: object) -> bool:
        return isinstance(key, bytes) and self._place(key) != NOWHERE

    def __iter__(self) -> Iterator[bytes]:
        keys, places = list(self._rows), self._places
        return (keys[row] for row in sorted(range(len(places)), key=self._order().__getitem__) if places[row])

    def __len__(self) -> int:
        return self._count

    def put(self, key: bytes, place: int) -> int:
        """Note where a key's frame stands; returns the row of the key."""
        row = self._rows.setdefault(key, len(self._rows))
        places = self._places
        if row >= len(places):
            places.extend(repeat(NOWHERE, row - len(places)))
            places.append(place)
            self._count += 1
        else:
            self._count += places[row] == NOWHERE
            places[row] = place
        return row

    def discard(self, key: bytes) -> None:
        """Forget where a key stands, if it stands anywhere."""
        if key in self:
            self._places[self._rows[key]] = NOWHERE
            self._count -= 1

    def _place(self, key: bytes) -> int:
        row = self._rows.get(key, len(self._places))
        return self._places[row] if row < len(self._places) else NOWHERE

    def _order(self) -> array[int]:
        """By what the rows are put in order."""
        return self._places
