"""`status`, `report` and `validate`: what looks and changes nothing."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synth_async.cli.console import end_start_up, print_json, print_text, say
from synth_async.errors import UsageError
from synth_async.report.metrics import FUNNEL, state_of
from synth_async.report.summary import duration, summary_text
from synth_async.store.run_folder import RunFolder, read_json

if TYPE_CHECKING:
    from synth_async.stages.batch_forecast import WayForecast
    from synth_async.stages.forecast import Forecast, Range

__all__ = ["show_report", "show_status", "validate_config"]

_NEEDED = (
    *FUNNEL,
    "rejected",
    "attempts",
    "http_429",
    "tokens",
    "cost_usd",
    "elapsed_s",
    "target",
    "utilisation",
    "undecided",
)
_STATES = {
    "running": "running",
    "finished": "finished",
    "stopped": "stopped with work left; the same `run` command goes on",
    "new": "nothing yet; the same `run` command begins",
}


# --- status --------------------------------------------------------------------------------------


def show_status(path: Path, *, as_json: bool) -> None:
    """Where a run stands, from its files alone; whoever runs it is not disturbed."""
    folder = _run_folder(path)
    holder = _holder(folder.lock)
    manifest, metrics = read_json(folder.manifest) or {}, _metrics(folder)
    state = _state(holder, metrics)
    changed_at = _last_change(folder)
    if as_json:
        found: dict[str, Any] = {"state": state, "folder": str(folder.path), "name": manifest.get("name")}
        print_json(found | {"holder": holder, "last_change_s": round(time.time() - changed_at, 1), **(metrics or {})})
        return
    lines = [f"state     {_STATES[state]}" + (f" ({holder})" if holder else "")]
    lines += [*_progress_lines(manifest, metrics), f"changed   {duration(max(0.0, time.time() - changed_at))} ago"]
    lines.append(f"folder    {folder.path}")
    if metrics is not None:
        name, simulated = str(manifest.get("name", folder.path.name)), bool(manifest.get("simulated"))
        lines += ["", summary_text(metrics, name=name, simulated=simulated), *_failure_lines(metrics)]
        lines += _batch_lines(metrics)
    print_text("\n".join(lines))


def _progress_lines(manifest: Mapping[str, Any], metrics: Mapping[str, Any] | None) -> list[str]:
    if metrics is None:
        return [f"target    {manifest.get('target', 'unknown')}; nothing is counted yet"]
    share = metrics["accepted"] / max(1, metrics["target"])
    return [f"accepted  {metrics['accepted']:,} of {metrics['target']:,} ({share:.1%})"]


def _failure_lines(metrics: Mapping[str, Any]) -> list[str]:
    failures = metrics.get("failures") or {}
    told = ", ".join(f"{kind} {count:,}" for kind, count in failures.items())
    return [f"failures  {told}; sent again"] if told else []


def _batch_lines(metrics: Mapping[str, Any]) -> list[str]:
    """Batches that were under way when the counts were last written."""
    return [
        f"batch     {each['batch'] or 'not created yet'} of endpoint {each['endpoint']}: {each['status']},"
        f" {each['completed'] + each['failed']:,} of {each['lines']:,} lines done"
        for each in metrics.get("batches") or ()
    ]


def _run_folder(path: Path) -> RunFolder:
    """The folder, which holds a run: its manifest, or at least a journal, from which everything else can be made."""
    folder = RunFolder(path)
    if not path.is_dir():
        raise UsageError(f"{path}: no such folder; give the run folder that `synth-async run` named")
    if not folder.manifest.exists() and not any(path.glob("journal-*.log")):
        raise UsageError(
            f"{path}: is not a run folder, it holds no run.json; give the one that `synth-async run` named"
        )
    return folder


def _metrics(folder: RunFolder) -> dict[str, Any] | None:
    metrics = read_json(folder.metrics)
    missing = [key for key in _NEEDED if metrics is not None and key not in metrics]
    if missing:
        raise UsageError(
            f"{folder.metrics}: {', '.join(missing)} is missing; delete the file, `run --offline` writes it again"
        )
    return metrics


def _state(holder: str | None, metrics: Mapping[str, Any] | None) -> str:
    return "running" if holder is not None else state_of(metrics)


def _holder(lock: Path) -> str | None:
    """Who holds the run, by the words in its lock file; None when nobody does.

    A shared lock is asked for and given back at once: it is refused while a run holds the file, and disturbs no holder.
    """
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            return None
        return os.pread(descriptor, 400, 0).decode("utf-8", "replace").strip() or "unknown"
    finally:
        os.close(descriptor)
    return None


def _last_change(folder: RunFolder) -> float:
    """Unix time of the last change to a file that grows with the run."""
    files = [*folder.path.glob("journal-*.log"), folder.metrics, folder.dataset, folder.manifest]
    return max((file.stat().st_mtime for file in files if file.exists()), default=folder.path.stat().st_mtime)


# --- report --------------------------------------------------------------------------------------


def show_report(path: Path, *, as_json: bool) -> None:
    """The report of a run, on stdout and as `report.html` in its folder."""
    end_start_up()
    folder = _run_folder(path)
    from synth_async.report.text import report_text
    from synth_async.report.writing import ReportWriter, read_timeline

    manifest, metrics = read_json(folder.manifest) or {}, _metrics(folder)
    name = str(manifest.get("name", path.name))
    writer = ReportWriter(folder)
    writer.read_on()
    report = writer.follower.report
    try:
        writer.write(metrics, read_timeline(folder), _state(_holder(folder.lock), metrics))
    finally:  # what could be read is said, also where the page cannot be written
        if as_json:
            found = {"name": name, "folder": str(path), "page": str(folder.page), "metrics": metrics}
            print_json({**found, **report.as_json()})
        else:
            print_text(f"{report_text(report, metrics, name=name)}\n\npage      {folder.page}")


# --- validate ------------------------------------------------------------------------------------


def validate_config(path: Path, overrides: Sequence[str], *, as_json: bool) -> None:
    """Check a config and its key variables, then say what a run would take."""
    from synth_async.cli.prepared import prepared

    loaded = prepared(path, overrides).loaded
    from synth_async.stages.batch_forecast import compare_ways, time_of_ways
    from synth_async.stages.forecast import forecast
    from synth_async.stages.task_plan import task_plan

    found = forecast(loaded.config, loaded.context or "", loaded.topics, task_plan(loaded))
    ways = compare_ways(loaded.config, found)
    found = replace(found, time_s=time_of_ways(found, ways))
    for warning in found.warnings:
        say(f"{path}: warning: {warning}")
    if as_json:
        print_json(
            {"config": str(path), "name": loaded.config.name, **asdict(found), "ways": [asdict(way) for way in ways]}
        )
    else:
        print_text("\n".join(_forecast_lines(path, loaded.config.name, found, ways)))


def _forecast_lines(path: Path, name: str, found: Forecast, ways: Sequence[WayForecast]) -> list[str]:
    stages = [("stage", "endpoint", "requests", "prompt tokens", "completion tokens", "cost")]
    for stage in found.stages:
        tokens = _tokens(stage.prompt_tokens), _tokens(stage.completion_tokens)
        stages.append((stage.stage, stage.endpoint, _counts(stage.requests), *tokens, _cost(stage.cost_usd)))
    endpoints = [("endpoint", "time by rpm", "time by tpm", "time by concurrency")]
    for endpoint in found.endpoints:
        limited = _time(endpoint.by_rpm_s), _time(endpoint.by_tpm_s)
        endpoints.append((endpoint.endpoint, *limited, _time(endpoint.by_concurrency_s)))
    return [
        f"{path}: no mistakes. For {found.target:,} accepted examples, the run {name!r} is expected to take:",
        "",
        *_table(stages),
        "",
        *_table(endpoints),
        "",
        *_way_lines(ways),
        f"time      {_time(found.time_s)}",
        f"cost      {_cost(found.cost_usd)}",
        "",
        "assumed:",
        *(f"  - {line}" for line in found.assumptions),
    ]


def _way_lines(ways: Sequence[WayForecast]) -> list[str]:
    """Batches and online requests beside each other; nothing where no stage could go in batches."""
    if not ways:
        return []
    rows = [("stage", "endpoint", "online", "", "in batches", "", "chosen")]
    for way in ways:
        online, batch = (_time(way.online_s), _cost(way.online_usd)), (_time(way.batch_s), _cost(way.batch_usd))
        rows.append((way.stage, way.endpoint, *online, *batch, "batch" if way.in_batches else "online"))
    return [*_table(rows), ""]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows with columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["   ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _counts(numbers: Range) -> str:
    low, high = f"{numbers.low:,.0f}", f"{numbers.high:,.0f}"
    return low if low == high else f"{low} - {high}"


def _tokens(numbers: Range) -> str:
    low, high = _short(numbers.low), _short(numbers.high)
    return low if low == high else f"{low} - {high}"


def _short(number: float) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return f"{number:.0f}"


def _time(seconds: Range | None) -> str:
    if seconds is None:
        return "no limit"
    low, high = duration(seconds.low), duration(seconds.high)
    return low if low == high else f"{low} - {high}"


def _cost(usd: Range | None) -> str:
    if usd is None:
        return "unknown (no price in the config)"
    return f"${usd.low:,.2f} - ${usd.high:,.2f}" if usd.high >= 1 else f"${usd.low:.4f} - ${usd.high:.4f}"
