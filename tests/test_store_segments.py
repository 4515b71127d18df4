"""Segments that workers write beside the holder of the run folder."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

import pytest

from synth_async.errors import RunLocked
from synth_async.store import segments
from synth_async.store.frames import Frame
from synth_async.store.journal import Journal, open_journal
from synth_async.store.segments import segment_numbers, segment_path, worker_lines


def _frame(number: int) -> Frame:
    return Frame(f"{number:032x}", "answer-generate", {"attempt": 1})


def _journal(folder: Path, worker: str | None = None, segment_bytes: int = 1 << 20) -> Journal:
    return Journal(folder, fsync="never", writer="test", worker=worker, segment_bytes=segment_bytes)


def _keys(folder: Path) -> list[int]:
    journal = open_journal(folder, read_only=True)
    found = [int.from_bytes(key) for _, key, kind, _ in journal.scan() if kind != "header"]
    assert journal.damaged_frames == 0
    return found


def test_writers_side_by_side_never_share_a_segment(tmp_path: Path) -> None:
    """Driver and workers append in turn, small segments roll over: every frame is found, no number is missing."""
    writers = [_journal(tmp_path, worker, segment_bytes=300) for worker in (None, "a", "b")]
    for number in range(30):
        writers[number % 3].append(_frame(number))
    for writer in writers:
        writer.close()
    assert sorted(_keys(tmp_path)) == list(range(30))
    assert len(segment_numbers(tmp_path)) > 9
    assert open_journal(tmp_path).missing_segments == []


def test_writers_that_begin_at_once_get_numbers_of_their_own(tmp_path: Path) -> None:
    """Whoever finds the number taken takes the next one."""
    together = threading.Barrier(8)

    def begin(number: int) -> None:
        journal = _journal(tmp_path, f"w{number}")
        together.wait(10)
        journal.append(_frame(number))
        journal.close()

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert segment_numbers(tmp_path) == list(range(1, 9))
    assert sorted(_keys(tmp_path)) == list(range(8))


def test_a_place_leads_back_to_its_frame_whoever_writes_between(tmp_path: Path) -> None:
    """The driver goes on behind the workers' segments, and reads its own frames by place."""
    driver, worker = _journal(tmp_path, segment_bytes=300), _journal(tmp_path, "a", segment_bytes=300)
    places = {}
    for number in range(0, 20, 2):
        places[number] = driver.append(_frame(number))
        worker.append(_frame(number + 1))
    assert {number: driver.read(place) for number, place in places.items()} == {n: _frame(n) for n in places}
    assert sorted(places.values()) == list(places.values())
    driver.close()
    worker.close()


@pytest.mark.parametrize("torn", [["a"], ["a", "b"], []])
def test_the_torn_tail_of_every_worker_is_mended(tmp_path: Path, torn: list[str]) -> None:
    """Each may have died over its last line; what stands before it is whole, and nothing counts as damage."""
    driver = _journal(tmp_path)
    driver.append(_frame(0))
    for number, worker in enumerate(("a", "b"), start=1):
        journal = _journal(tmp_path, worker)
        journal.append(_frame(number))
        journal.close()
    driver.close()
    for worker in torn:
        with segment_path(tmp_path, 2 if worker == "a" else 3).open("ab") as segment:
            segment.write(b"00000000 half a li")
    journal = open_journal(tmp_path)
    assert journal.torn_bytes == 18 * len(torn)
    assert [key for _, key, kind, _ in journal.scan() if kind != "header"] == [bytes(15) + bytes([n]) for n in range(3)]
    assert not journal.is_damaged
    assert len(list(tmp_path.glob("*.torn"))) == len(torn)


def test_a_later_run_appends_to_the_last_segment_whoever_began_it(tmp_path: Path) -> None:
    """A run in one process goes on where a run with workers ended."""
    worker = _journal(tmp_path, "a")
    worker.append(_frame(1))
    worker.close()
    later = _journal(tmp_path)
    place = later.append(_frame(2))
    assert later.read(place) == _frame(2)
    later.close()
    assert segment_numbers(tmp_path) == [1]
    assert _keys(tmp_path) == [1, 2]


def test_a_worker_that_still_writes_is_waited_for_and_then_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its driver is dead, and it is not: nobody may read past it, or mend what it writes."""
    worker = _journal(tmp_path, "a")
    worker.append(_frame(1))
    monkeypatch.setattr(segments, "_WORKER_PATIENCE_S", 0.0)
    with pytest.raises(RunLocked, match=r"journal-000001\.log: a worker of an earlier run still writes"):
        _journal(tmp_path)
    open_journal(tmp_path, read_only=True)  # who only looks does not wait
    worker.close()
    _journal(tmp_path).close()


def test_workers_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """They hold shared locks, each on a segment of its own."""
    first, second = _journal(tmp_path, "a"), _journal(tmp_path, "b")
    first.append(_frame(1))
    second.append(_frame(2))
    with segment_path(tmp_path, 1).open("rb") as segment, pytest.raises(BlockingIOError):
        fcntl.flock(segment, fcntl.LOCK_EX | fcntl.LOCK_NB)
    first.close()
    second.close()


def test_what_a_lost_worker_wrote_is_found_by_its_name(tmp_path: Path) -> None:
    """All its segments, none of the others', and not the line that it died over."""
    one, other = _journal(tmp_path, "a", segment_bytes=200), _journal(tmp_path, "b")
    for number in range(6):
        (one if number % 2 else other).append(_frame(number))
    with max(tmp_path.glob("journal-*.log")).open("ab") as segment:
        segment.write(b"torn")
    one.close()
    assert [int(line[15:47], 16) for line in worker_lines(tmp_path, "a") if b"answer-" in line] == [1, 3, 5]
    other.close()


def test_what_a_lost_worker_still_writes_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its node is gone and its process is not yet: what it journals last counts as well."""
    worker = _journal(tmp_path, "a")
    worker.append(_frame(1))

    def write_and_end(_: float) -> None:
        worker.append(_frame(2))
        worker.close()

    monkeypatch.setattr("synth_async.store.segments.time.sleep", write_and_end)
    assert [int(line[15:47], 16) for line in worker_lines(tmp_path, "a") if b"answer-" in line] == [1, 2]
