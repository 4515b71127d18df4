"""Keys to places in columns: what a dict would hold, in less."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_async.store.places import Places, Rows

_KEYS = st.integers(0, 9).map(lambda number: number.to_bytes(16))
_STEPS = st.lists(st.tuples(st.booleans(), st.booleans(), _KEYS), max_size=40)


@given(_STEPS)
def test_two_columns_are_two_dicts(steps: list[tuple[bool, bool, bytes]]) -> None:
    """Whatever is put and discarded in columns of one table, each reads as a dict of its own, in order of places."""
    rows: Rows = {}
    columns = {True: Places(rows), False: Places(rows)}
    dicts: dict[bool, dict[bytes, int]] = {True: {}, False: {}}
    for place, (which, is_put, key) in enumerate(steps, start=1):
        dicts[which].pop(key, None)
        if is_put:
            dicts[which][key] = place
            columns[which].put(key, place)
        else:
            columns[which].discard(key)
    for which, column in columns.items():
        assert list(column.items()) == list(dicts[which].items())
        assert len(column) == len(dicts[which])
        assert all(column.get(number.to_bytes(16)) == dicts[which].get(number.to_bytes(16)) for number in range(10))


def test_a_key_of_another_column_is_not_there() -> None:
    """Sharing the rows shares no places."""
    rows: Rows = {}
    Places(rows).put(b"k" * 16, 7)
    other = Places(rows)
    assert b"k" * 16 not in other
    with pytest.raises(KeyError):
        other[b"k" * 16]


def test_a_key_with_three_places_takes_less_than_200_bytes() -> None:
    """The bound that a journal of any length is promised, its keys included."""
    tracemalloc.start()
    rows: Rows = {}
    columns = [Places(rows) for _ in range(3)]
    for number in range(1, 6_001):
        for column in columns:
            column.put(number.to_bytes(16), number << 40)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200 * 6_000
