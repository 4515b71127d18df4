from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_async.errors import DiskFailure
from synth_async.store.following import FollowedFile


@given(
    lines=st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), max_size=20),
    cuts=st.sets(st.integers(0, 900)),
)
def test_every_whole_line_comes_once(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], cuts: set[int]
) -> None:
    """However the bytes come in, the lines are those of the file, in order; a torn one waits for its end."""
    path = tmp_path_factory.mktemp("followed") / "lines"
    content = b"".join(line + b"\n" for line in lines)
    followed, found = FollowedFile(path), []
    at = [*sorted(cut for cut in cuts if cut < len(content)), len(content)]
    with path.open("wb", buffering=0) as file:
        for start, end in zip([0, *at], at, strict=False):
            file.write(content[start:end])
            found += list(followed.new_lines())
            assert len(found) == content[:end].count(b"\n")
    followed.close()
    assert found == lines


def test_a_file_may_come_later(tmp_path: Path) -> None:
    """What is not there yet has no lines; a reader that was closed twice is closed."""
    followed = FollowedFile(tmp_path / "lines")
    assert list(followed.new_lines()) == []
    (tmp_path / "lines").write_bytes(b"one\ntw")
    assert list(followed.new_lines()) == [b"one"]
    assert repr(followed) == "<FollowedFile lines bytes=6 torn=2>"
    followed.close()
    followed.close()


def test_a_long_file_is_read_piece_by_piece(tmp_path: Path) -> None:
    """A reader that stops in the middle has read no more than a piece ahead."""
    (tmp_path / "lines").write_bytes(b"x" * 99 + b"\n" * 1 + (b"y" * 99 + b"\n") * 20_000)
    followed = FollowedFile(tmp_path / "lines")
    assert next(followed.new_lines()) == b"x" * 99
    assert "bytes=65536" in repr(followed)
    followed.close()


def test_what_cannot_be_read_is_a_failure_of_the_disk(tmp_path: Path) -> None:
    """A folder in the place of the file is told by its name."""
    with pytest.raises(DiskFailure, match=f"{tmp_path}: could not be read"):
        list(FollowedFile(tmp_path).new_lines())
