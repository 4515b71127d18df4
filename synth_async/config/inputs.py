"""The files that a config names: the context document and the seed topics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from synth_async.config.wording import shown
from synth_async.records import Topic

__all__ = ["InputMistake", "read_text", "read_topics"]

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
    is_jsonl = path.suffix.lower() in (".jsonl", ".ndjson")
    topics: list[Topic] = []
    mistakes: list[InputMistake] = []
    # Not `splitlines`: a JSON string may hold U+2028 and the like, which are no ends of lines there.
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            topic, category = _json_topic(line) if is_jsonl else (line.strip(), None)
        except ValueError as error:
            mistakes.append(InputMistake(str(error), number))
        else:
            topics.append(Topic(len(topics), topic, category))
    if len(mistakes) > MAX_MISTAKES:
        more = InputMistake(f"and {len(mistakes) - MAX_MISTAKES} more malformed lines")
        mistakes = [*mistakes[:MAX_MISTAKES], more]
    return tuple(topics), mistakes


def _json_topic(line: str) -> tuple[str, str | None]:
    try:
        entry: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = f"{error.msg} (column {error.colno})" if isinstance(error, json.JSONDecodeError) else "too large"
        raise ValueError(f"malformed JSON: {reason}") from None
    if not isinstance(entry, dict):
        raise ValueError("must be a JSON object with a topic")  # noqa: TRY004 - a mistake in a file, not in a call
    topic, category = entry.get("topic"), entry.get("category")
    if "topic" not in entry:
        raise ValueError("topic is missing")
    if not isinstance(topic, str) or not topic.strip():
        raise ValueError(f"topic must be text, got {shown(topic)}")
    if category is not None and not isinstance(category, str):
        raise ValueError(f"category must be text, got {shown(category)}")
    if any("\ud800" <= c <= "\udfff" for c in topic + (category or "")):
        raise ValueError("holds a lone surrogate, which is not a character")
    return topic.strip(), category
