"""What stands on the terminal, in pipes and in logs, while a run goes on and when it ends."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import orjson
import pytest

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "synth_async"]
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "_SYNTH_ASYNC"))},
    "PYTHONPATH": str(ROOT),
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Four examples from the embedded endpoint."""
    path = tmp_path / "c.yaml"
    endpoint = {"base_url": "simulator", "model": "simulator", "simulation": {"latency_s": 0.02}}
    tree = {"name": "few", "domain": "a shop", "system_prompt": "Help.", "target": 4, "endpoints": {"e": endpoint}}
    path.write_bytes(orjson.dumps(tree))
    return path


def synth(*arguments: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """The finished process of one verb."""
    return subprocess.run(
        [*COMMAND, *arguments], cwd=cwd, env=ENVIRONMENT | more, capture_output=True, text=True, timeout=100,
        check=False,
    )  # fmt: skip


def test_json_logs_are_objects_from_the_first_line_to_the_last(config: Path) -> None:
    """Every line of stderr has its time and event; `end` has the exit code and the counts; stdout stays as it is."""
    done = synth("run", "c.yaml", "--json-logs", cwd=config.parent)
    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert (done.returncode, done.stdout) == (0, "runs/few/dataset.jsonl\n")
    assert {"time", "event"} <= set.intersection(*(set(each) for each in told))
    assert told[-1]["event"] == "end"
    assert (told[-1]["exit_code"], told[-1]["accepted"], told[-1]["simulated"]) == (0, 4, True)


def test_an_error_is_an_object_with_its_exit_code(config: Path) -> None:
    """A mistake in the config is one event, with the message that a person would get."""
    done = synth("run", "c.yaml", "--json-logs", "--set", "targt=3", cwd=config.parent)
    (told,) = (json.loads(line) for line in done.stderr.splitlines())
    assert (done.returncode, told["event"], told["exit_code"]) == (2, "error", 2)
    assert "did you mean target?" in told["message"]


def test_quiet_says_nothing(config: Path) -> None:
    """A run that goes well leaves stderr empty, and the path on stdout."""
    done = synth("run", "c.yaml", "--quiet", cwd=config.parent)
    assert (done.returncode, done.stdout, done.stderr) == (0, "runs/few/dataset.jsonl\n", "")


def test_a_pipe_gets_plain_lines(config: Path) -> None:
    """No bar, no carriage return, no escape: what a log file can hold."""
    done = synth("run", "c.yaml", cwd=config.parent, NO_COLOR="1")
    assert "\r" not in done.stderr
    assert "\x1b" not in done.stderr
    assert "few: 4 of 4 examples accepted" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_the_verbs(tmp_path: Path, shell: str) -> None:
    """The script of each shell calls the command, and the command answers with its verbs."""
    script = "import sys; sys.argv[0] = 'synth-async'; from synth_async.cli import main; main()"

    def answer(**environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, env=ENVIRONMENT | environment, capture_output=True, text=True,
            timeout=100, check=False,
        )  # fmt: skip
        assert not done.stderr
        return done.stdout

    assert "synth-async" in answer(_SYNTH_ASYNC_COMPLETE=f"source_{shell}")
    words = {
        "bash": {"COMP_WORDS": "synth-async vali", "COMP_CWORD": "1"},
        "zsh": {"_TYPER_COMPLETE_ARGS": "synth-async vali"},
        "fish": {"_TYPER_COMPLETE_ARGS": "synth-async vali", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }
    found = answer(_SYNTH_ASYNC_COMPLETE=f"complete_{shell}", **words[shell])
    assert "validate" in found
    assert "validate-dataset" in found


def test_a_reader_that_left_changes_no_exit_code(config: Path) -> None:
    """With stdout closed on the other side, a run that is short of its budget is still exit 4, without a traceback."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as stdout:
        done = subprocess.run(
            [*COMMAND, "run", "c.yaml", "--set", "budget={requests: 2}"], cwd=config.parent, env=ENVIRONMENT,
            stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=100, check=False,
        )  # fmt: skip
    assert done.returncode == 4
    assert "raise budget.requests" in done.stderr
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def _wait(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Until the run has accepted something."""
    dataset = folder / "runs" / "few" / "dataset.jsonl"
    deadline = time.monotonic() + 60
    while not (dataset.exists() and dataset.stat().st_size):
        assert process.poll() is None, "the run ended before it was looked at"
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("under", [[], ["nohup"]])
def test_a_closed_terminal_stops_a_run_unless_it_was_told_to_go_on(config: Path, under: list[str]) -> None:
    """HUP with the terminal gone is exit 130 and a folder that is resumed; under `nohup` the run goes to its end."""
    leader, follower = pty.openpty()
    slow = ["--set", "endpoints.e.simulation.latency_s=0.2", "--set", "endpoints.e.max_in_flight=2", "--target", "12"]
    command = [*under, *COMMAND, "run", "c.yaml", *slow]
    with subprocess.Popen(
        command, cwd=config.parent, env=ENVIRONMENT, stdin=follower, stdout=follower, stderr=follower,
        start_new_session=True,
    ) as process:  # fmt: skip
        os.close(follower)
        _wait(process, config.parent)
        with suppress(OSError):
            os.close(leader)
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=100) == (0 if under else 130)
    dataset = config.parent / "runs" / "few" / "dataset.jsonl"
    assert (len(dataset.read_bytes().splitlines()) == 12) is bool(under)
    assert synth("run", "c.yaml", "--target", "12", "--quiet", cwd=config.parent).returncode == 0
    assert len(dataset.read_bytes().splitlines()) == 12


@pytest.mark.slow
def test_status_looks_at_a_run_under_way(config: Path) -> None:
    """From another process: running, how fast, and the same numbers for a script; the run is not disturbed."""
    slow = ["--set", "endpoints.e.rpm=240", "--target", "60", "--quiet"]
    with subprocess.Popen([*COMMAND, "run", "c.yaml", *slow], cwd=config.parent, env=ENVIRONMENT) as process:
        _wait(process, config.parent)
        deadline = time.monotonic() + 60
        while "speed" not in (shown := synth("status", "runs/few", cwd=config.parent).stdout):
            assert time.monotonic() < deadline
        found = json.loads(synth("status", "runs/few", "--json", cwd=config.parent).stdout)
        process.terminate()
        assert process.wait(timeout=100) == 130
    assert "state     running" in shown
    assert "requests a minute" in shown
    assert found["state"] == "running"
    assert found["recent"]["requests"] > 0
