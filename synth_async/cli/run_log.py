"""`run.log` of a run folder."""

from __future__ import annotations

import io
import logging
import os
from logging.handlers import RotatingFileHandler
from pathlib import Path

from synth_async.cli.console import cleaned

__all__ = ["RunLog"]

_LOG_BYTES = 5_000_000
_LOG_FILES = 3


class _PrivateFile(RotatingFileHandler):
    """A log file that only its owner can read, each one that the rotation begins as well."""

    def _open(self) -> io.TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return os.fdopen(descriptor, "a", encoding="utf-8")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is the library's
        """A full disk is told by the journal; a line that was not logged needs no traceback on the screen."""


class RunLog:
    """`run.log` of a folder, rotating, private; no secret reaches it."""

    def __init__(self, path: Path, *, most_bytes: int = _LOG_BYTES) -> None:
        self._logger = logging.Logger("synth_async.run")  # noqa: LOG001 - its own: nothing else may write here
        self._file = _PrivateFile(path, maxBytes=most_bytes, backupCount=_LOG_FILES)
        self._file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        self._logger.addHandler(self._file)

    def __call__(self, text: str) -> None:
        """Add a line."""
        self._logger.info("%s", cleaned(text))

    def close(self) -> None:
        """Close the file."""
        self._file.close()
