"""`run` and `preview`: what sends requests."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import anyio

from synth_async.cli.console import cleaned, end_start_up, listen_to_libraries, print_json, print_text, say, unexpected
from synth_async.cli.engine import RayRequest, ray_connect
from synth_async.cli.on_finish import Outcome, environment_for, run_command
from synth_async.cli.prepared import Prepared, in_mode
from synth_async.cli.preview import preview_text, read_preview
from synth_async.cli.run_log import RunLog
from synth_async.config import Config, LoadedConfig, ResolvedEndpoint
from synth_async.config.secrets import key_variables
from synth_async.errors import DiskFailure, ExitCode, StoppedEarly, SynthAsyncError, UsageError
from synth_async.pipeline.fork import fork_run
from synth_async.pipeline.run import Interrupted, Run, RunOptions, Snapshot
from synth_async.report.progress import BarProgress, LineProgress
from synth_async.report.summary import summary_text
from synth_async.store.run_folder import RunFolder, run_folder_of

__all__ = ["RunRequest", "drive_run", "preview_run", "start_run"]

_PREVIEW_DECISIONS = 3
"""A preview gives up on its number of accepted examples when so many times as many were decided."""

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
    log = _open_log(folder)
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
    try:
        stopped = _drive_to_the_end(run, log)
        try:
            speaker.end(run, folder, wishes)
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
        _drive(run, log)
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


def _open_log(folder: RunFolder) -> RunLog:
    try:
        return RunLog(folder.log)
    except OSError as error:
        raise DiskFailure(
            f"{folder.log}: could not be written: {error.strerror}; choose another folder with --out"
        ) from None


class _Speaker:
    """Progress, notes and the summary, to the terminal and to the log."""

    def __init__(self, config: Config, log: RunLog, *, quiet: bool) -> None:
        self._log = log
        self._quiet = quiet
        self._bar: BarProgress | LineProgress | None = None
        if not quiet:
            self._bar = BarProgress(config.target, sys.stderr) if sys.stderr.isatty() else LineProgress(say)

    def progress(self, snapshot: Snapshot) -> None:
        """Where the run stands; what an endpoint said is part of it."""
        if self._bar is not None:
            self._bar(replace(snapshot, waiting_for=cleaned(snapshot.waiting_for)))

    def note(self, text: str) -> None:
        """A line on the terminal and in the log."""
        self._log(text)
        if self._bar is not None:
            self._bar.note(cleaned(text))
        elif not self._quiet:
            say(text)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def end(self, run: Run, folder: RunFolder, wishes: RunRequest) -> None:
        """The summary, where there is anything to sum up, to stderr; the dataset's place (or the metrics) to stdout."""
        self.close()
        if not run.metrics:
            return
        simulated = any(endpoint.is_simulator for endpoint in run.config.endpoints.values())
        text = summary_text(run.metrics, name=run.config.name, simulated=simulated)
        if not self._quiet and run.metrics["answered"]:
            say(f"\n{text}\n\ndataset   {folder.dataset}\nrejects   {folder.rejects}\nreport    {folder.page}")
        self._log(text.replace("\n", "\n    "))
        if wishes.as_json:
            print_json({"folder": str(folder.path), **run.metrics}, indent=None)
        else:
            sys.stdout.write(f"{folder.dataset}\n")
            sys.stdout.flush()


def drive_run(run: Run) -> None:
    """Drive a run whose talk goes elsewhere; raises what stopped it."""
    run.folder.create()
    log = _open_log(run.folder)
    try:
        _drive(run, log)
    finally:
        log.close()


def _drive(run: Run, log: RunLog) -> None:
    """Drive a run; raises `SynthAsyncError` for whatever stopped it."""
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

    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        await run.drive()
    finally:
        for number in _SIGNALS:
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


def preview_run(ready: Prepared, *, number: int, as_json: bool) -> None:
    """Generate a few examples in a folder that is thrown away, and show prompts, examples and verdicts."""
    ready = in_mode(ready, "online")  # nobody waits a day for a preview
    loaded = replace(ready.loaded, config=_preview_config(ready.loaded.config, number))
    say(f"synth-async: generating {number} {'example' if number == 1 else 'examples'}; nothing is kept")
    with tempfile.TemporaryDirectory(prefix="synth-async-preview-") as scratch:
        folder = RunFolder(Path(scratch))
        _generate_preview(loaded, folder, ready.resolved, number=number)
        shown = read_preview(folder, loaded)
    if as_json:
        print_json(shown)
    else:
        print_text(preview_text(shown))


def _preview_config(config: Config, number: int) -> Config:
    return config.model_copy(
        update={
            "target": number,
            "topics": config.topics.model_copy(update={"count": number}),
            "fsync": "never",
        }
    )


def _generate_preview(
    loaded: LoadedConfig, folder: RunFolder, resolved: dict[str, ResolvedEndpoint], *, number: int
) -> None:
    """Run until `number` are accepted or three times as many were decided; stopping early is said, and no failure."""

    def stop_when_enough(snapshot: Snapshot) -> None:
        decided = snapshot.tally.accepted + sum(snapshot.tally.rejected.values())
        if decided >= _PREVIEW_DECISIONS * number:
            run.interrupt(StoppedEarly(f"{snapshot.tally.accepted} of {decided} examples accepted, no more are tried"))

    run = Run(
        loaded,
        folder,
        resolved,
        on_progress=stop_when_enough,
        on_note=lambda note: say(f"synth-async: {note}"),
    )
    log = _open_log(folder)
    try:
        _drive(run, log)
    except StoppedEarly as stopped:
        say(f"synth-async: {stopped}")
    finally:
        log.close()
