"""A canary key over a mix of faults that echo it: it is in no file of the folder and on no screen."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from scripted_endpoint import Asked, Reply, config_of, good_example, rejects_of, scripted_endpoint, write_config

from synth_async.cli.console import cleaned, exit_on_error, hide, print_json
from synth_async.cli.run_log import RunLog

_ROOT = Path(__file__).parent.parent
_KEY = "sk-canary+0123456789/abcdefghij=="
_CORE = b"0123456789"
_ESCAPED = "".join(sign if sign.isalnum() else f"\\u{ord(sign):04x}" for sign in _KEY)


def _error(message: str) -> bytes:
    return orjson.dumps({"error": {"message": message, "type": "invalid_request_error"}})


def _completion(content: str) -> bytes:
    body = {"choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}]}
    return orjson.dumps({**body, "model": f"served for {_KEY}", "usage": {"prompt_tokens": 9, "completion_tokens": 9}})


def _example(name: str) -> str:
    """An example that says the key in its first words."""
    return good_example(name).replace('"user_message":"', f'"user_message":"my key {_KEY} ')


_HTML = f"<html>Bearer {_KEY}</html>".encode()
_FAULTS = (
    Reply(status=500, body=_HTML),
    Reply(status=503, body=_error(f"overloaded, said Bearer {_KEY} \x1b[31m")),
    Reply(fault="reset"),
    Reply(fault="hang"),
    Reply(status=429, body=_error(f"wait, {_KEY}"), headers={"retry-after-ms": "20", "x-echo": f"Bearer {_KEY}"}),
    Reply(body=_HTML),
    Reply(body=_completion("cut")[:-30]),
)


def _echoing(asked: Asked) -> Reply:
    """Every third body meets a fault at its first time; every eighth example is refused for good; all echo the key."""
    share = int(asked.name[:6], 16)
    if asked.kind == "generate" and share % 8 == 7:
        return Reply(status=400, body=_error(f"no such parameter for Bearer {_KEY} \x1b[2J, or {_ESCAPED}"))
    if asked.time == 1 and share % 3 == 0:
        return _FAULTS[share // 3 % len(_FAULTS)]
    if asked.kind == "topics":
        return Reply(
            body=_completion("\n".join(f"{good_example(f'{asked.name}{n}')[20:70]} {_KEY}" for n in range(25)))
        )
    if asked.kind == "judge":
        return Reply(body=_completion('{"scores": {"quality": 5}, "reason": "' + _KEY + '"}'))
    whole = _completion(_example(asked.name))
    return Reply(body=whole if share % 2 else whole.replace(_KEY.encode(), _ESCAPED.replace("\\", "\\\\").encode()))


def _synth(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "CANARY": _KEY}
    command = [sys.executable, "-m", "synth_async", *arguments]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, timeout=100, check=False)


def _shown(done: subprocess.CompletedProcess[bytes]) -> bytes:
    return done.stdout + done.stderr


@pytest.mark.slow
def test_the_key_is_in_no_file_and_on_no_screen(tmp_path: Path) -> None:
    """Over errors, resets, hangs, cut and HTML bodies, answers that say it, and a redirect: nowhere, in any escape."""
    with scripted_endpoint(_echoing) as endpoint:
        tree: dict[str, Any] = config_of(
            endpoint, target=25, endpoints__api_key_env="CANARY", endpoints__timeout_s=1, fsync="100ms"
        )
        write_config(tmp_path, tree)
        endpoint.reply = lambda asked: (
            Reply(status=302, body=b"", headers={"location": f"http://127.0.0.1:1/{_KEY}"})
            if endpoint.count() > 30
            else _echoing(asked)
        )
        redirected = _synth(tmp_path, "run", "config.yaml", "--out", "run")
        assert redirected.returncode == 3, redirected.stderr
        assert b"redirects elsewhere" in redirected.stderr
        endpoint.reply = _echoing
        done = _synth(tmp_path, "run", "config.yaml", "--out", "run")
        assert done.returncode == 0, done.stderr
        reported = _synth(tmp_path, "report", "run", "--json")
    assert any("***" in line["detail"] for line in rejects_of(tmp_path / "run"))
    assert b"my key ***" in (tmp_path / "run" / "dataset.jsonl").read_bytes()
    files = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    assert {
        "journal-000001.log",
        "run.log",
        "metrics.json",
        "rejects.jsonl",
        "report.html",
        "timeline.json",
    } <= files.keys()
    screens = {"redirected": _shown(redirected), "done": _shown(done), "reported": _shown(reported)}
    for name, content in {**files, **screens}.items():
        assert _CORE not in content, name
        assert b"\x1b" not in content or name == "dedup.sidecar", name  # hashes may have any byte
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "run").iterdir()}
    assert set(modes.values()) == {0o600}, modes
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700


@pytest.fixture
def _hidden() -> None:
    """The key is known to this process, as after its config was read."""
    hide(_KEY)


@pytest.mark.usefixtures("_hidden")
def test_no_traceback_shows_the_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An unexpected error that holds the key, in its message and its cause, is shown and logged without it; exit 1."""

    def action() -> None:
        raise ValueError(f"header b'{_KEY}'") from KeyError(f"Authorization: Bearer {_KEY}")

    with pytest.raises(SystemExit) as left:
        exit_on_error(action)
    assert left.value.code == 1
    log = RunLog(tmp_path / "run.log")
    log(f"{_KEY} and Bearer sk-somebody-elses-token")
    log.close()
    print_json({"a": _KEY})
    shown = "".join(capsys.readouterr()) + (tmp_path / "run.log").read_text()
    assert "Traceback" in shown
    assert shown.count("***") >= 5
    assert _CORE.decode() not in shown
    assert "somebody" not in shown


@pytest.mark.usefixtures("_hidden")
@pytest.mark.parametrize("sign", ["\x1b", "\x00", "\u202e", "\r"])
def test_a_control_character_does_not_hide_a_key(sign: str) -> None:
    """A sign that a terminal would obey is taken out first: it cannot part a key so that it is not found."""
    parted = f"{_KEY[:12]}{sign}{_KEY[12:]}"
    assert cleaned(f"{parted} here") == "*** here"


@pytest.mark.parametrize("token", ["Bearer abc.def-123_45~/+=", "bearer\n  0123456789", "Basic dXNlcjpwYXNz"])
def test_bearer_tokens_of_anybody_are_taken_out(token: str) -> None:
    """Whoever's token it is; a sentence about bearers stays."""
    assert re.fullmatch(r"(?i)a (bearer|basic) \*\*\* z", cleaned(f"a {token} z"))
    assert cleaned("the bearer of bad news") == "the bearer of bad news"


def test_every_log_file_is_private(tmp_path: Path) -> None:
    """Those that the rotation begins as well."""
    log = RunLog(tmp_path / "run.log", most_bytes=1000)
    for number in range(40):
        log(f"line {number} {'x' * 80}")
    log.close()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(["run.log", "run.log.1", "run.log.2", "run.log.3"], 0o600)
