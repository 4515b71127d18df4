"""The files that a config names: context document, seed topics, personas, examples, lists of words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from synth_async.config.wording import shown
from synth_async.records import Topic

__all__ = ["InputMistake", "read_personas", "read_rows", "read_text", "read_topics", "read_words"]

Read = TypeVar("Read")

MAX_MISTAKES = 20
"""Malformed lines that are named one by one; the rest is counted."""


class InputMistake(Exception):
    """What is wrong with an input file; `line` counts from 1 in that file."""

    def __init__(self, message: str, line: int | None = None) -> None:
        self.message = message
        self.line = line
        super().__init__(message)


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, a BOM left out. Raises `InputMistake`."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise InputMistake(f"there is no file {path}") from None
    except IsADirectoryError:
        raise InputMistake(f"{path} is a folder, a file is wanted") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a valid path"
        raise InputMistake(f"{path} cannot be read: {reason}") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputMistake(f"{path} is not UTF-8 (byte 0x{raw[error.start]:02x} in line {line})") from None


def read_topics(path: Path, text: str) -> tuple[tuple[Topic, ...], list[InputMistake]]:
    """The topics of a file in their order, and its malformed lines.

    `.jsonl`: one object a line with `topic` and an optional `category`; else one topic a line. Blank lines are skipped.
    """
    read = _json_topic if _is_jsonl(path) else lambda line: (line.strip(), None)
    rows, mistakes = _each_line(text, read)
    return tuple(Topic(index, topic, category) for index, (_, (topic, category)) in enumerate(rows)), mistakes


def read_personas(path: Path, text: str) -> tuple[tuple[str, ...], list[InputMistake]]:
    """The personas of a file, and its malformed lines. Lines are read as those of topics are, by other keys."""
    rows, mistakes = _each_line(text, _json_persona if _is_jsonl(path) else str.strip)
    return tuple(persona for _, persona in rows), mistakes


def read_rows(text: str) -> tuple[tuple[tuple[int, dict[str, Any]], ...], list[InputMistake]]:
    """The objects of a JSONL file with their line numbers from 1, and its malformed lines."""
    rows, mistakes = _each_line(text, _json_object)
    return tuple(rows), mistakes


def _is_jsonl(path: Path) -> bool:
    return path.suffix.lower() in (".jsonl", ".ndjson")


def _each_line(text: str, read: Callable[[str], Read]) -> tuple[list[tuple[int, Read]], list[InputMistake]]:
    """What `read` makes of each line that is not blank, with its number; and the lines that it refused."""
    found: list[tuple[int, Read]] = []
    mistakes: list[InputMistake] = []
    # Not `splitlines`: a JSON string may hold U+2028 and the like, which are no ends of lines there.
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            found.append((number, read(line)))
        except ValueError as error:
            mistakes.append(InputMistake(str(error), number))
    if len(mistakes) > MAX_MISTAKES:
        more = InputMistake(f"and {len(mistakes) - MAX_MISTAKES} more malformed lines")
        mistakes = [*mistakes[:MAX_MISTAKES], more]
    return found, mistakes


def read_words(text: str) -> tuple[str, ...]:
    """The entries of a list, one a line; blank lines and lines that begin with `#` are skipped."""
    lines = (line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def _json_object(line: str) -> dict[str, Any]:
    try:
        entry: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = f"{error.msg} (column {error.colno})" if isinstance(error, json.JSONDecodeError) else "too large"
        raise ValueError(f"malformed JSON: {reason}") from None
    if not isinstance(entry, dict):
        raise ValueError("must be a JSON object")  # noqa: TRY004 - a mistake in a file, not in a call
    return entry


def _json_persona(line: str) -> str:
    entry = _json_object(line)
    for key in ("persona", "description", "text"):
        if isinstance(entry.get(key), str) and entry[key].strip():
            return " ".join(_without_surrogates(entry[key]).split())
    raise ValueError("persona is missing")


def _json_topic(line: str) -> tuple[str, str | None]:
    entry = _json_object(line)
    topic, category = entry.get("topic"), entry.get("category")
    if "topic" not in entry:
        raise ValueError("topic is missing")
    if not isinstance(topic, str) or not topic.strip():
        raise ValueError(f"topic must be text, got {shown(topic)}")
    if category is not None and not isinstance(category, str):
        raise ValueError(f"category must be text, got {shown(category)}")
    _without_surrogates(topic + (category or ""))
    return topic.strip(), category


def _without_surrogates(text: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("holds a lone surrogate, which is not a character")
    return text
