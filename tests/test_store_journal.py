"""The journal: what was appended is found again, whatever happened to the file."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_async.errors import DiskFailure, UsageError
from synth_async.store.frames import NO_KEY, Frame, encode_frame, read_frame
from synth_async.store.journal import FORMAT, Journal, open_journal

_GOLDEN = Path(__file__).parent / "golden" / "journal-format-1"
_FIRST = "journal-000001.log"


def _frame(number: int, body: bytes | None = None) -> Frame:
    return Frame(f"{number:032x}", "answer-generate", {"attempt": 1}, body)


def _open(folder: Path, segment_bytes: int = 1 << 20) -> Journal:
    return Journal(folder, fsync="never", writer="test", segment_bytes=segment_bytes)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def _write(folder: Path, frames: list[Frame], segment_bytes: int = 1 << 20) -> None:
    journal = _open(folder, segment_bytes)
    for frame in frames:
        journal.append(frame)
    journal.close()


def _numbers(journal: Journal) -> list[int]:
    """Numbers of the frames that are found, read again by their place."""
    found = []
    for place, key, kind, line in journal.scan():
        assert journal.read(place) == read_frame(line)
        if kind != "header":
            found.append(int.from_bytes(key))
    return found


@given(st.lists(st.binary(max_size=400), max_size=12), st.integers(100, 900), st.integers(0, 12))
def test_frames_come_back_in_order_across_segments(bodies: list[bytes], segment_bytes: int, reopen_at: int) -> None:
    """However small the segments are and wherever the writer was restarted, every frame is found and read by place."""
    frames = [_frame(number, body) for number, body in enumerate(bodies)]
    with _folder() as folder:
        _write(folder, frames[:reopen_at], segment_bytes)
        _write(folder, frames[reopen_at:], segment_bytes)
        journal = _open(folder)
        found = [journal.read(place) for place, _, kind, _ in journal.scan() if kind != "header"]
        journal.close()
        assert found == frames
        assert (journal.torn_bytes, journal.damaged_frames) == (0, 0)
        for segment in folder.glob("journal-*.log"):
            assert b'"t":"header","format":1,"writer":"test"' in segment.read_bytes().splitlines()[0]


def test_a_segment_stays_within_its_size(tmp_path: Path) -> None:
    """A segment is left before it grows beyond the bound; one frame that is larger than the bound gets its own."""
    _write(
        tmp_path, [_frame(number, b'"' + b"x" * 100 + b'"') for number in range(20)] + [_frame(99, b"1" * 2000)], 600
    )
    sizes = [path.stat().st_size for path in sorted(tmp_path.glob("journal-*.log"))]
    assert len(sizes) > 4
    assert all(size <= 600 for size in sizes[:-1])
    assert sizes[-1] > 2000


def test_a_segment_smaller_than_its_header_still_works(tmp_path: Path) -> None:
    """A bound that nothing fits into gives one frame a segment, and no end of headers."""
    _write(tmp_path, [_frame(1), _frame(2)], 1)
    assert _numbers(_open(tmp_path)) == [1, 2]


@given(st.integers(1, 400))
def test_a_torn_tail_is_cut_kept_and_reported(cut: int) -> None:
    """However much of the end is missing: whole frames stay, the rest is set aside, what is appended next is good."""
    frames = [_frame(number, b'{"n": 1}') for number in range(4)]
    with _folder() as folder:
        _write(folder, frames)
        path = folder / _FIRST
        whole = path.read_bytes()
        path.write_bytes(whole[:-cut])
        ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
        good_end = max([0, *(end for end in ends if end <= len(whole) - cut)])
        torn = whole[good_end:-cut]

        journal = _open(folder)
        assert journal.torn_bytes == len(torn)
        assert path.read_bytes() == whole[:good_end]
        kept = folder / "journal-000001.torn"
        assert (kept.read_bytes() if kept.exists() else b"") == torn
        journal.append(_frame(77))
        journal.close()

        again = _open(folder)
        assert _numbers(again) == [*range(max(0, sum(end <= good_end for end in ends) - 1)), 77]
        assert (again.torn_bytes, again.damaged_frames) == (0, 0)


def test_torn_bytes_are_private_and_add_up(tmp_path: Path) -> None:
    """The set-aside file may hold a customer's text, and a second tear does not overwrite the first."""
    for tail in (b"first", b"second"):
        _write(tmp_path, [_frame(1)])
        with (tmp_path / _FIRST).open("ab") as file:
            file.write(tail)
        assert _open(tmp_path).torn_bytes == len(tail)
    kept = tmp_path / "journal-000001.torn"
    assert kept.read_bytes() == b"firstsecond"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / _FIRST).stat().st_mode) == 0o600


@given(st.integers(0, 3), st.data())
def test_damage_in_the_middle_costs_its_own_frames_only(number: int, data: st.DataObject) -> None:
    """A rotten byte before the last frame is skipped and counted; no later frame is lost, and nothing is cut."""
    with _folder() as folder:
        _write(folder, [_frame(number) for number in range(6)])
        path = folder / _FIRST
        lines = path.read_bytes().splitlines(keepends=True)
        rotten = bytearray(lines[number + 1])
        at = data.draw(st.integers(0, len(rotten) - 1))
        rotten[at] ^= data.draw(st.integers(1, 255))
        lines[number + 1] = bytes(rotten)
        path.write_bytes(b"".join(lines))

        journal = _open(folder)
        # Without its LF a frame takes the next one down with it.
        lost = {number} if rotten.endswith(b"\n") else {number, number + 1}
        assert _numbers(journal) == [left for left in range(6) if left not in lost]
        assert journal.damaged_frames in (1, 2)
        assert journal.torn_bytes == 0
        assert path.read_bytes() == b"".join(lines)
        journal.close()


def test_a_damaged_header_costs_nothing_but_itself(tmp_path: Path) -> None:
    """The first line is as good as any other to lose."""
    _write(tmp_path, [_frame(1)])
    path = tmp_path / _FIRST
    path.write_bytes(b"00000000" + path.read_bytes()[8:])
    journal = _open(tmp_path)
    assert (_numbers(journal), journal.damaged_frames) == ([1], 1)


@pytest.mark.parametrize("segment", [1, 2])
def test_a_newer_format_is_refused_by_name_and_left_alone(tmp_path: Path, segment: int) -> None:
    """Whichever segment it begins with; the message names format and writer, and not even a torn tail is touched."""
    _write(tmp_path, [_frame(1)])
    header = encode_frame(Frame(NO_KEY, "header", {"format": FORMAT + 1, "writer": "synth-async 9.9"}))
    path = tmp_path / f"journal-{segment:06d}.log"
    path.write_bytes(header + b"torn")
    with pytest.raises(UsageError, match=r"format 2 by synth-async 9\.9.*upgrade"):
        open_journal(tmp_path)
    assert path.read_bytes() == header + b"torn"


def test_format_1_is_read_as_ever(tmp_path: Path) -> None:
    """A journal from the first release keeps its meaning: verbatim and encoded bodies, nested keys, a bad line."""
    shutil.copytree(_GOLDEN, tmp_path, dirs_exist_ok=True)
    journal = open_journal(tmp_path)
    found = [read_frame(line) for _, _, _, line in journal.scan()]
    assert found == [
        Frame(NO_KEY, "header", {"format": 1, "writer": "synth-async 0.1.0"}),
        Frame("00112233445566778899aabbccddeeff", "task", {"facets": {"tone": "calm", "body": "tall"}, "sample": 0}),
        Frame("00112233445566778899aabbccddeeff", "answer-generate", {"attempt": 1}, b' {"content": "caf\xc3\xa9"} '),
        Frame("ffeeddccbbaa99887766554433221100", "answer-judge", {"attempt": 2}, b"<html>\n\xff"),
    ]
    assert journal.damaged_frames == 1


def test_nothing_is_created_before_the_first_append(tmp_path: Path) -> None:
    """Looking at a folder leaves it as it was, and so does a clean end apart from the journal."""
    open_journal(tmp_path).close()
    assert list(tmp_path.iterdir()) == []
    _write(tmp_path, [_frame(1)])
    assert [path.name for path in tmp_path.iterdir()] == [_FIRST]


def test_nothing_is_appended_after_closing(tmp_path: Path) -> None:
    """A closed journal says so; closing again is no error."""
    journal = _open(tmp_path)
    journal.append(_frame(1))
    journal.close()
    journal.close()
    with pytest.raises(DiskFailure, match="is closed"):
        journal.append(_frame(2))
    assert _numbers(_open(tmp_path)) == [1]


def test_a_missing_folder_is_a_disk_failure(tmp_path: Path) -> None:
    """What cannot be opened is an error with a path, not a traceback."""
    with pytest.raises(DiskFailure, match="nowhere"):
        open_journal(tmp_path / "nowhere")


def test_a_lost_segment_is_a_disk_failure(tmp_path: Path) -> None:
    """Reading by a place whose file is gone names the file."""
    _write(tmp_path, [_frame(1)])
    journal = _open(tmp_path)
    place = next(journal.scan())[0]
    (tmp_path / _FIRST).unlink()
    with pytest.raises(DiskFailure, match=_FIRST):
        journal.read(place)


def test_syncing_in_a_thread_does_not_disturb_appends_and_rotation(tmp_path: Path) -> None:
    """A thread that syncs without pause while segments come and go: every frame is there, in order."""
    journal = _open(tmp_path, 2_000)
    stop, failures = threading.Event(), []

    def keep_syncing() -> None:
        try:
            while not stop.is_set():
                journal.sync()
        except (DiskFailure, OSError) as error:
            failures.append(error)

    thread = threading.Thread(target=keep_syncing)
    thread.start()
    try:
        for number in range(400):
            journal.append(_frame(number, b'{"text": "some words"}'))
    finally:
        stop.set()
        thread.join()
    journal.close()
    assert failures == []
    assert len(list(tmp_path.glob("journal-*.log"))) > 10
    assert _numbers(_open(tmp_path)) == list(range(400))


@pytest.mark.parametrize("fsync", ["always", "100ms", "never"])
def test_every_fsync_mode_keeps_what_was_appended(tmp_path: Path, fsync: str) -> None:
    """The mode changes when the disk is asked, not what is written."""
    journal = Journal(tmp_path, fsync=fsync, writer="test")  # type: ignore[arg-type]
    journal.append(_frame(1))
    assert ("unsynced=False" in repr(journal)) == (fsync == "always")
    journal.close()
    assert _numbers(_open(tmp_path)) == [1]


# --- real disks that are full --------------------------------------------------------------------

_UNTIL_REFUSED = """
import resource, sys
from pathlib import Path
from synth_async.errors import DiskFailure
from synth_async.store.frames import Frame
from synth_async.store.journal import Journal
journal = Journal(Path(sys.argv[1]), fsync="always", writer="test")
journal.append(Frame("0" * 32, "task", {}))
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
taken = refused = 0
for number in range(40):
    try:
        journal.append(Frame(f"{number:032x}", "answer-judge", {}, b'"' + b"x" * 500 + b'"'))
        taken += 1
    except DiskFailure as error:
        refused += 1
        message = str(error)
journal.close()
print(taken, refused, message)
"""


def test_a_file_that_may_not_grow_closes_the_journal(tmp_path: Path) -> None:
    """A short write is cut off again and the error is final: the file ends in a whole frame, nothing follows."""
    run = subprocess.run(
        [sys.executable, "-c", _UNTIL_REFUSED, str(tmp_path)], capture_output=True, text=True, check=True
    )
    taken, refused, message = run.stdout.split(" ", 2)
    assert int(taken) + int(refused) == 40
    assert int(taken) < 10
    assert _FIRST in message
    assert (tmp_path / _FIRST).read_bytes().endswith(b"\n")
    journal = _open(tmp_path)
    assert journal.torn_bytes == 0
    assert _numbers(journal) == [0, *range(int(taken))]


_ON_A_SMALL_DISK = """
import sys
from pathlib import Path
from synth_async.errors import DiskFailure
from synth_async.store.frames import Frame
from synth_async.store.journal import Journal
folder = Path(sys.argv[1])
journal = Journal(folder, fsync="never", writer="test")
outcomes = []
reserve = None
for number in range(3_000):
    try:
        journal.append(Frame(f"{number:032x}", "answer-judge", {}, b'"' + b"x" * 1_000 + b'"'))
        outcomes.append(".")
    except DiskFailure as error:
        outcomes.append("!")
        message = str(error)
    reserve = reserve or (folder / "journal.reserve").stat().st_blocks * 512
    if outcomes[-2:] == ["!", "!"]:
        break
journal.close()
again = Journal(folder, fsync="never", writer="test")
found = sum(kind == "answer-judge" for _, _, kind, _ in again.scan())
print("".join(outcomes).find("!"), len(outcomes), outcomes.count("!"), found, again.torn_bytes, reserve, message)
"""


def _may_mount() -> bool:
    run = subprocess.run(
        ["unshare", "-Urm", "mount", "-t", "tmpfs", "-o", "size=64k", "none", "/mnt"], capture_output=True, check=False
    )
    return run.returncode == 0


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("unshare"), reason="needs a mount of its own")
def test_the_reserve_takes_what_is_in_flight_when_the_disk_is_full(tmp_path: Path) -> None:
    """On a real full disk the failure is told at once; its frame and later ones are kept until the reserve is full."""
    if not _may_mount():
        pytest.skip("this system lets nobody mount a small disk")
    script = f'mount -t tmpfs -o size=1m none {tmp_path} && exec "$0" -c "$1" {tmp_path}'
    run = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script, sys.executable, _ON_A_SMALL_DISK],
        capture_output=True,
        text=True,
        check=True,
    )
    first, appended, failures, found, torn, reserve, *message = run.stdout.split()
    drained = int(appended) - int(first) - 3
    assert "full" in message
    assert int(torn) == 0
    assert int(failures) == 3
    assert int(reserve) > 100_000
    assert drained > int(reserve) // 1_100 - 10
    assert int(found) == int(appended) - 2
