"""`run --engine ray` as a user types it, where Ray is not there, and where it is not wanted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from synth_async.cli.engine import RayRequest, ray_request
from synth_async.errors import UsageError

ROOT = Path(__file__).parent.parent


def _python(script: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


def test_without_the_package_the_command_that_installs_it_is_said(tmp_path: Path) -> None:
    """Exit 2 before the config is looked at, and no folder."""
    script = "import sys; sys.modules['ray'] = None; from synth_async.cli import main; main()"
    done = _python(script, "run", "config.yaml", "--engine", "ray", cwd=tmp_path)
    assert done.returncode == 2
    assert "pip install 'synth-async[ray]'" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("workers", "address"), [(3, None), (None, "127.0.0.1:6379")])
def test_options_of_ray_without_ray_are_a_mistake(workers: int | None, address: str | None) -> None:
    """Nobody who asks for eight workers is given one process."""
    with pytest.raises(UsageError, match="add --engine ray"):
        ray_request(workers, address, wanted=False)


def test_two_workers_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """And an address is taken as it is."""
    monkeypatch.setattr("synth_async.cli.engine.is_installed", lambda: True)
    assert ray_request(None, "10.0.0.1:6379", wanted=True) == RayRequest(2, "10.0.0.1:6379")
    assert ray_request(None, None, wanted=False) is None


def test_a_run_in_one_process_loads_nothing_of_ray(tmp_path: Path) -> None:
    """Neither Ray nor the room that knows it: it is not a moment slower for either."""
    script = (
        "import sys; from pathlib import Path; sys.argv = ['synth-async', *sys.argv[1:]]\n"
        "from synth_async.cli import app\n"
        "app(standalone_mode=False)\n"
        "found = [name for name in sys.modules if name == 'ray' or name.startswith('synth_async.distributed')]\n"
        "Path('loaded.txt').write_text(repr(found))"
    )
    done = _python(
        script, "run", str(ROOT / "configs/quickstart.yaml"), "--target", "3", "--out", "run", "--quiet", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "loaded.txt").read_text() == "[]"
