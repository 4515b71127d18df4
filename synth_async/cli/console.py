"""What the command line says, and where: stdout holds data only, talk goes to stderr and to the run's log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import NoReturn

from synth_async.errors import ExitCode, SynthAsyncError

__all__ = ["RunLog", "cleaned", "fail", "say"]

_LOG_BYTES = 5_000_000
_LOG_FILES = 3
_SHORTEST_SECRET = 8


def cleaned(text: str) -> str:
    """Text for a terminal: control characters, which could move the cursor or recolour the screen, are taken out."""
    return "".join(sign for sign in text if sign.isprintable() or sign in "\n\t")


def say(text: str) -> None:
    """A line on stderr."""
    sys.stderr.write(cleaned(text) + "\n")
    sys.stderr.flush()


def fail(error: SynthAsyncError) -> NoReturn:
    """Say what is wrong and leave with the error's exit code."""
    say(f"synth-async: {error}")
    raise SystemExit(int(error.exit_code))


class RunLog:
    """`run.log` of a folder, rotating, private; no secret reaches it."""

    def __init__(self, path: Path, secrets: Iterable[str]) -> None:
        self._secrets = tuple(secret for secret in secrets if len(secret) >= _SHORTEST_SECRET)
        self._logger = logging.Logger("synth_async.run")
        path.touch(mode=0o600)
        self._file = RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=_LOG_FILES, encoding="utf-8")
        self._file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        self._logger.addHandler(self._file)

    def __call__(self, text: str) -> None:
        """Add a line."""
        self._logger.info("%s", cleaned(self.without_secrets(text)))

    def without_secrets(self, text: str) -> str:
        """The text with every known key replaced."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def exit_on_error(action: Callable[[], None]) -> None:
    """Run an action; every deliberate error is one message and its exit code, anything else is unexpected (1)."""
    try:
        action()
    except SynthAsyncError as error:
        fail(error)
    except KeyboardInterrupt:
        say("synth-async: interrupted")
        raise SystemExit(int(ExitCode.INTERRUPTED)) from None
