"""`run`: what sends requests, until its end or a signal."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import anyio

from synth_async.cli.console import (
    cleaned,
    end_start_up,
    listen_to_libraries,
    print_json,
    print_path,
    say,
    talks_json,
    tell,
    unexpected,
)
from synth_async.cli.engine import RayRequest, ray_connect
from synth_async.cli.on_finish import Outcome, environment_for, run_command
from synth_async.cli.prepared import Prepared
from synth_async.cli.run_log import RunLog
from synth_async.config import Config, LoadedConfig
from synth_async.config.secrets import key_variables
from synth_async.errors import DiskFailure, ExitCode, SynthAsyncError, UsageError
from synth_async.pipeline.fork import fork_run
from synth_async.pipeline.run import Interrupted, Run, RunOptions, Snapshot
from synth_async.report.progress import BarProgress, LineProgress, ObjectProgress
from synth_async.report.summary import summary_text
from synth_async.store.run_folder import RunFolder, run_folder_of

__all__ = ["RunRequest", "drive", "drive_run", "open_log", "progress_to", "start_run"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What was asked for on the command line, beside the config."""

    out: Path | None
    fork: Path | None
    offline: bool
    accept_change: bool
    retry_failed: bool
    quiet: bool
    as_json: bool
    ray: RayRequest | None = None


def start_run(ready: Prepared, wishes: RunRequest) -> None:
    """Drive a run to its end; raises what stopped it, so that the exit code says so."""
    loaded, resolved = ready.loaded, ready.resolved
    config = loaded.config
    _check_wishes(wishes)
    folder, forked = _folder_for(loaded, wishes)
    folder.create()
    log = open_log(folder)
    speaker = _Speaker(config, log, quiet=wishes.quiet)
    run = Run(
        loaded,
        folder,
        resolved,
        RunOptions(offline=wishes.offline, accept_change=wishes.accept_change, retry_failed=wishes.retry_failed),
        on_progress=speaker.progress,
        on_note=speaker.note,
    )
    if wishes.ray is not None:
        run.connect = ray_connect(wishes.ray, folder, speaker.note)
    log(f"run {config.name}: target {config.target}, folder {folder.path}")
    if forked is not None:
        speaker.note(forked)
    for name, source in loaded.price_sources.items():
        speaker.note(f"endpoint {name}: prices by {source}, the config gives none")
    try:
        stopped = _drive_to_the_end(run, log)
        try:
            speaker.end(run, folder, wishes, stopped)
        finally:
            _tell_outcome(run, stopped, speaker)
    finally:
        speaker.close()
        log.close()
    if stopped is not None:
        raise stopped


def _folder_for(loaded: LoadedConfig, wishes: RunRequest) -> tuple[RunFolder, str | None]:
    """The folder to run in, and what was taken over into it where it was forked just now."""
    config = loaded.config
    folder = run_folder_of(config, wishes.out)
    if wishes.fork is None:
        return folder, None
    new = RunFolder(wishes.fork)
    forked = fork_run(folder, new, loaded)
    return new, f"forked from {folder.path}; {forked}" if forked is not None else None


def _drive_to_the_end(run: Run, log: RunLog) -> SynthAsyncError | None:
    """What stopped the run early, or None."""
    try:
        drive(run, log)
    except SynthAsyncError as error:
        log(f"stopped, exit {int(error.exit_code)}: {error}")
        return error
    return None


def _tell_outcome(run: Run, stopped: SynthAsyncError | None, speaker: _Speaker) -> None:
    """Run the user's command, where there is one and there was a run; that it fails is a note and nothing more."""
    command = run.config.on_finish
    if command is None or not run.has_begun:
        return
    outcome = Outcome(
        ExitCode.FINISHED if stopped is None else stopped.exit_code,
        folder=run.folder.path,
        dataset=run.folder.dataset,
        accepted=run.tally.accepted,
        target=run.config.target,
        message="" if stopped is None else cleaned(str(stopped)),
    )
    environment = environment_for(outcome, os.environ, key_variables(run.config))
    if problem := run_command(command, environment, folder=run.loaded.path.absolute().parent):
        speaker.note(f"on_finish: {command[0]} {problem}")


def _check_wishes(wishes: RunRequest) -> None:
    if wishes.fork is not None and wishes.accept_change:
        raise UsageError("--fork leaves the earlier run as it is, --accept-change mixes both in it: choose one")
    if wishes.offline and wishes.retry_failed:
        raise UsageError("--retry-failed asks again, and --offline sends nothing: choose one")


def open_log(folder: RunFolder) -> RunLog:
    """`run.log` of a folder; raises `DiskFailure` where it cannot be written."""
    try:
        return RunLog(folder.log)
    except OSError as error:
        raise DiskFailure(
            f"{folder.log}: could not be written: {error.strerror}; choose another folder with --out"
        ) from None


def progress_to(target: int) -> BarProgress | LineProgress | ObjectProgress:
    """Progress in the way that stderr calls for: objects, a bar on a terminal, or lines."""
    if talks_json():
        return ObjectProgress(lambda state: tell("progress", **state), say)
    return BarProgress(target, sys.stderr) if sys.stderr.isatty() else LineProgress(say)


class _Speaker:
    """Progress, notes and the summary, to the terminal and to the log."""

    def __init__(self, config: Config, log: RunLog, *, quiet: bool) -> None:
        self._log = log
        self._quiet = quiet
        self._progress = None if quiet else progress_to(config.target)

    def progress(self, snapshot: Snapshot) -> None:
        """Where the run stands; what an endpoint said is part of it."""
        if self._progress is not None:
            self._progress(replace(snapshot, waiting_for=cleaned(snapshot.waiting_for)))

    def note(self, text: str) -> None:
        """A line on the terminal and in the log."""
        self._log(text)
        if self._progress is not None:
            self._progress.note(cleaned(text))
        elif not self._quiet:
            say(text)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.close()
            self._progress = None

    def end(self, run: Run, folder: RunFolder, wishes: RunRequest, stopped: SynthAsyncError | None) -> None:
        """The summary, where there is anything to sum up, to stderr; the dataset's place (or the metrics) to stdout."""
        self.close()
        if not run.metrics:
            return
        simulated = any(endpoint.is_simulator for endpoint in run.config.endpoints.values())
        text = summary_text(run.metrics, name=run.config.name, simulated=simulated)
        if talks_json():
            code = ExitCode.FINISHED if stopped is None else stopped.exit_code
            places = {"folder": str(folder.path), "dataset": str(folder.dataset)}
            tell("end", exit_code=int(code), simulated=simulated, **places, **run.metrics)
        elif not self._quiet and run.metrics["answered"]:
            say(f"\n{text}\n\ndataset   {folder.dataset}\nrejects   {folder.rejects}\nreport    {folder.page}")
        self._log(text.replace("\n", "\n    "))
        if wishes.as_json:
            print_json({"folder": str(folder.path), **run.metrics}, indent=None)
        else:
            print_path(folder.dataset)


def drive_run(run: Run) -> None:
    """Drive a run whose talk goes elsewhere; raises what stopped it."""
    run.folder.create()
    log = open_log(run.folder)
    try:
        drive(run, log)
    finally:
        log.close()


def drive(run: Run, log: RunLog) -> None:
    """Drive a run in an event loop; raises `SynthAsyncError` for whatever stopped it."""
    end_start_up()
    listen_to_libraries()
    try:
        anyio.run(_drive_until_signalled, run)
    except BaseExceptionGroup as group:
        _raise_the_cause(group, log)
    except SynthAsyncError:
        raise
    except Exception as error:  # noqa: BLE001 - the very top: the traceback goes to the log, without secrets
        raise _logged(error, log) from None


async def _drive_until_signalled(run: Run) -> None:
    """Drive a run; the first signal stops issuing, the second does not wait for answers, the third ends at once."""
    loop = asyncio.get_running_loop()
    received = 0

    def on_signal(number: signal.Signals) -> None:
        nonlocal received
        received += 1
        if received > 2:
            os._exit(int(ExitCode.INTERRUPTED))
        run.interrupt(Interrupted(f"interrupted ({number.name}); the same command goes on from here"))
        advice = "finishing what is in flight; once more to leave at once" if received == 1 else "leaving"
        run.on_note(f"{number.name}: {advice}")

    # One that is ignored stays so: under `nohup` a run outlives its terminal.
    heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in heard:
        loop.add_signal_handler(number, on_signal, number)
    try:
        await run.drive()
    finally:
        for number in heard:
            loop.remove_signal_handler(number)


def _raise_the_cause(group: BaseExceptionGroup[BaseException], log: RunLog) -> None:
    """One deliberate error out of a group is raised for itself; anything else is unexpected."""
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    if isinstance(first, SynthAsyncError):
        raise first from None
    raise _logged(group, log) from None


def _logged(error: BaseException, log: RunLog) -> SynthAsyncError:
    log("".join(traceback.format_exception(error)))
    return unexpected(error, "; the traceback is in run.log of the folder. What was answered is in the journal")
