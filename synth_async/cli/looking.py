"""`status` and `report`: what looks and changes nothing."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synth_async.cli.console import end_start_up, print_json, print_text
from synth_async.errors import UsageError
from synth_async.report.charts import short_number
from synth_async.report.metrics import FUNNEL, state_of
from synth_async.report.summary import dollars, duration, summary_text
from synth_async.store.run_folder import RunFolder, read_json

__all__ = ["show_report", "show_status"]

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
    lines += [*_progress_lines(manifest, metrics), *(_live_lines(metrics) if holder and metrics else [])]
    lines.append(f"changed   {duration(max(0.0, time.time() - changed_at))} ago")
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


def _live_lines(metrics: Mapping[str, Any]) -> list[str]:
    """How fast a run is under way, what is left, and what it waits for; as of its last metrics, seconds ago."""
    lines, recent, expected = [], metrics.get("recent") or {}, metrics.get("expected")
    if recent.get("seconds"):
        per_minute, sent = (60 * recent[name] / recent["seconds"] for name in ("accepted", "requests"))
        lines.append(
            f"speed     {per_minute:,.0f} accepted and {sent:,.0f} requests a minute, {recent['http_429']:,} answers"
            f" with 429, over the last {duration(recent['seconds'])}"
        )
    if expected is not None:
        cost = expected["cost_usd"]
        dear = f", {dollars(cost)} more" if cost is not None else ""
        lines.append(
            f"left      about {duration(expected['time_s'])}, {expected['requests']:,} requests,"
            f" {short_number(expected['tokens'])} tokens{dear}"
        )
    if metrics.get("waiting_for"):
        lines.append(f"waits     {metrics['waiting_for']}")
    return lines


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
