"""A run on a small disk that fills up: a real file system, a real process, a server that counts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from scripted_endpoint import (
    Asked,
    Reply,
    config_of,
    dataset_of,
    lines_of,
    names_in_journal,
    scripted_endpoint,
    usual_reply,
    write_config,
)

_ROOT = Path(__file__).parent.parent

_SCRIPT = """
set -e
mount -t tmpfs -o size=$SMALL none "$RUN"
code=0; "$@" || code=$?
cp -r "$RUN" "$KEPT/full"
mount -o remount,size=64m "$RUN"
again=0; "$@" || again=$?
third=0; "$@" || third=$?
cp -r "$RUN" "$KEPT/done"
echo $code $again $third
"""


def _in_mount_namespace(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script, "sh", *arguments],
        env={**os.environ, "PYTHONPATH": str(_ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def small_disk() -> None:
    """Skips where nobody may mount."""
    if sys.platform != "linux" or not shutil.which("unshare"):
        pytest.skip("needs a mount of its own")
    if _in_mount_namespace("mount -t tmpfs -o size=64k none /mnt").returncode:
        pytest.skip("this system lets nobody mount a small disk")


def _slow_at_times(asked: Asked) -> Reply:
    """Some answers are under way when others fill the disk."""
    return Reply(usual_reply(asked).content, delay_s=0.2 if asked.name[0] in "0123" else 0.0)


@pytest.mark.slow
@pytest.mark.usefixtures("small_disk")
@pytest.mark.parametrize("small", ["180k", "240k", "300k"])
def test_a_full_disk_stops_the_run_and_loses_nothing(tmp_path: Path, small: str) -> None:
    """Exit 74 with every answer in the journal; with more room the same command asks for none of them again."""
    run, kept = tmp_path / "run", tmp_path / "kept"
    run.mkdir()
    kept.mkdir()
    with scripted_endpoint(_slow_at_times) as endpoint:
        config = write_config(tmp_path, config_of(endpoint, target=100, fsync="100ms", endpoints__max_in_flight=16))
        command = [sys.executable, "-m", "synth_async", "run", str(config), "--out", str(run)]
        done = _in_mount_namespace(_SCRIPT, *command, SMALL=small, RUN=str(run), KEPT=str(kept))
        assert done.stdout.split("\n")[-2] == "74 0 0", done.stderr
        assert "the disk is full" in done.stderr
        assert "Traceback" not in done.stderr
        held = names_in_journal(kept / "full")
        assert held
        assert not [path for path in (kept / "full").iterdir() if path.suffix == ".torn"]
        lines_of(kept / "full" / "dataset.jsonl")
        names = endpoint.names("generate") + endpoint.names("judge")
        assert len(names) == len(set(names)), "what was answered was asked again"
        assert held <= set(names) | set(endpoint.names("topics"))
        ids = [line["id"] for line in dataset_of(kept / "done")]
        assert len(ids) == len(set(ids)) == 100
        # The acceptance that met the full disk is journaled and has no line yet: the next start puts it in its place.
        assert {line["id"] for line in dataset_of(kept / "full")} <= set(ids)
