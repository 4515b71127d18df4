"""What the command line says, and where: stdout holds data only, talk goes to stderr."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from synth_async.errors import ExitCode, SynthAsyncError

__all__ = [
    "begin_start_up",
    "cleaned",
    "end_start_up",
    "exit_on_error",
    "fail",
    "print_json",
    "print_text",
    "say",
]


def cleaned(text: str) -> str:
    """Text for a terminal: control characters, which could move the cursor or recolour the screen, are taken out."""
    return "".join(sign for sign in text if sign.isprintable() or sign in "\n\t")


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
    sys.stdout.write(json.dumps(value, indent=indent) + "\n")
    sys.stdout.flush()


def fail(error: SynthAsyncError) -> NoReturn:
    """Say what is wrong and leave with the error's exit code."""
    say(f"synth-async: {error}")
    raise SystemExit(int(error.exit_code))


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
