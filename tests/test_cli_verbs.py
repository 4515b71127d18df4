"""The verbs as a user runs them: real processes, their exit codes, what is on stdout and what on stderr."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from synth_async.store.run_folder import RunLock

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "synth_async"]


def environment(**more: str) -> dict[str, str]:
    """The environment of a process: no key of the user's, and the package under test."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    return kept | {"PYTHONPATH": str(ROOT)} | more


def synth(*arguments: str | Path, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """The finished process of one verb."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd, env=environment(**more), capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The one line that `simulate` prints, while it serves; TERM ends it with exit 0."""
    with subprocess.Popen(
        [*COMMAND, "simulate", "--port", "0", "--latency", "0"],
        cwd=tmp_path_factory.mktemp("simulate"), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True,
    ) as server:  # fmt: skip
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.send_signal(signal.SIGTERM)
        rest = server.stdout.read()
    assert (server.returncode, rest) == (0, "")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The starter config, as `init` writes it."""
    done = synth("init", "my.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "my.yaml\n")
    assert "synth-async validate my.yaml" in done.stderr
    return tmp_path / "my.yaml"


def test_init_keeps_what_is_there_unless_forced(config: Path) -> None:
    """A second `init` is exit 2 and changes nothing; `--force` writes over it; a place that cannot be is exit 74."""
    config.write_text("mine")
    again = synth("init", config, cwd=config.parent)
    assert again.returncode == 2
    assert "--force" in again.stderr
    assert config.read_text() == "mine"
    assert synth("init", config, "--force", cwd=config.parent).returncode == 0
    assert config.read_text() != "mine"
    assert synth("init", "no/such/folder.yaml", cwd=config.parent).returncode == 74


def test_validate_tells_all_missing_keys_at_once_and_sends_nothing(config: Path) -> None:
    """Each used endpoint's missing key variable is a line; an endpoint that no stage uses needs none."""
    url = "base_url: http://127.0.0.1:9/v1"
    endpoints = ", ".join(f"{name}: {{{url}, model: m, api_key_env: NO_{name.upper()}}}" for name in ("a", "b", "c"))
    sets = [f"endpoints={{{endpoints}}}", "generation.endpoint=a", "topics.endpoint=a", "judge.endpoint=b"]
    done = synth("validate", config, *(part for each in sets for part in ("--set", each)), cwd=config.parent)
    assert (done.returncode, done.stdout) == (2, "")
    assert "NO_A" in done.stderr
    assert "NO_B" in done.stderr
    assert "NO_C" not in done.stderr


def test_validate_as_json_holds_the_forecast(config: Path) -> None:
    """`--json` gives the object on stdout; a price makes the cost known."""
    price = "endpoints.main.price={prompt: 1, completion: 2}"
    done = synth("validate", config, "--json", "--set", price, cwd=config.parent)
    found = json.loads(done.stdout)
    assert [stage["stage"] for stage in found["stages"]] == ["topics", "generation", "judge"]
    assert 0 < found["cost_usd"]["low"] < found["cost_usd"]["high"]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("generation.temprature=1", "did you mean temperature?"),
        ("target=many", "must be a whole number"),
        ("topics.file=none.txt", "there is no file"),
        ("topics.file=latin.txt", "is not UTF-8"),
        ("endpoints.main={base_url: 'http://127.0.0.1:9/v1', model: m, api_key_env: NO_SUCH}", "NO_SUCH is not set"),
    ],
)
def test_a_config_mistake_is_exit_2_and_makes_no_folder(config: Path, override: str, told: str) -> None:
    """Nothing is written before the config is right; the message names what is wrong."""
    (config.parent / "latin.txt").write_bytes(b"caf\xe9\n")
    done = synth("run", config, "--set", override, cwd=config.parent)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not (config.parent / "runs").exists()


def test_config_mistakes_answer_before_the_heavy_imports(config: Path) -> None:
    """Neither the client nor numpy is imported for `--help` or for a config mistake."""
    script = (
        "import sys; from synth_async.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'openai', 'aiohttp', 'numpy', 'datasketch', 'jinja2'} & set(sys.modules)))"
    )
    for arguments in (
        ["--help"],
        ["run", str(config), "--set", "x=1"],
        ["preview", "none.yaml"],
        ["validate", "none.yaml"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments], cwd=config.parent, env=environment(), capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        assert done.stdout.splitlines()[-1] == "[]", arguments


@pytest.mark.parametrize("verb", ["status", "report"])
def test_looking_at_no_run_folder_is_exit_2(tmp_path: Path, verb: str) -> None:
    """A folder without a run, and no folder at all, are usage mistakes."""
    assert synth(verb, tmp_path, cwd=tmp_path).returncode == 2
    assert "no such folder" in synth(verb, "nowhere", cwd=tmp_path).stderr


def test_report_writes_a_page_and_names_it(tmp_path: Path) -> None:
    """Beside the text, which is said also where the page cannot be written (exit 74); the run's own files stay."""
    (tmp_path / "run.json").write_text('{"name": "r", "target": 5}')
    done = synth("report", tmp_path, cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"page      {tmp_path / 'report.html'}")
    assert "0 examples accepted" in done.stdout
    found = json.loads(synth("report", tmp_path, "--json", cwd=tmp_path).stdout)
    assert found["page"] == str(tmp_path / "report.html")
    page = tmp_path / "report.html"
    assert page.read_text().startswith("<!doctype html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "run.json"]
    page.unlink()
    (page / "in the way").mkdir(parents=True)
    failed = synth("report", tmp_path, cwd=tmp_path)
    assert (failed.returncode, "0 examples accepted" in failed.stdout) == (74, True)
    assert "could not be written" in failed.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "model", "told"),
    [
        ("invalid", "simulator", "access refused"),
        ("no-quota", "simulator", "quota"),
        ("k", "gpt-none", "no such model"),
    ],
)
def test_an_endpoint_that_refuses_for_good_is_exit_3(
    config: Path, base_url: str, key: str, model: str, told: str
) -> None:
    """401, a used-up quota and an unknown model end the run at once; the key is in no output and no file."""
    endpoint = f"endpoints.main={{base_url: '{base_url}', model: {model}, api_key_env: SECRET_KEY}}"
    secret = key if key != "k" else "sk-a-long-secret-0123456789"
    done = synth("run", config, "--set", endpoint, "--out", "out", cwd=config.parent, SECRET_KEY=secret)
    assert done.returncode == 3
    assert told in done.stderr
    if key == "k":
        assert all(secret.encode() not in file.read_bytes() for file in (config.parent / "out").iterdir())
        assert secret not in done.stderr + done.stdout


@pytest.mark.slow
def test_a_run_is_looked_at_and_previewed(config: Path, base_url: str) -> None:
    """After a run, `status` says finished and `report` adds up; `preview` shows prompts and leaves nothing behind."""
    endpoint = f"endpoints.main={{base_url: '{base_url}', model: simulator}}"
    done = synth("run", config, "--set", endpoint, "--target", "12", "--out", "out", cwd=config.parent)
    assert (done.returncode, done.stdout) == (0, "out/dataset.jsonl\n")
    assert json.loads(synth("status", "out", "--json", cwd=config.parent).stdout)["state"] == "finished"
    report = json.loads(synth("report", "out", "--json", cwd=config.parent).stdout)
    assert report["accepted"] == report["metrics"]["accepted"] == 12
    before = sorted(config.parent.rglob("*"))
    shown = synth("preview", config, "-n", "2", "--json", "--set", endpoint, cwd=config.parent)
    found = json.loads(shown.stdout)
    assert set(found["prompts"]) == {"topics", "generation", "judge"}
    assert len(found["accepted"]) == 2
    told = found["accepted"][0]["messages"][-1]["content"]
    assert json.dumps(told)[1:-1] in found["prompts"]["judge"][1]["content"]
    assert sorted(config.parent.rglob("*")) == before


def test_status_of_a_held_folder_says_running_and_leaves_the_lock(tmp_path: Path) -> None:
    """A held lock is running, with its holder; looking neither takes nor breaks the lock; a free one is not running."""
    (tmp_path / "run.json").write_text('{"name": "r", "target": 5}')
    with RunLock(tmp_path / "run.lock"):
        found = json.loads(synth("status", tmp_path, "--json", cwd=tmp_path).stdout)
        again = json.loads(synth("status", tmp_path, "--json", cwd=tmp_path).stdout)
    assert found["state"] == again["state"] == "running"
    assert f"pid {os.getpid()} " in found["holder"]
    assert json.loads(synth("status", tmp_path, "--json", cwd=tmp_path).stdout)["state"] == "new"


def test_dedup_names_broken_lines_and_puts_the_path_on_stdout(tmp_path: Path) -> None:
    """Exit 0 although a line is broken; its number is told on stderr."""
    (tmp_path / "in.jsonl").write_text('{"text": "one and two"}\nbroken\n{"text": "one and two"}\n')
    done = synth("dedup", "in.jsonl", "out.jsonl", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "out.jsonl\n")
    assert "in.jsonl:2:" in done.stderr
    assert (tmp_path / "out.jsonl").read_text() == '{"text": "one and two"}\n'


def test_dedup_as_json_holds_the_counts(tmp_path: Path) -> None:
    """`--json` puts the summary on stdout and nothing on stderr."""
    (tmp_path / "in.jsonl").write_text('{"text": "one and two"}\nbroken\n{"text": "one and two"}\n')
    done = synth("dedup", "in.jsonl", "out.jsonl", "--json", cwd=tmp_path)
    found = json.loads(done.stdout)
    assert (found["read"], found["kept"], found["exact"], found["broken"][0][0]) == (3, 1, 1, 2)
    assert not done.stderr


def test_a_wrong_choice_is_exit_2_with_the_choices(tmp_path: Path) -> None:
    """`--verify difflib` is told what there is."""
    wrong = synth("dedup", "in.jsonl", "out.jsonl", "--verify", "difflib", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "jaccard" in wrong.stderr


def test_simulate_with_a_taken_port_or_wrong_settings_is_exit_2(tmp_path: Path) -> None:
    """The port is named; every wrong setting is a line in plain words."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = synth("simulate", "--port", str(port), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"port {port} is in use" in done.stderr
    wrong = synth("simulate", "--rpm", "-1", "--set", "faults.rest=0.1", "--set", "faults.reset=2", cwd=tmp_path)
    assert wrong.returncode == 2
    for told in ("rpm: must be above 0", "did you mean reset?", "faults.reset: must be at most 1"):
        assert told in wrong.stderr
    assert "endpoints." not in wrong.stderr


@pytest.mark.slow
def test_an_endpoint_that_is_not_there_is_exit_3_after_half_a_minute(config: Path) -> None:
    """Connection refused from the start is given up on, with the advice to check base_url."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    endpoint = f"endpoints.main={{base_url: 'http://127.0.0.1:{port}/v1', model: m}}"
    done = synth("run", config, "--set", endpoint, "--out", "out", cwd=config.parent)
    assert done.returncode == 3
    assert "check base_url" in done.stderr


def test_dedup_reads_and_writes_pipes(tmp_path: Path) -> None:
    """`-` is standard input and output: only lines on stdout, talk on stderr; `--json` has no place there."""
    row = '{"text": "one and two"}\n'
    done = subprocess.run(
        [*COMMAND, "dedup", "-", "-"], cwd=tmp_path, env=environment(), input=row * 2, capture_output=True, text=True,
        timeout=100, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, row)
    assert "1 exact" in done.stderr
    refused = synth("dedup", "-", "-", "--json", cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert not list(tmp_path.iterdir())


def test_an_extra_that_is_missing_is_exit_2_with_its_name(tmp_path: Path) -> None:
    """Neither `merge` without polars nor a semantic report without scikit-learn begins to write."""
    (tmp_path / "in.jsonl").write_text('{"text": "one and two"}\n')
    for package, extra, arguments in (
        ("polars", "merge", ["merge", "in.jsonl", "--out", "out.jsonl"]),
        ("sklearn", "semantic", ["dedup", "in.jsonl", "out.jsonl", "--semantic-report", "pairs.jsonl"]),
    ):
        script = f"import sys; sys.modules[{package!r}] = None; from synth_async.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments], cwd=tmp_path, env=environment(), capture_output=True,
            text=True, timeout=100, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (2, "")
        assert f"pip install 'synth-async[{extra}]'" in done.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_merge_prints_the_dataset(tmp_path: Path) -> None:
    """A folder is a run folder with its dataset; the lines kept of each source are told."""
    pytest.importorskip("polars", reason="wants the extra merge")
    rows: list[dict[str, object]] = [
        {"id": text, "messages": [{"role": "user", "content": text}], "metadata": {}} for text in ("a", "b")
    ]
    one, two = (json.dumps(row) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_text(one)
    (tmp_path / "b.jsonl").write_text(one + two)
    done = synth("merge", "a.jsonl", "b.jsonl", "--out", "merged", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "merged/dataset.jsonl\n")
    assert "3 lines read, 2 kept, 1 dropped" in done.stderr
    assert json.loads(synth("status", "merged", "--json", cwd=tmp_path).stdout)["state"] == "finished"
    assert json.loads(synth("report", "merged", "--json", cwd=tmp_path).stdout)["accepted"] == 2


def test_judge_scores_and_calibrates_on_the_embedded_endpoint(tmp_path: Path) -> None:
    """Without a config: the path of the scored file is on stdout; what people said is compared; again asks nothing."""
    user = "I was charged twice for invoice 17 and my bank shows both lines, what should I do now?"
    good = "Open Billing, find invoice 17, choose Request refund, and then check the line after 5 days with your bank."
    rows = [
        {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": reply}], "accepted": accepted}
        for reply, accepted in ((good, True), ("Maybe it sorts itself out.", False))
    ]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    first = synth("judge", "chats.jsonl", "--base-url", "simulator", cwd=tmp_path)
    assert (first.returncode, first.stdout) == (0, "chats.scored.jsonl\n")
    assert "2 rows, 2 scored" in first.stderr
    assert "simulated scores" in first.stderr
    again = synth("judge", "--calibrate", "chats.jsonl", "--base-url", "simulator", "--json", cwd=tmp_path)
    assert again.returncode == 0
    assert json.loads(again.stdout)["calibration"]["suggested"]["f1"] == 1
    assert "nothing had to be asked" in synth("judge", "chats.jsonl", "--base-url", "simulator", cwd=tmp_path).stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "name a FILE to score"),
        (["chats.jsonl"], "name the judge"),
        (["chats.jsonl", "--config", "c.yaml", "--model", "m"], "--config names the endpoint"),
        (["none.jsonl", "--base-url", "simulator"], "no such file"),
        (["chats.jsonl", "--base-url", "simulator", "--set", "judge.sample=3"], "did you mean"),
    ],
)
def test_judge_says_what_is_missing(tmp_path: Path, arguments: list[str], told: str) -> None:
    """A mistake on the command line is exit 2 with what to do, and writes nothing."""
    (tmp_path / "chats.jsonl").write_text("", encoding="utf-8")
    found = synth("judge", *arguments, cwd=tmp_path)
    assert (found.returncode, found.stdout) == (2, "")
    assert told in found.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["chats.jsonl"]
