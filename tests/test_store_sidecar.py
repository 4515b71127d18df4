"""The sidecar: what it gives back was written, whatever happened to the file."""

from __future__ import annotations

import os
import tempfile
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_async.store.sidecar import BLOCK_RECORDS, Sidecar, encode_header, open_sidecar

_STAMP = "packing 1, 64x4"
_RECORD_BYTES = 12


def _record(place: int) -> bytes:
    return place.to_bytes(_RECORD_BYTES, "big")


def _opened(path: Path, *, stamp: str = _STAMP, last_place: int = 2**60) -> Sidecar:
    return open_sidecar(path, stamp=stamp, record_bytes=_RECORD_BYTES, last_place=last_place)


def _written(path: Path, places: range) -> None:
    sidecar = _opened(path)
    for place in places:
        sidecar.append(place, _record(place))
    sidecar.close()


def _assert_holds(sidecar: Sidecar, places: range) -> None:
    assert sidecar.restored.places.tolist() == list(places)
    assert sidecar.restored.records == b"".join(map(_record, places))


@given(st.integers(0, 3 * BLOCK_RECORDS), st.integers(0, 2 * BLOCK_RECORDS))
def test_what_was_appended_is_restored_in_order(first: int, second: int) -> None:
    """Records come back with their places, from several openings, whole blocks or not."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sidecar"
        _written(path, range(1, first + 1))
        _written(path, range(first + 1, first + second + 1))
        sidecar = _opened(path)
        _assert_holds(sidecar, range(1, first + second + 1))
        assert sidecar.restored.trouble is None or first + second == 0
        sidecar.close()
        sidecar.close()


@given(st.data())
def test_damage_costs_the_records_behind_it_and_no_more(data: st.DataObject) -> None:
    """A flipped byte or a cut gives a true beginning, says so, and the file can be gone on with."""
    count = 2 * BLOCK_RECORDS + 5
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sidecar"
        _written(path, range(1, count + 1))
        raw = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(raw) - 1))
        if data.draw(st.booleans()):
            raw[at] ^= data.draw(st.integers(1, 255))
            path.write_bytes(raw)
        else:
            path.write_bytes(raw[:at])
        sidecar = _opened(path)
        left = len(sidecar.restored.places)
        _assert_holds(sidecar, range(1, left + 1))
        # A cut between two blocks leaves nothing to see: the journal's decisions tell that the rest is missing.
        assert left < count
        assert sidecar.restored.trouble is not None or left % BLOCK_RECORDS == 0
        for place in range(left + 1, count + 1):
            sidecar.append(place, _record(place))
        sidecar.close()
        _assert_holds(_opened(path), range(1, count + 1))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "is missing"),
        (b"", "is missing"),
        (b"something else entirely, and long enough to be read as a header of ours", "is no sidecar"),
        (encode_header("packing 2, 64x4", _RECORD_BYTES), "another version or with other settings"),
        (encode_header(_STAMP, 13), "another version or with other settings"),
        (encode_header(_STAMP, _RECORD_BYTES).replace(b"sidecar 1", b"sidecar 2"), "another version"),
    ],
)
def test_a_file_that_cannot_be_used_says_so_and_is_written_anew(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    """Missing, foreign, of another stamp, record or version: nothing is restored, the reason names the file."""
    path = tmp_path / "sidecar"
    if content is not None:
        path.write_bytes(content)
    sidecar = _opened(path)
    assert sidecar.restored.trouble is not None
    assert reason in sidecar.restored.trouble
    assert str(path) in sidecar.restored.trouble
    sidecar.append(7, _record(7))
    sidecar.close()
    _assert_holds(_opened(path), range(7, 8))


def test_a_new_run_has_no_trouble(tmp_path: Path) -> None:
    """Where the journal holds no decision, a missing sidecar is as it should be."""
    assert _opened(tmp_path / "sidecar", last_place=0).restored.trouble is None


def test_records_ahead_of_the_journal_are_cut_off(tmp_path: Path) -> None:
    """After a power loss the journal may be shorter than the sidecar: its word counts."""
    path = tmp_path / "sidecar"
    _written(path, range(1, 2 * BLOCK_RECORDS + 1))
    sidecar = _opened(path, last_place=BLOCK_RECORDS + 10)
    _assert_holds(sidecar, range(1, BLOCK_RECORDS + 1))
    assert sidecar.restored.trouble is not None
    assert "ahead of the journal" in sidecar.restored.trouble
    sidecar.close()
    _assert_holds(_opened(path), range(1, BLOCK_RECORDS + 1))


@given(st.integers(0, 150), st.integers(0, 150))
def test_records_that_no_longer_count_are_cut_off(count: int, kept: int) -> None:
    """After `settle` the file holds the first records and what is appended after them, and memory holds none."""
    kept = min(kept, count)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sidecar"
        _written(path, range(1, count + 1))
        sidecar = _opened(path)
        sidecar.settle(kept)
        _assert_holds(sidecar, range(0))
        sidecar.append(kept + 1, _record(kept + 1))
        sidecar.close()
        _assert_holds(_opened(path), range(1, kept + 2))


def test_a_full_disk_stops_the_sidecar_and_nothing_else(tmp_path: Path) -> None:
    """A write that fails is told once in `failure`; what comes later is not kept, and nothing is raised."""
    path = tmp_path / "sidecar"
    sidecar = Sidecar(path, os.open("/dev/full", os.O_WRONLY), _opened(path).restored, header_bytes=0, record_bytes=1)
    for place in range(BLOCK_RECORDS + 1):
        sidecar.append(place, b"x")
    sidecar.close()
    assert sidecar.failure is not None
    assert "No space left" in sidecar.failure
    assert "No space left" in repr(sidecar)


def test_a_folder_in_its_place_is_told(tmp_path: Path) -> None:
    """A path that cannot be opened restores nothing and keeps nothing, without an error."""
    sidecar = _opened(tmp_path)
    assert sidecar.restored.places == array("Q")
    assert sidecar.failure == sidecar.restored.trouble
    assert "could not be opened" in str(sidecar.failure)
    sidecar.append(1, _record(1))
    sidecar.close()


def test_a_record_of_another_size_is_refused(tmp_path: Path) -> None:
    """Records are told apart by their size alone, so each has to have it."""
    with pytest.raises(ValueError, match="13 bytes"):
        _opened(tmp_path / "sidecar").append(1, bytes(13))
