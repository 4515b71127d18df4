"""`on_finish`: what the user's command is told, what it is not, and what it cannot change."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_endpoint import Reply, ScriptedEndpoint, config_of, scripted_endpoint, usual_reply, write_config

from synth_async.cli.on_finish import Outcome, environment_for, run_command
from synth_async.config.models import Config
from synth_async.config.secrets import key_variables
from synth_async.errors import ExitCode

_ROOT = Path(__file__).parent.parent
_KEY = "sk-canary-0123456789abcdef"
_TELL = "import json, os, sys; open('told.json', 'w').write(json.dumps(dict(os.environ)))"


def _outcome(code: ExitCode = ExitCode.FINISHED, message: str = "") -> Outcome:
    return Outcome(code, Path("run"), Path("run/dataset.jsonl"), 3, 5, message)


def _run(folder: Path, tree: dict[str, Any], **env: str) -> subprocess.CompletedProcess[str]:
    """`synth-async run` of a config, as a process."""
    config = write_config(folder, tree)
    command = [sys.executable, "-m", "synth_async", "run", str(config), "--out", str(folder / "run")]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), **env}
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def _with_command(endpoint: ScriptedEndpoint, code: str, **changes: Any) -> dict[str, Any]:
    return config_of(endpoint, target=5, on_finish=[sys.executable, "-c", code], **changes)


def test_a_finished_run_tells_its_command_and_no_key(tmp_path: Path) -> None:
    """The command is run in the config's folder with the outcome; no variable holds the key, under any name."""
    with scripted_endpoint() as endpoint:
        tree = _with_command(endpoint, _TELL, endpoints__api_key_env="MY_KEY")
        done = _run(tmp_path, tree, MY_KEY=_KEY, OPENAI_API_KEY="sk-another-0123456789", COPY_OF_KEY=_KEY, PLAIN="kept")
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "told.json").read_text())
    assert {name.removeprefix("SYNTH_ASYNC_"): told[name] for name in told if name.startswith("SYNTH_ASYNC_")} == {
        "OUTCOME": "finished",
        "EXIT_CODE": "0",
        "FOLDER": str(tmp_path / "run"),
        "DATASET": str(tmp_path / "run" / "dataset.jsonl"),
        "ACCEPTED": "5",
        "TARGET": "5",
        "MESSAGE": "",
    }
    assert told["PLAIN"] == "kept"
    assert "OPENAI_API_KEY" not in told
    assert not [name for name, value in told.items() if _KEY in value]


@pytest.mark.parametrize("code", ["import sys; sys.exit('no\\x1b[31m mail for sk-canary-0123456789abcdef')", "raise 1"])
def test_a_command_that_fails_changes_nothing(tmp_path: Path, code: str) -> None:
    """Its failure is a note on stderr and in the log, cleaned like any other; the run has finished all the same."""
    with scripted_endpoint() as endpoint:
        done = _run(tmp_path, _with_command(endpoint, code), OPENAI_API_KEY=_KEY)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'run' / 'dataset.jsonl'}\n")
    log = (tmp_path / "run" / "run.log").read_text()
    for text in (done.stderr, log):
        assert f"on_finish: {sys.executable} answered with exit code 1: " in text
        assert "\x1b" not in text
        assert _KEY not in text


def _refuse(_: object) -> Reply:
    return Reply(status=401)


@pytest.mark.parametrize(
    ("reply", "changes", "outcome", "code"),
    [
        (_refuse, {}, "refused", 3),
        (usual_reply, {"topics": {"file": "few.txt"}, "generation": {"max_examples_per_topic": 3}}, "stopped", 4),
    ],
)
def test_a_run_that_stops_early_tells_why(
    tmp_path: Path, reply: Callable[..., Reply], changes: dict[str, Any], outcome: str, code: int
) -> None:
    """Outcome, exit code and message are those of the process, whose exit code stays its own."""
    (tmp_path / "few.txt").write_text("one\n", encoding="utf-8")
    with scripted_endpoint(reply) as endpoint:
        done = _run(tmp_path, _with_command(endpoint, f"{_TELL}; sys.exit(9)", **changes))
    told = json.loads((tmp_path / "told.json").read_text())
    assert (told["SYNTH_ASYNC_OUTCOME"], told["SYNTH_ASYNC_EXIT_CODE"], done.returncode) == (outcome, str(code), code)
    assert told["SYNTH_ASYNC_MESSAGE"]
    assert told["SYNTH_ASYNC_MESSAGE"] in done.stderr


def test_a_run_that_never_began_tells_nobody(tmp_path: Path) -> None:
    """After a change that is refused (exit 2) there was no run, so there is no outcome."""
    with scripted_endpoint() as endpoint:
        assert _run(tmp_path, config_of(endpoint, target=3)).returncode == 0
        changed = _with_command(endpoint, _TELL, generation={"temperature": 0.1})
        assert _run(tmp_path, changed).returncode == 2
    assert not (tmp_path / "told.json").exists()


def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    """After its time the command and what it started are killed."""
    lines = [
        "import os, signal",
        "if os.fork() == 0:",
        "    open('child', 'w').write(str(os.getpid()))",
        "    os.rename('child', 'child.pid')",
        "signal.pause()",
    ]
    problem = run_command([sys.executable, "-c", "\n".join(lines)], os.environ, folder=tmp_path, timeout_s=2.0)
    assert problem == "did not end within 2 s, and was ended"
    try:
        child = os.pidfd_open(int((tmp_path / "child.pid").read_text()))
    except ProcessLookupError:
        return
    with os.fdopen(child) as ended:
        assert select.select([ended], [], [], 30)[0] == [ended]


@pytest.mark.parametrize("command", [["no-such-command-anywhere"], ["./config.yaml"], ["a\0b"]])
def test_a_command_that_cannot_start_is_told(tmp_path: Path, command: list[str]) -> None:
    """A program that is not there, is no program, or cannot be named: a sentence, no error."""
    (tmp_path / "config.yaml").write_text("x")
    assert (run_command(command, os.environ, folder=tmp_path) or "").startswith("could not be started")


def test_a_line_is_split_and_not_given_to_a_shell() -> None:
    """Quotes hold words together; what a shell would do with `;` and `$` does not happen."""
    tree = {"name": "n", "domain": "d", "system_prompt": "s", "target": 1, "endpoints": {"only": {"model": "m"}}}
    config = Config.model_validate({**tree, "on_finish": "notify-send 'run is over' $HOME; rm x"})
    assert config.on_finish == ("notify-send", "run is over", "$HOME;", "rm", "x")


@given(code=st.sampled_from(ExitCode), message=st.text())
def test_every_exit_code_has_an_outcome(code: ExitCode, message: str) -> None:
    """Only exit code 0 is told as finished, and any message makes a variable that a process can have."""
    told = environment_for(_outcome(code, message), {}, ())
    assert (told["SYNTH_ASYNC_OUTCOME"] == "finished") is (code is ExitCode.FINISHED)
    assert "\0" not in told["SYNTH_ASYNC_MESSAGE"]


def test_the_keys_of_unused_endpoints_are_left_out_too() -> None:
    """Every `api_key_env` of the config, and OPENAI_API_KEY."""
    endpoints = {"a": {"model": "m", "api_key_env": "A"}, "b": {"model": "m", "api_key_env": "B"}}
    sections = {name: {"endpoint": "a"} for name in ("topics", "generation", "judge")}
    tree = {"name": "n", "domain": "d", "system_prompt": "s", "target": 1, "endpoints": endpoints, **sections}
    names = key_variables(Config.model_validate(tree))
    assert names == {"OPENAI_API_KEY", "A", "B"}
    env = {"A": "1", "B": "2", "OPENAI_API_KEY": "3", "C": "2", "D": "4", "E": ""}
    assert {name for name in environment_for(_outcome(), env, names) if "SYNTH" not in name} == {"D", "E"}
