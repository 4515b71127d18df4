"""What the journal costs while a run writes it, and what a resume takes to find out what is in it.

    python benchmarks/resume.py [--records 10000] [--frames 10000,100000,1000000] [--json]

Writing: answers of 2.5 KB, as fast as they can be written and at a pace of 1,000 a second, in bursts of 20. CPU is that
of the threads while they write and sync, without the generator of the answers.

    journal                     one write per record, and a sync (fdatasync) every 100 ms in a thread
    SQLite WAL, commit each     one insert and one commit per record, synchronous=NORMAL
    SQLite WAL, grouped         one insert per record, a commit every 100 ms: a kill takes what is not committed

Resuming: a journal as runs leave it (of four frames one planned task, one answer of 2.5 KB, one verdict of 0.7 KB, one
decision) is opened and scanned (`journal_state.scan`), in a process of its own, its files in the page cache. Memory is
the growth of that process's peak; keys are half as many as frames. Beside it the same records in a SQLite
table, keys, kinds and usage selected into a dict: it verifies no checksum.

Nothing leaves this computer; the files are made in the folder for temporary files and removed (2.6 GB at 1,000,000).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

import orjson

from synth_async.pipeline.frames import answer_frame, decision_frame, task_frame
from synth_async.pipeline.journal_state import scan
from synth_async.records import ChatRequest, Drop, DropReason, Stage, Task, Topic, Verdict
from synth_async.store.frames import Frame
from synth_async.store.journal import Journal, open_journal

SYNC_S = 0.1
BURST = 20
PACE = 1_000
FINGERPRINT = "0123456789abcdef"
TEXT = "The invoice was charged twice after our renewal on Monday, and nobody could tell why. " * 40
SCHEMA = "CREATE TABLE frames (place INTEGER PRIMARY KEY, key BLOB, kind TEXT, fields TEXT, body BLOB)"
INSERT = "INSERT INTO frames (key, kind, fields, body) VALUES (?, ?, ?, ?)"
SELECT = """SELECT place, key, kind, fields, json_extract(body, '$.usage.prompt_tokens') FROM frames"""


# --- what is written -----------------------------------------------------------------------------


def key_of(name: str) -> str:
    """A key like a request's."""
    return hashlib.blake2b(name.encode(), digest_size=16).hexdigest()


def answer(key: str, stage: Stage, text: str) -> Frame:
    """The frame of a chat completion with this content."""
    body = {
        "id": f"chatcmpl-{key[:16]}",
        "object": "chat.completion",
        "created": 1_795_476_725,
        "model": "benchmark",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 208, "completion_tokens": 473, "total_tokens": 681},
    }
    return answer_frame(ChatRequest(key, stage, (), None, None, "json_object"), 1, "endpoint", orjson.dumps(body))


def example_answer(number: int) -> Frame:
    """An answer of 2.5 KB."""
    content = orjson.dumps({"user_message": TEXT[:500], "assistant_response": f"{number} {TEXT[:1_480]}"}).decode()
    return answer(key_of(f"example {number}"), Stage.GENERATE, content)


def frames_of_a_run(number: int) -> Iterator[Frame]:
    """`number` frames as runs write them, ten samples a topic, a fifth dropped."""
    verdict = Verdict({"helpfulness": 5, "accuracy": 4}, 4.5, "specific, polite and to the point", "benchmark")
    drop = Drop(Stage.JUDGE, DropReason.LOW_SCORE, "3.50 < 4.00")
    prompt = ({"role": "system", "content": TEXT[:200]}, {"role": "user", "content": TEXT[:700]})
    for example in range(-(-number // 4)):
        made = example_answer(example)
        topic = Topic(example // 10, TEXT[:90], None)
        facets = {"tone": ("calm", "frustrated", "confused")[example % 3], "channel": "chat"}
        yield task_frame(Task(made.key, topic, example % 10, prompt, facets))  # type: ignore[arg-type]
        yield made
        scores = orjson.dumps({"scores": {"helpfulness": 5, "accuracy": 4}, "reason": TEXT[:200]}).decode()
        yield answer(key_of(f"verdict {example}"), Stage.JUDGE, scores)
        dropped = drop if example % 5 == 0 else None
        yield decision_frame(made.key, FINGERPRINT, dropped, verdict, in_place=False)


def row_of(frame: Frame) -> tuple[bytes, str, bytes, bytes | None]:
    """The frame as a row of the table."""
    return bytes.fromhex(frame.key), frame.kind, orjson.dumps(frame.fields), frame.body


def open_table(path: Path, *, any_thread: bool = False) -> sqlite3.Connection:
    """The table in WAL mode, transactions in our hands."""
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=not any_thread)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=NORMAL")
    database.execute(SCHEMA)
    return database


# --- writing -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Written:
    """CPU microseconds per record of one way to write."""

    way: str
    pace: str
    cpu_us: float
    per_second: float


class Ticker:
    """Calls something every 100 ms in a thread, and sums up the thread's CPU time."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.cpu_s = 0.0
        self._action = action
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(SYNC_S):
            before = time.thread_time()
            self._action()
            self.cpu_s += time.thread_time() - before


def write_all(frames: list[Frame], write: Callable[[Frame], object], *, pace: int | None) -> tuple[float, float]:
    """CPU seconds and seconds for writing all frames, in bursts at a pace (records per second) or flat out."""
    cpu_s, started = 0.0, time.perf_counter()
    remaining, written = iter(frames), 0
    while burst := list(islice(remaining, BURST)):
        before = time.thread_time()
        for frame in burst:
            write(frame)
        cpu_s += time.thread_time() - before
        written += len(burst)
        if pace is not None:
            time.sleep(max(0.0, started + written / pace - time.perf_counter()))
    return cpu_s, time.perf_counter() - started


def with_journal(folder: Path, frames: list[Frame], pace: int | None) -> tuple[float, float]:
    """As the pipeline does it."""
    journal = open_journal(folder, fsync="100ms", writer="benchmark")
    journal.append(frames[0])  # the segment is made, the reserve taken
    with Ticker(journal.sync) as ticker:
        cpu_s, seconds = write_all(frames, journal.append, pace=pace)
    journal.close()
    return cpu_s + ticker.cpu_s, seconds


def with_commits(folder: Path, frames: list[Frame], pace: int | None) -> tuple[float, float]:
    """One insert per commit."""
    with closing(open_table(folder / "frames.db")) as database:
        return write_all(frames, lambda frame: database.execute(INSERT, row_of(frame)), pace=pace)


def with_groups(folder: Path, frames: list[Frame], pace: int | None) -> tuple[float, float]:
    """A commit every 100 ms in a thread, inserts in between."""
    lock = threading.Lock()
    with closing(open_table(folder / "frames.db", any_thread=True)) as database:
        database.execute("BEGIN")

        def commit() -> None:
            with lock:
                database.execute("COMMIT")
                database.execute("BEGIN")

        def insert(frame: Frame) -> None:
            with lock:
                database.execute(INSERT, row_of(frame))

        with Ticker(commit) as ticker:
            cpu_s, seconds = write_all(frames, insert, pace=pace)
        database.execute("COMMIT")
        return cpu_s + ticker.cpu_s, seconds


WAYS = {"journal": with_journal, "SQLite WAL, commit each": with_commits, "SQLite WAL, grouped": with_groups}


def measure_writing(records: int) -> list[Written]:
    """Every way at both paces."""
    frames = [example_answer(number) for number in range(records)]
    rows = []
    for way, write in WAYS.items():
        for pace in (None, PACE):
            with tempfile.TemporaryDirectory(prefix="synth-async-benchmark-") as folder:
                cpu_s, seconds = write(Path(folder), frames, pace)
            told = "flat out" if pace is None else f"{pace:,}/s"
            rows.append(Written(way, told, 1e6 * cpu_s / records, records / seconds))
    return rows


# --- resuming ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Resumed:
    """What it took to find out what is there."""

    way: str
    frames: int
    disk_mb: float
    seconds: float
    cpu_s: float
    peak_mib: float
    bytes_per_key: float


def scan_journal(folder: Path) -> int:
    """Open and scan; returns how many keys were found."""
    state = scan(Journal(folder, fsync="never", writer="benchmark"), fingerprint=FINGERPRINT)
    return len(state.answers)


def scan_table(folder: Path) -> int:
    """Keys, kinds and usage by one query."""
    places: dict[tuple[bytes, str], int] = {}
    spent = 0
    with closing(sqlite3.connect(folder / "frames.db")) as database:
        for place, key, kind, fields, prompt in database.execute(SELECT):
            places[key, kind] = place
            if prompt is None:
                orjson.loads(fields)
            else:
                spent += prompt
    return len({key for key, _ in places})


SCANS = {"journal": scan_journal, "SQLite WAL": scan_table}


def peak_bytes() -> int:
    """The most memory that this process has held so far. `getrusage` would count what its parent held (Linux)."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def scan_once(way: str, folder: Path) -> dict[str, float]:
    """One scan in this process, of files that are in the page cache."""
    disk = 0
    for path in folder.iterdir():
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                disk += len(piece)
    held = peak_bytes()
    started, before = time.perf_counter(), time.process_time()
    keys = SCANS[way](folder)
    seconds, cpu_s = time.perf_counter() - started, time.process_time() - before
    peak = peak_bytes() - held
    return {
        "disk_mb": disk / 1e6,
        "seconds": seconds,
        "cpu_s": cpu_s,
        "peak_mib": peak / 2**20,
        "bytes_per_key": peak / keys,
    }


def fill(way: str, folder: Path, frames: Iterable[Frame]) -> None:
    """Write the frames, without a sync: only reading is measured here."""
    if way == "journal":
        journal = open_journal(folder, fsync="never", writer="benchmark")
        for frame in frames:
            journal.append(frame)
        journal.close()
        return
    with closing(open_table(folder / "frames.db")) as database:
        database.execute("BEGIN")
        database.executemany(INSERT, map(row_of, frames))
        database.execute("COMMIT")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def measure_resuming(sizes: list[int]) -> list[Resumed]:
    """Every size, both ways, each in a process of its own."""
    rows = []
    for frames in sizes:
        for way in SCANS:
            with tempfile.TemporaryDirectory(prefix="synth-async-benchmark-") as folder:
                fill(way, Path(folder), frames_of_a_run(frames))
                command = [sys.executable, __file__, "--scan", way, "--folder", folder]
                child = subprocess.run(command, check=True, stdout=subprocess.PIPE)
            rows.append(Resumed(way, frames, **json.loads(child.stdout)))
    return rows


# --- telling -------------------------------------------------------------------------------------


def table(written: list[Written], resumed: list[Resumed]) -> str:
    """The rows as text."""
    lines = [f"{'writing':<24} {'pace':>9} {'CPU us/record':>14} {'records/s':>10}"]
    lines += [f"{row.way:<24} {row.pace:>9} {row.cpu_us:>14.1f} {row.per_second:>10,.0f}" for row in written]
    lines.append("")
    head = f"{'resuming':<12} {'frames':>10} {'MB':>7} {'seconds':>8} {'CPU s':>7} {'us/frame':>9}"
    lines.append(f"{head} {'peak MiB':>9} {'bytes/key':>10}")
    lines += [
        f"{row.way:<12} {row.frames:>10,} {row.disk_mb:>7,.0f} {row.seconds:>8.2f} {row.cpu_s:>7.2f}"
        f" {1e6 * row.cpu_s / row.frames:>9.1f} {row.peak_mib:>9.1f} {row.bytes_per_key:>10.0f}"
        for row in resumed
    ]
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--records", type=int, default=10_000, help="answers that are written each way")
    options.add_argument("--frames", default="10000,100000,1000000", help="sizes of journals to resume from")
    options.add_argument("--json", action="store_true")
    options.add_argument("--scan", choices=SCANS, help=argparse.SUPPRESS)
    options.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.scan:
        print(json.dumps(scan_once(chosen.scan, chosen.folder)))
        return
    written = measure_writing(chosen.records)
    resumed = measure_resuming([int(size) for size in chosen.frames.split(",")])
    told: dict[str, Any] = {"written": [asdict(row) for row in written], "resumed": [asdict(row) for row in resumed]}
    print(json.dumps(told, indent=2) if chosen.json else table(written, resumed))


if __name__ == "__main__":
    main()
