"""The run folder: one writer, private files, whole replacements."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_async.errors import DiskFailure, RunLocked, UsageError
from synth_async.store.run_folder import (
    BYTES_PER_EXAMPLE,
    RunFolder,
    RunLock,
    read_json,
    space_warning,
    write_atomically,
)

_HOLDER = """
import sys
from pathlib import Path
from synth_async.store.run_folder import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    """The refusal names the holder's pid; a SIGKILL frees the folder at once, without anybody cleaning up."""
    path = tmp_path / "run.lock"
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunLocked, match=rf"pid {holder.pid} on .* --out"), RunLock(path):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with RunLock(path):
            assert f"pid {os.getpid()} " in path.read_text()


def test_a_lock_is_freed_on_leaving_and_held_against_oneself(tmp_path: Path) -> None:
    """One process cannot hold a folder twice, and can hold it one time after another."""
    path = tmp_path / "run.lock"
    with RunLock(path), pytest.raises(RunLocked), RunLock(path):
        pass
    with RunLock(path):
        pass


def test_a_lock_that_cannot_be_made_is_a_disk_failure(tmp_path: Path) -> None:
    """A missing folder is not a held one."""
    with pytest.raises(DiskFailure, match=r"run\.lock"), RunLock(tmp_path / "none" / "run.lock"):
        pass


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_a_file_is_replaced_as_a_whole(tmp_path_factory: pytest.TempPathFactory, old: bytes, new: bytes) -> None:
    """The new bytes and nothing else, readable by the user alone, and no other file is left."""
    path = tmp_path_factory.mktemp("atomic") / "run.json"
    write_atomically(path, old)
    reader = path.open("rb")
    write_atomically(path, new)
    with reader:
        assert reader.read() == old
    assert path.read_bytes() == new
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


_LIMITED = """
import resource, sys
from pathlib import Path
from synth_async.errors import DiskFailure
from synth_async.store.run_folder import write_atomically
path = Path(sys.argv[1])
write_atomically(path, b"old")
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    write_atomically(path, b"x" * 200)
except DiskFailure as error:
    print(error)
"""


def test_a_write_that_fails_leaves_the_old_bytes(tmp_path: Path) -> None:
    """When the disk takes only a part, the file keeps what it had, and the part is removed."""
    path = tmp_path / "metrics.json"
    run = subprocess.run([sys.executable, "-c", _LIMITED, str(path)], capture_output=True, text=True, check=True)
    assert "metrics.json" in run.stdout
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_folder_is_made_private(tmp_path: Path) -> None:
    """Parents are made as well; a folder that is there is taken as it is."""
    folder = RunFolder(tmp_path / "runs" / "demo")
    folder.create()
    folder.create()
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert folder.manifest.parent == folder.path


def test_a_folder_that_cannot_be_made_is_a_disk_failure(tmp_path: Path) -> None:
    """A file in the way is named, and so is the way out."""
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(DiskFailure, match=r"cannot be made.*--out"):
        RunFolder(tmp_path / "runs" / "demo").create()


def test_json_that_is_no_object_is_the_users_to_mend(tmp_path: Path) -> None:
    """No file is None; anything but an object is an error with the path."""
    path = tmp_path / "run.json"
    assert read_json(path) is None
    for broken in (b"", b"[]", b'{"a": 1'):
        path.write_bytes(broken)
        with pytest.raises(UsageError, match=r"run\.json"):
            read_json(path)
    path.write_bytes(b'{"a": 1}')
    assert read_json(path) == {"a": 1}


def test_a_disk_that_is_too_small_is_told_before_the_start(tmp_path: Path) -> None:
    """The guess counts until there is something to measure; then what the folder holds does, the reserve left out."""
    folder = RunFolder(tmp_path)
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    within, beyond = free // BYTES_PER_EXAMPLE // 2, free // BYTES_PER_EXAMPLE * 2
    assert space_warning(folder, accepted=0, target=within) is None
    assert f"for {beyond:,} more examples" in (space_warning(folder, accepted=0, target=beyond) or "")
    folder.dataset.write_bytes(b"x" * 100_000)
    (tmp_path / "journal.reserve").touch()
    os.truncate(tmp_path / "journal.reserve", 20_000_000)
    assert space_warning(folder, accepted=1_000, target=beyond) is None
    assert space_warning(folder, accepted=10, target=beyond) is not None
    assert space_warning(folder, accepted=beyond, target=beyond) is None


def test_a_folder_that_cannot_be_asked_gets_no_warning(tmp_path: Path) -> None:
    """The estimate is a service; what is wrong with the folder is told by whoever opens it."""
    assert space_warning(RunFolder(tmp_path / "none"), accepted=0, target=10**15) is None


def test_a_linked_folder_is_one_folder(tmp_path: Path) -> None:
    """A lock taken by way of a symbolic link holds the folder itself, and a copy of a held folder is free."""
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    RunFolder(tmp_path / "link").create()
    with RunLock(RunFolder(tmp_path / "link").lock):
        with pytest.raises(RunLocked), RunLock(RunFolder(tmp_path / "run").lock):
            pass
        shutil.copytree(tmp_path / "run", tmp_path / "copy")
        with RunLock(RunFolder(tmp_path / "copy").lock):
            pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_a_disk_failure(tmp_path: Path) -> None:
    """It is said before anything is sent, with the way out."""
    (tmp_path / "run").mkdir(mode=0o500)
    with pytest.raises(DiskFailure, match=r"not writable.*--out"):
        RunFolder(tmp_path / "run").create()
