"""`init`, `dedup`, `merge` and `simulate`: the verbs that need no config."""

from __future__ import annotations

import errno
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synth_async.cli.console import end_start_up, print_json, print_path, print_text, say
from synth_async.errors import DiskFailure, UsageError

if TYPE_CHECKING:
    from synth_async.config.models import Simulation
    from synth_async.dataset.deduplicate import DedupSummary
    from synth_async.dataset.merge import MergeSummary

__all__ = ["deduplicate", "simulate_endpoint", "simulation_of", "write_starter"]

_BROKEN_TOLD = 20
_SIMULATION = ("endpoints", "embedded", "simulation")


# --- init ----------------------------------------------------------------------------------------


def write_starter(path: Path, *, force: bool) -> None:
    """Write the starter config; raises `UsageError` where something stands there, `DiskFailure` where it cannot be."""
    from synth_async.config.starter import STARTER

    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name the file, such as {path / 'synth-async.yaml'}")
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(STARTER)
    except FileExistsError:
        raise UsageError(f"{path}: is there already; choose another name, or write over it with --force") from None
    except OSError as error:
        raise DiskFailure(f"{path}: could not be written: {error.strerror}") from None
    print_path(path)
    name = shlex.quote(str(path))
    say(f"next: synth-async validate {name}, synth-async preview {name}, then synth-async run {name}")


# --- dedup ---------------------------------------------------------------------------------------


def deduplicate(
    source: Path,
    target: Path,
    *,
    report: Path | None,
    workers: int | None,
    as_json: bool,
    choices: Mapping[str, Any],
) -> None:
    """Copy a JSONL file without its duplicates; the summary goes to stderr and the path to stdout, or both as JSON.

    With standard output as the target, its lines are all that stands there.
    """
    to_stdout = str(target) == "-"
    if to_stdout and as_json:
        raise UsageError("--json prints to standard output, where the kept lines go; name a file for OUT")
    end_start_up()
    from synth_async.dataset.deduplicate import deduplicate_file
    from synth_async.dataset.sketching import cores_available

    workers = workers or cores_available()
    with interrupted_by_signals(), progress_shown() as on_progress:
        summary = deduplicate_file(source, target, report=report, workers=workers, on_progress=on_progress, **choices)
    if as_json:
        print_json({"out": str(target), "report": None if report is None else str(report), **asdict(summary)})
        return
    say(_dedup_text(summary, source, report))
    if not to_stdout:
        print_path(target)


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """TERM and HUP end the block as INT does, so that files are left as promised; one that is ignored stays ignored."""
    earlier = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    heard = [number for number, action in earlier.items() if action is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, earlier[number])


@contextmanager
def progress_shown() -> Iterator[Callable[[int], None] | None]:
    """A count that is written over itself on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    began_s = time.monotonic()

    def show(read: int) -> None:
        rate = read / max(0.1, time.monotonic() - began_s)
        sys.stderr.write(f"\r{read:,} lines read, {rate:,.0f} a second")
        sys.stderr.flush()

    try:
        yield show
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def _dedup_text(summary: DedupSummary, source: Path, report: Path | None) -> str:
    dropped = summary.exact + summary.near
    counts = f"{summary.read:,} lines read, {summary.kept:,} kept, {dropped:,} dropped"
    kinds = f"{summary.exact:,} exact, {summary.near:,} near-duplicates"
    rows = [f"{counts} ({kinds}), {summary.broken_count:,} broken"]
    told = summary.broken[:_BROKEN_TOLD]
    rows += [f"{source}:{number}: left out: {message}" for number, message in told]
    if summary.broken_count > len(told):
        rows.append(f"{source}: and {summary.broken_count - len(told):,} more broken lines")
    rows += [f"line {number} of {message}" for number, message in summary.against_broken[:_BROKEN_TOLD]]
    if report is not None:
        rows.append(f"what was dropped, by what it repeats: {report}")
    if summary.semantic_count is not None:
        rows.append(
            f"{summary.semantic_count:,} pairs of kept lines are alike in meaning; nothing was dropped for that"
        )
    return "\n".join(rows)


# --- merge ---------------------------------------------------------------------------------------


def merge_sources(
    sources: Sequence[Path], out: Path, *, workers: int | None, as_json: bool, choices: Mapping[str, Any]
) -> None:
    """Merge runs or files; the summary goes to stderr and the path of the dataset to stdout, or both as JSON."""
    to_stdout = str(out) == "-"
    if to_stdout and as_json:
        raise UsageError("--json prints to standard output, where the kept lines go; name a file with --out")
    end_start_up()
    from synth_async.dataset.merge import is_file_name, merge_files
    from synth_async.dataset.sketching import cores_available

    dataset = out if is_file_name(out) else out / "dataset.jsonl"
    workers = workers or cores_available()
    with interrupted_by_signals(), progress_shown() as on_progress:
        summary = merge_files(sources, out, workers=workers, on_progress=on_progress, **choices)
    if as_json:
        print_json({"out": str(out), "dataset": str(dataset), **asdict(summary)})
        return
    say(_merge_text(summary))
    if not to_stdout:
        print_path(dataset)


def _merge_text(summary: MergeSummary) -> str:
    dropped = summary.exact + summary.near
    counts = f"{summary.read:,} lines read, {summary.kept:,} kept, {dropped:,} dropped"
    kinds = f"{summary.exact:,} exact, {summary.near:,} near-duplicates"
    rows = [f"{counts} ({kinds}), {summary.broken_count:,} broken"]
    rows += [f"{source}: {kept:,} lines kept" for source, kept in summary.kept_of.items()]
    told = summary.broken[:_BROKEN_TOLD]
    rows += [f"{message}; left out" for message in told]
    if summary.broken_count > len(told):
        rows.append(f"and {summary.broken_count - len(told):,} more broken lines")
    return "\n".join(rows)


# --- simulate ------------------------------------------------------------------------------------


def simulate_endpoint(port: int, given: Mapping[str, Any], settings: Sequence[str], *, any_model: bool) -> None:
    """Serve the embedded endpoint until INT or TERM; its base URL is the one line on stdout."""
    end_start_up()
    simulation = simulation_of(given, settings)
    from synth_async.endpoint.simulator.server import serve

    try:
        serve(simulation, port=port, any_model=any_model, on_ready=lambda url: _announce(url, any_model=any_model))
    except OSError as error:
        raise UsageError(_why_not_listening(port, error)) from None


def simulation_of(given: Mapping[str, Any], settings: Sequence[str]) -> Simulation:
    """The checked settings: `given`, then `--set` (`faults.reset=0.01`); raises `UsageError` with all mistakes.

    They are checked as the `simulation` of an endpoint in a config, so that the words are those of a config's mistakes.
    """
    from pydantic import ValidationError

    from synth_async.config.models import Config, Simulation
    from synth_async.config.overrides import apply_overrides
    from synth_async.config.source import dotted
    from synth_async.config.wording import bool_mistakes, validation_mistakes

    chosen = {key: value for key, value in given.items() if value is not None}
    endpoint = {"base_url": "simulator", "model": "simulator", "simulation": chosen}
    tree: dict[str, Any] = {
        "name": "s",
        "domain": "s",
        "system_prompt": "s",
        "target": 1,
        "endpoints": {_SIMULATION[1]: endpoint},
    }
    prefix = ".".join(_SIMULATION) + "."
    _, mistakes = apply_overrides(tree, [prefix + setting for setting in settings])
    checked: Simulation | None = None
    try:
        checked = Config.model_validate(tree).endpoints[_SIMULATION[1]].simulation
    except ValidationError as error:
        mistakes += validation_mistakes(error, tree)
    mistakes += bool_mistakes(tree)
    if mistakes:
        told = [f"{dotted(each.path)}: {each.message}".replace(prefix, "") for each in mistakes]
        example = ("generation.temperature=0.7", "faults.reset=0.01")
        raise UsageError("\n".join(dict.fromkeys(line.replace(*example) for line in told)))
    return checked or Simulation()


def _announce(base_url: str, *, any_model: bool) -> None:
    model = "any model name" if any_model else "model: simulator"
    say(f"listening with {model}; the counts are at {base_url.removesuffix('/v1')}/_simulator/stats; Ctrl-C ends it")
    print_text(base_url)


def _why_not_listening(port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use; choose another with --port, or 0 for a free one"
    return f"port {port}: cannot listen on 127.0.0.1: {error.strerror}; choose another with --port, or 0 for a free one"
