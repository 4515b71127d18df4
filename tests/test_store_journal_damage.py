"""The journal after damage: bytes rotten, files gone, disks that fail."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_async.errors import DiskFailure
from synth_async.store.frames import Frame
from synth_async.store.journal import Journal

_SEGMENT_BYTES = 400


def _open(folder: Path) -> Journal:
    return Journal(folder, fsync="never", writer="test", segment_bytes=_SEGMENT_BYTES)


def _write(folder: Path, numbers: range) -> list[Path]:
    """About three frames a segment."""
    journal = _open(folder)
    for number in numbers:
        journal.append(Frame(f"{number:032x}", "task", {"sample": number}))
    journal.close()
    return sorted(folder.glob("journal-*.log"))


def _found(journal: Journal) -> set[int]:
    return {int.from_bytes(key) for _, key, kind, _ in journal.scan() if kind == "task"}


def _tasks_in(lines: Iterable[bytes]) -> set[int]:
    return {int(line[15:47], 16) for line in lines if b'"t":"task"' in line}


@given(st.lists(st.tuples(st.integers(0, 3_000), st.integers(1, 200), st.sampled_from([0, 10, 255])), max_size=4))
def test_no_damage_costs_more_than_the_lines_it_touches(damage: list[tuple[int, int, int]]) -> None:
    """Runs of NULs, line feeds or noise in any segments: every frame that they leave whole is found."""
    with tempfile.TemporaryDirectory() as name:
        segments = _write(Path(name), range(20))
        whole = set()
        bounds, total = [], 0
        for segment in segments:
            bounds.append((total, segment))
            total += segment.stat().st_size
        content = bytearray(b"".join(segment.read_bytes() for segment in segments))
        for start, length, byte in damage:
            content[start : min(start + length, total)] = bytes([byte]) * max(0, min(length, total - start))
        for (start, segment), end in zip(bounds, [*(start for start, _ in bounds[1:]), total], strict=True):
            before = segment.read_bytes().splitlines(keepends=True)
            segment.write_bytes(content[start:end])
            after = set(segment.read_bytes().splitlines(keepends=True))
            whole |= _tasks_in(line for line in before if line in after)
        journal = _open(Path(name))
        assert _found(journal) == whole
        assert journal.is_damaged or journal.torn_bytes or len(whole) == 20
        journal.append(Frame(f"{77:032x}", "task", {}))
        journal.close()
        assert _found(_open(Path(name))) == whole | {77}


def test_a_segment_that_is_gone_is_named(tmp_path: Path) -> None:
    """What the others hold is found, and new segments do not take the name of a lost one."""
    segments = _write(tmp_path, range(20))
    assert len(segments) > 4
    everything = _found(_open(tmp_path))
    lost = set()
    for segment in (segments[0], segments[2]):
        lost |= _tasks_in(segment.read_bytes().splitlines())
        segment.unlink()
    journal = _open(tmp_path)
    assert journal.missing_segments == [segments[0].name, segments[2].name]
    assert journal.is_damaged
    assert _found(journal) == everything - lost
    assert journal.damaged_frames == 0
    _write(tmp_path, range(100, 104))
    assert not segments[0].exists()
    assert _found(_open(tmp_path)) == everything - lost | set(range(100, 104))


def test_headers_may_rot_in_every_segment(tmp_path: Path) -> None:
    """A segment is read by its lines; its header is not needed for that."""
    segments = _write(tmp_path, range(20))
    for segment in segments:
        segment.write_bytes(b"#" + segment.read_bytes()[1:])
    journal = _open(tmp_path)
    assert _found(journal) == set(range(20))
    assert journal.damaged_frames == len(segments)


@pytest.mark.parametrize("tail_bytes", [1, 70_000, 200_000])
def test_a_torn_tail_of_any_length_is_cut(tmp_path: Path, tail_bytes: int) -> None:
    """The last good line is found from the end, however far that is from it."""
    (segment,) = _write(tmp_path, range(2))
    whole = segment.read_bytes()
    segment.write_bytes(whole + b"\0" * tail_bytes)
    assert _open(tmp_path).torn_bytes == tail_bytes
    assert segment.read_bytes() == whole
    segment.write_bytes(whole + b"bad line\n" * (tail_bytes // 9) + b"x")
    assert _open(tmp_path).torn_bytes == tail_bytes // 9 * 9 + 1
    assert segment.read_bytes() == whole


# --- devices that fail ---------------------------------------------------------------------------

_needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="finds a descriptor by /proc")


@contextmanager
def _failing(path: Path, device: int) -> Iterator[None]:
    """Behind the open descriptor of a file stands another device for a while."""
    places = [int(link.name) for link in Path("/proc/self/fd").iterdir() if os.path.realpath(link) == str(path)]
    (descriptor,) = [place for place in places if not os.get_inheritable(place)]
    good = os.dup(descriptor)
    os.dup2(device, descriptor, inheritable=False)
    try:
        yield
    finally:
        os.dup2(good, descriptor, inheritable=False)
        os.close(good)


@_needs_proc
def test_a_failed_sync_is_final(tmp_path: Path) -> None:
    """The kernel may have dropped the pages: nothing is synced or appended again, even if the device recovers."""
    journal = Journal(tmp_path, fsync="100ms", writer="test")
    journal.append(Frame("1" * 32, "task", {}))
    reading, writing = os.pipe()  # takes bytes, and cannot be synced
    with _failing(tmp_path / "journal-000001.log", writing):
        journal.append(Frame("2" * 32, "task", {}))
        with pytest.raises(DiskFailure, match=r"journal-000001\.log: could not be forced to the disk"):
            journal.sync()
    for _ in range(2):
        with pytest.raises(DiskFailure, match="could not be forced"):
            journal.append(Frame("3" * 32, "task", {}))
    journal.sync()
    journal.close()
    os.close(reading)
    os.close(writing)
    assert len((tmp_path / "journal-000001.log").read_bytes().splitlines()) == 2


@_needs_proc
def test_a_write_error_is_final(tmp_path: Path) -> None:
    """Anything but a full disk: the reserve is not touched, and nothing is appended when the device recovers."""
    journal = Journal(tmp_path, fsync="never", writer="test")
    journal.append(Frame("1" * 32, "task", {}))
    reading, writing = os.pipe()  # its reading end takes no bytes
    with _failing(tmp_path / "journal-000001.log", reading), pytest.raises(DiskFailure, match="could not be written"):
        journal.append(Frame("2" * 32, "task", {}))
    assert (tmp_path / "journal.reserve").exists()
    with pytest.raises(DiskFailure, match=os.strerror(errno.EBADF)):
        journal.append(Frame("3" * 32, "task", {}))
    journal.close()
    os.close(reading)
    os.close(writing)
    assert len((tmp_path / "journal-000001.log").read_bytes().splitlines()) == 2


@_needs_proc
def test_a_disk_that_is_full_without_end_is_final(tmp_path: Path) -> None:
    """Where the reserve brings no room either, the journal is closed; it says that the disk is full."""
    journal = Journal(tmp_path, fsync="never", writer="test")
    journal.append(Frame("1" * 32, "task", {}))
    with Path("/dev/full").open("wb", buffering=0) as full, _failing(tmp_path / "journal-000001.log", full.fileno()):
        for _ in range(2):
            with pytest.raises(DiskFailure, match=r"journal-000001\.log: the disk is full .*free some space"):
                journal.append(Frame("2" * 32, "task", {}))
    journal.close()
    assert not (tmp_path / "journal.reserve").exists()
