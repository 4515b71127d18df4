"""What the command line says, and where: stdout holds data only, talk goes to stderr.

Everything that is said or logged goes through `cleaned`: keys that were named to `hide`, bearer tokens and terminal
control characters are taken out, whoever wrote the text.
"""

from __future__ import annotations

import gc
import json
import logging
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from synth_async.errors import ExitCode, SynthAsyncError

__all__ = [
    "begin_start_up",
    "cleaned",
    "end_start_up",
    "exit_on_error",
    "fail",
    "hide",
    "listen_to_libraries",
    "print_json",
    "print_text",
    "say",
    "unexpected",
]

SHORTEST_SECRET = 8
"""Shorter keys (`none`, `ollama`, `EMPTY`) are words that local servers ignore, and that any text may hold."""

_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")

_hidden: set[str] = set()


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
    sys.stderr.write(cleaned(text) + "\n")
    sys.stderr.flush()


def print_text(text: str) -> None:
    """Text on stdout, with a final line feed."""
    sys.stdout.write(cleaned(text) + "\n")
    sys.stdout.flush()


def print_json(value: Mapping[str, Any], *, indent: int | None = 2) -> None:
    """An object on stdout. All but ASCII is escaped: no terminal obeys what a model wrote, any path is shown."""
    sys.stdout.write(_without_secrets(json.dumps(value, indent=indent)) + "\n")
    sys.stdout.flush()


def fail(error: SynthAsyncError) -> NoReturn:
    """Say what is wrong and leave with the error's exit code."""
    say(f"synth-async: {error}")
    raise SystemExit(int(error.exit_code))


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
        say("synth-async: interrupted")
        raise SystemExit(int(ExitCode.INTERRUPTED)) from None
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - the very top: Python's own traceback would go past `cleaned`
        say("".join(traceback.format_exception(error)))
        fail(unexpected(error))
