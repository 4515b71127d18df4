"""Every deliberate error, split by who must act.

* the **user** changes a file or a flag: `ConfigError`, `UsageError`
* the **run** stops, and the same command goes on later: `EndpointRefused`, `StoppedEarly`, `Interrupted`, `RunLocked`,
  `DiskFailure`
* the **request** is sent again: `RateLimited`, `TransientFailure`
* the **task** is dropped: `RequestRejected`

`exit_code` is what the command line answers with; the table is part of the public contract.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

__all__ = [
    "Busy",
    "ConfigError",
    "ConfigProblem",
    "DiskFailure",
    "EndpointRefused",
    "ExitCode",
    "Interrupted",
    "RateLimited",
    "RequestFailure",
    "RequestRejected",
    "RunLocked",
    "StoppedEarly",
    "SynthAsyncError",
    "TransientFailure",
    "UsageError",
]


class ExitCode(IntEnum):
    """What the process answers with. All but 1 and 2 leave a folder that the same command resumes."""

    FINISHED = 0
    UNEXPECTED = 1
    USAGE = 2
    ENDPOINT_REFUSED = 3
    STOPPED_EARLY = 4
    LOCKED = 5
    DISK = 74
    INTERRUPTED = 130


class SynthAsyncError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_code: ExitCode = ExitCode.UNEXPECTED


# --- the user must act ---------------------------------------------------------------------------


class UsageError(SynthAsyncError):
    """A file, a flag or a variable that only the user can put right. Nothing was sent."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One mistake in a config: `key` is dotted (`generation.temperature`), `line` counts from 1 where it is known."""

    file: str
    key: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {self.key}: {self.message}" if self.key else f"{where}: {self.message}"


class ConfigError(UsageError):
    """All mistakes of a config at once, one a line."""

    def __init__(self, problems: list[ConfigProblem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


# --- the run stops -------------------------------------------------------------------------------


class EndpointRefused(SynthAsyncError):
    """The endpoint says no for good: credentials, quota, unknown model, or it cannot be reached at the start."""

    exit_code = ExitCode.ENDPOINT_REFUSED


class StoppedEarly(SynthAsyncError):
    """The run stopped with work left: the message says why, and what would let it go on."""

    exit_code = ExitCode.STOPPED_EARLY


class Interrupted(SynthAsyncError):
    """Somebody asked the run to stop (INT, TERM, HUP)."""

    exit_code = ExitCode.INTERRUPTED


class RunLocked(SynthAsyncError):
    """Another process holds the run folder."""

    exit_code = ExitCode.LOCKED


class DiskFailure(SynthAsyncError):
    """A write or a sync failed. The descriptor is not trusted again; the journal is the truth on resume."""

    exit_code = ExitCode.DISK


# --- one request, or one task --------------------------------------------------------------------


class RequestFailure(SynthAsyncError):
    """An exchange that gave no answer. Messages never hold a header: a key must not reach a log."""


class RateLimited(RequestFailure):
    """A 429 (or its like) that asks for patience. `hint_s` is the server's wish in seconds, where it gave one."""

    def __init__(self, message: str, *, hint_s: float | None = None) -> None:
        self.hint_s = hint_s
        super().__init__(message)


class Busy(RequestFailure):
    """An endpoint that is away, or pauses, and a request that may go elsewhere: nothing was sent."""


class TransientFailure(RequestFailure):
    """5xx, a reset, a timeout, a body that is not what was promised: worth another attempt."""

    def __init__(self, message: str, *, kind: str, hint_s: float | None = None, connected: bool = True) -> None:
        self.kind = kind
        self.hint_s = hint_s
        self.connected = connected
        super().__init__(message)


class RequestRejected(RequestFailure):
    """The endpoint refuses this one request for good (400, 413, 422): the task is dropped, the run goes on."""

    def __init__(self, message: str, *, status: int) -> None:
        self.status = status
        super().__init__(message)
