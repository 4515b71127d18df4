"""Sketching by several processes: the order and the sketches are those of one, and no process is left behind."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from synth_async.dataset.deduplicate import deduplicate_file
from synth_async.dataset.line_files import Line
from synth_async.dataset.sketching import Reading, Sketched, cores_available, sketched_lines
from synth_async.errors import SynthAsyncError
from synth_async.stages.conversations import UnreadableRow

ROOT = Path(__file__).parent.parent


def words(draw: random.Random, count: int) -> str:
    """Words that no other text has: whatever is alike was made so."""
    return " ".join(f"{draw.getrandbits(32):x}" for _ in range(count))


def line_of(number: int, draw: random.Random) -> bytes:
    """A row of some words, now and then a broken one."""
    if number % 97 == 5:
        return b"{broken\n"
    return json.dumps({"id": number, "text": words(draw, draw.randrange(2, 40))}).encode() + b"\n"


def lines(count: int) -> list[Line]:
    """Lines of one file, the same every time."""
    draw = random.Random(7)
    return [Line(0, number, line_of(number, draw)) for number in range(1, count + 1)]


def plain(sketched: Sketched) -> tuple[object, ...]:
    """What a line turned out to be, as values that can be compared."""
    if isinstance(sketched, UnreadableRow):
        return (str(sketched),)
    sketch = sketched.sketch
    return sketched.id, sketch.exact, sketch.text, None if sketch.signature is None else sketch.signature.tobytes()


def test_workers_give_the_sketches_of_one_process_in_the_order_of_the_lines() -> None:
    """Two workers change neither a sketch, nor a message about a broken line, nor the order; then they are gone."""
    given = lines(700)
    with closing(sketched_lines(given, Reading(), workers=2, alone=50)) as stream:
        found = list(stream)
    alone = list(sketched_lines(given, Reading(), workers=1))
    assert [line for line, _ in found] == given
    assert [plain(document) for _, document in found] == [plain(document) for _, document in alone]
    assert not multiprocessing.active_children()


def test_a_reader_that_leaves_early_leaves_no_worker_and_has_read_little() -> None:
    """An error while the lines are used ends the workers before it goes on; what was read ahead is bounded."""
    read: list[int] = []

    def noted() -> Iterator[Line]:
        for line in lines(4000):
            read.append(line.number)
            yield line

    def use() -> None:
        with closing(sketched_lines(noted(), Reading(), workers=2, alone=0)) as stream:
            next(stream)
            raise KeyError

    with pytest.raises(KeyError):
        use()
    assert not multiprocessing.active_children()
    assert len(read) < 6 * 128 + 1


@pytest.mark.slow
def test_a_worker_that_dies_is_told_with_what_to_do() -> None:
    """A worker killed from outside, as for want of memory, is an error and no wait without end."""
    with closing(sketched_lines(lines(6000), Reading(), workers=2, alone=0)) as stream:
        next(stream)
        victim = multiprocessing.active_children()[0]
        assert victim.pid is not None
        os.kill(victim.pid, signal.SIGKILL)
        with pytest.raises(SynthAsyncError, match="--workers 1"):
            list(stream)
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_a_file_is_deduplicated_by_two_workers_as_by_one(tmp_path: Path) -> None:
    """Output, report and counts are the same bytes; the file is long enough for the workers to start."""
    draw = random.Random(3)
    texts = [words(draw, 20) for _ in range(1100)]
    texts += [f"Hello, {text}!" for text in texts] + texts[:300]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    found = [
        deduplicate_file(
            source, tmp_path / f"{workers}.jsonl", report=tmp_path / f"{workers}.clusters", workers=workers
        )
        for workers in (1, 2)
    ]
    assert found[0] == found[1]
    assert found[0].near > 100
    for end in ("jsonl", "clusters"):
        assert (tmp_path / f"1.{end}").read_bytes() == (tmp_path / f"2.{end}").read_bytes()


def test_cores_are_those_that_may_be_used() -> None:
    """At least one, and no more than the machine has."""
    assert 1 <= cores_available() <= (os.cpu_count() or 1)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_an_interrupted_verb(tmp_path: Path, number: signal.Signals) -> None:
    """A signal to the verb while its workers run: exit 130 (or killed), the old output untouched, no process left.

    The processes hold a pipe: it is at its end once the last of them is gone.
    """
    target = tmp_path / "out.jsonl"
    target.write_text("before\n")
    command = [sys.executable, "-m", "synth_async", "dedup", "-", str(target), "--workers", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as verb:
        assert verb.stdin is not None
        # More than what is read ahead: once all is taken, workers have answered, and the verb waits for more.
        verb.stdin.write(b"".join(line.content for line in lines(4000)))
        verb.stdin.flush()
        verb.send_signal(number)
        assert verb.stdout is not None
        assert verb.stderr is not None
        told = verb.stderr.read(), verb.stdout.read()
    assert verb.returncode == (130 if number != signal.SIGKILL else -signal.SIGKILL)
    if number != signal.SIGKILL:
        assert told == (b"synth-async: interrupted\n", b"")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl"]
    assert target.read_text() == "before\n"
