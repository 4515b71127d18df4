"""`run.log` of a run folder."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from logging.handlers import RotatingFileHandler
from pathlib import Path

from synth_async.cli.console import cleaned

__all__ = ["RunLog"]

_LOG_BYTES = 5_000_000
_LOG_FILES = 3
_SHORTEST_SECRET = 8


class RunLog:
    """`run.log` of a folder, rotating, private; no secret reaches it."""

    def __init__(self, path: Path, secrets: Iterable[str]) -> None:
        self._secrets = tuple(secret for secret in secrets if len(secret) >= _SHORTEST_SECRET)
        self._logger = logging.Logger("synth_async.run")  # noqa: LOG001 - its own: nothing else may write here
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
