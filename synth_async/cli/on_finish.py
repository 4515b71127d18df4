"""`on_finish`: a command of the user's that is told how a run ended, such as a notification.

It is run when the folder is free again and the files are whole, without a shell, in the folder of the config, and is
ended after a minute. What it does, or that it fails, changes neither the run nor its exit code. It is not run where the
run never began: a mistake in the config or on the command line, a folder that somebody else holds or that cannot be
written.

    SYNTH_ASYNC_OUTCOME     finished, stopped (work is left), interrupted, refused (by the endpoint), disk, failed
    SYNTH_ASYNC_EXIT_CODE   what the process will answer with
    SYNTH_ASYNC_FOLDER      the run folder                  SYNTH_ASYNC_DATASET    its dataset.jsonl
    SYNTH_ASYNC_ACCEPTED    lines of the dataset            SYNTH_ASYNC_TARGET     lines wanted
    SYNTH_ASYNC_MESSAGE     why it stopped; empty when it finished

The variables that hold API keys are not in its environment, nor is any other with the same value.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from synth_async.errors import ExitCode

__all__ = ["TIMEOUT_S", "Outcome", "environment_for", "run_command"]

TIMEOUT_S = 60.0
"""A notification takes seconds; a command that hangs may not keep a finished run from ending."""

_SHOWN_BYTES = 500

_OUTCOMES: Mapping[ExitCode, str] = {
    ExitCode.FINISHED: "finished",
    ExitCode.STOPPED_EARLY: "stopped",
    ExitCode.INTERRUPTED: "interrupted",
    ExitCode.ENDPOINT_REFUSED: "refused",
    ExitCode.DISK: "disk",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    exit_code: ExitCode
    folder: Path
    dataset: Path
    accepted: int
    target: int
    message: str

    def as_variables(self) -> dict[str, str]:
        """The variables that the command gets."""
        told = {
            "OUTCOME": _OUTCOMES.get(self.exit_code, "failed"),
            "EXIT_CODE": int(self.exit_code),
            "FOLDER": self.folder.absolute(),
            "DATASET": self.dataset.absolute(),
            "ACCEPTED": self.accepted,
            "TARGET": self.target,
            "MESSAGE": self.message.replace("\0", ""),
        }
        return {f"SYNTH_ASYNC_{name}": str(value) for name, value in told.items()}


def environment_for(outcome: Outcome, env: Mapping[str, str], key_variables: Collection[str]) -> dict[str, str]:
    """The command's environment: this process's without the keys, and the outcome."""
    keys = {env[name] for name in key_variables if env.get(name)}
    kept = {name: value for name, value in env.items() if name not in key_variables and value not in keys}
    return kept | outcome.as_variables()


def run_command(
    command: Sequence[str], env: Mapping[str, str], *, folder: Path, timeout_s: float = TIMEOUT_S
) -> str | None:
    """Run a command to its end; returns what went wrong, or None."""
    with tempfile.TemporaryFile() as said:
        try:
            child = subprocess.Popen(  # noqa: S603 - the user's own command, from the user's config; no shell
                command, env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
            )
        except (OSError, ValueError) as error:
            return f"could not be started: {error}"
        try:
            code = child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            _end(child)
            return f"did not end within {timeout_s:g} s, and was ended"
        except KeyboardInterrupt:
            _end(child)
            return "was interrupted"
        said.seek(max(0, said.seek(0, os.SEEK_END) - _SHOWN_BYTES))
        text = said.read().decode("utf-8", "replace").strip()
    return None if code == 0 else f"answered with exit code {code}" + (f": {text}" if text else "")


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill a command, and what it has started."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
