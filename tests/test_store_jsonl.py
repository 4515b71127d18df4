"""Output files that follow the journal."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_async.errors import DiskFailure
from synth_async.store.jsonl import ShadowFile

_LINES = st.lists(
    st.integers(0, 5).map(lambda number: b'{"n":%d}\n' % number) | st.just(b'{"long":"line"}\n'), max_size=8
)


def _bring_in_line(path: Path, confirmed: Iterable[bytes], appended: list[bytes]) -> bool:
    with ShadowFile(path) as shadow:
        for line in confirmed:
            shadow.confirm(line)
        shadow.settle()
        for line in appended:
            shadow.append(line)
        return shadow.rewritten


def _interrupted(lines: list[bytes], stop_at: int) -> Iterator[bytes]:
    yield from lines[:stop_at]
    raise KeyboardInterrupt


@given(_LINES, _LINES, st.binary(max_size=20), st.integers(0, 200), _LINES)
def test_the_file_becomes_what_the_journal_says(
    lines: list[bytes], other: list[bytes], noise: bytes, cut: int, appended: list[bytes]
) -> None:
    """Whatever was in the file (an older state, other lines, noise, a torn end), the journal's lines are in it."""
    for earlier in (b"".join(lines)[:cut] + noise, b"".join(other), b"".join(lines + other), noise):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "dataset.jsonl"
            path.write_bytes(earlier)
            rewritten = _bring_in_line(path, lines, appended)
            assert path.read_bytes() == b"".join(lines + appended)
            assert rewritten == (earlier != b"".join(lines))


def test_a_file_that_is_right_is_not_touched(tmp_path: Path) -> None:
    """Not a byte is written where every line is there."""
    path = tmp_path / "dataset.jsonl"
    path.write_bytes(b"1\n2\n3\n")
    os.utime(path, ns=(1, 1))
    assert not _bring_in_line(path, [b"1\n", b"2\n", b"3\n"], [])
    assert path.stat().st_mtime_ns == 1


def test_a_file_made_anew_shows_when_it_is_whole(tmp_path: Path) -> None:
    """Until every earlier line is in the new file the old one stands, whatever ends the process; no other is left."""
    path = tmp_path / "dataset.jsonl"
    lines = [b'{"n":%d}\n' % number for number in range(300_000)]
    path.write_bytes(b"".join(lines))
    for stop_at in (200_001, 250_000):
        with pytest.raises(KeyboardInterrupt):
            _bring_in_line(path, _interrupted([*lines[:200_000], *[b"other\n"] * 100_000], stop_at), [])
        assert path.read_bytes() == b"".join(lines)
        assert list(tmp_path.iterdir()) == [path]
    (tmp_path / ".dataset.jsonl.tmp").write_bytes(b"left by a kill")
    with ShadowFile(path) as shadow:
        for line in lines[:200_000]:
            shadow.confirm(line)
        shadow.confirm(b"other\n")
        assert path.read_bytes() == b"".join(lines)
        shadow.append(b"new\n")
        assert path.read_bytes() == b"".join(lines[:200_000]) + b"other\nnew\n"
        assert shadow.rewritten
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("end", [b"", b"2", b'2"torn'])
def test_a_torn_end_is_mended_where_it_is(tmp_path: Path, end: bytes) -> None:
    """Without a whole line to lose, the file goes on from its last one and is never a second time on the disk."""
    path = tmp_path / "dataset.jsonl"
    path.write_bytes(b"1\n" + end)
    number = path.stat().st_ino
    assert _bring_in_line(path, [b"1\n", b"2 and more\n"], [b"3\n"])
    assert path.read_bytes() == b"1\n2 and more\n3\n"
    assert path.stat().st_ino == number


def test_large_files_are_read_in_pieces(tmp_path: Path) -> None:
    """Confirming goes on over any number of reads, and a line may be larger than one."""
    path = tmp_path / "dataset.jsonl"
    lines = [b"a" * 700_000 + b"\n", b"b" * 3_000_000 + b"\n", b"c" * 700_000 + b"\n"]
    path.write_bytes(b"".join(lines))
    assert not _bring_in_line(path, lines, [])


def test_appending_settles_first(tmp_path: Path) -> None:
    """What stood behind the confirmed lines never shows behind a new one."""
    path = tmp_path / "dataset.jsonl"
    path.write_bytes(b"1\nstale and much longer\n")
    with ShadowFile(path) as shadow:
        shadow.confirm(b"1\n")
        shadow.append(b"2\n")
        assert path.read_bytes() == b"1\n2\n"


def test_a_path_that_cannot_be_opened_is_a_disk_failure(tmp_path: Path) -> None:
    """The message names the file; closing twice is no error."""
    with pytest.raises(DiskFailure, match=tmp_path.name):
        ShadowFile(tmp_path)
    shadow = ShadowFile(tmp_path / "rejects.jsonl")
    shadow.close()
    shadow.close()


_LIMITED = """
import resource, sys
from pathlib import Path
from synth_async.errors import DiskFailure
from synth_async.store.jsonl import ShadowFile
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
shadow = ShadowFile(Path(sys.argv[1]))
for line in (b"x" * 59 + b"\\n", b"y" * 59 + b"\\n", b"z" * 119 + b"\\n"):
    try:
        shadow.append(line)
    except DiskFailure as error:
        print(error)
shadow.append(b"short\\n")
"""


def test_a_short_write_leaves_whole_lines(tmp_path: Path) -> None:
    """A line that does not fit is cut off again: the file is valid up to its last byte, shorter lines may follow."""
    path = tmp_path / "dataset.jsonl"
    run = subprocess.run([sys.executable, "-c", _LIMITED, str(path)], capture_output=True, text=True, check=True)
    assert run.stdout.count("dataset.jsonl") == 2
    assert path.read_bytes() == b"x" * 59 + b"\nshort\n"
