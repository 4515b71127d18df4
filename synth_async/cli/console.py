"""What the command line says, and where: stdout holds data only, talk goes to stderr.

Everything that is said or logged goes through `cleaned`: keys that were named to `hide`, bearer tokens and terminal
control characters are taken out, whoever wrote the text.
"""

from __future__ import annotations

import errno
import gc
import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from synth_async.errors import ExitCode, SynthAsyncError

__all__ = [
    "begin_start_up",
    "cleaned",
    "complain",
    "end_start_up",
    "exit_on_error",
    "fail",
    "hide",
    "listen_to_libraries",
    "print_json",
    "print_path",
    "print_text",
    "say",
    "talk_json",
    "talks_json",
    "tell",
    "unexpected",
]

SHORTEST_SECRET = 8
"""Shorter keys (`none`, `ollama`, `EMPTY`) are words that local servers ignore, and that any text may hold."""

_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")

_READER_GONE = (errno.EPIPE, errno.EIO)

_hidden: set[str] = set()


class _Voice:
    """How talk is written: as lines for a person, or as objects for a program."""

    as_json = False


def talk_json() -> None:
    """From here on, everything on stderr is one JSON object a line: `time`, `event`, and what belongs to that."""
    _Voice.as_json = True


def talks_json() -> bool:
    """Whether talk is objects."""
    return _Voice.as_json


def hide(secret: str) -> None:
    """From here on, replace this text wherever this process says or logs something."""
    if len(secret) >= SHORTEST_SECRET:
        _hidden.add(secret)


def cleaned(text: str) -> str:
    """Text that may be shown: no key, no bearer token, no control character that could move a terminal's cursor."""
    # Control characters first: taken out later, they could join the halves of a key.
    return _without_secrets("".join(sign for sign in text if sign.isprintable() or sign in "\n\t"))


def _without_secrets(text: str) -> str:
    for secret in _hidden:
        text = text.replace(secret, "***")
    return _BEARER.sub(r"\1 ***", text)


def say(text: str) -> None:
    """A line on stderr."""
    if _Voice.as_json:
        tell("note", message=text.strip("\n"))
    else:
        _write(cleaned(text))


def tell(event: str, **content: Any) -> None:
    """An object on stderr, where talk is objects: `event` is note, progress, end or error. Else nothing."""
    if _Voice.as_json:
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        _write(_without_secrets(json.dumps({"time": stamp, "event": event, **content})))


def _write(line: str) -> None:
    # A terminal that was closed, or a reader that left, is no reason to lose a run.
    with suppress(OSError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def print_text(text: str) -> None:
    """Text on stdout, with a final line feed."""
    _put(cleaned(text))


def print_json(value: Mapping[str, Any], *, indent: int | None = 2) -> None:
    """An object on stdout. All but ASCII is escaped: no terminal obeys what a model wrote, any path is shown."""
    _put(_without_secrets(json.dumps(value, indent=indent)))


def print_path(path: Path | str) -> None:
    """A path on stdout, as the system spells it: a script may go on with it."""
    _put(str(path))


def _put(text: str) -> None:
    """A line on stdout. A reader that left (`| head`) or a terminal that was closed changes no exit code."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in _READER_GONE:
            raise
        # Whatever is still in the buffer would be tried again on leaving, with a message of Python's own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(error: SynthAsyncError) -> NoReturn:
    """Say what is wrong and leave with the error's exit code."""
    complain(str(error), error.exit_code)
    raise SystemExit(int(error.exit_code))


def complain(message: str, exit_code: int) -> None:
    """Say what is wrong, and the code that the process ends with."""
    if _Voice.as_json:
        tell("error", message=cleaned(message), exit_code=int(exit_code))
    else:
        say(f"synth-async: {message}")


def unexpected(error: BaseException, advice: str = "") -> SynthAsyncError:
    """The deliberate error (exit code 1) that an unexpected one is told as."""
    return SynthAsyncError(f"unexpected {type(error).__name__}: {error}\nThis is a mistake of ours{advice}.")


class _Said(logging.Handler):
    """Lines of libraries' loggers, on stderr like all talk."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


def listen_to_libraries() -> None:
    """Let warnings of libraries' loggers be cleaned like all that is said; without this they would go past it."""
    root = logging.getLogger()
    if not any(isinstance(listener, _Said) for listener in root.handlers):
        root.addHandler(_Said(logging.WARNING))


def begin_start_up() -> None:
    """Stop collecting garbage: what is imported stays, and looking at it costs a tenth of the start-up."""
    gc.disable()


def end_start_up() -> None:
    """Collect again, without what has been loaded: a long run never has to look at that."""
    gc.freeze()
    gc.enable()


def exit_on_error(action: Callable[[], None]) -> None:
    """Run an action; every deliberate error is one message and its exit code, anything else is unexpected (1)."""
    try:
        action()
    except SynthAsyncError as error:
        fail(error)
    except KeyboardInterrupt:
        complain("interrupted", ExitCode.INTERRUPTED)
        raise SystemExit(int(ExitCode.INTERRUPTED)) from None
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - the very top: Python's own traceback would go past `cleaned`
        say("".join(traceback.format_exception(error)))
        fail(unexpected(error))
