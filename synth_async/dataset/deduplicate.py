"""Deduplicates a JSON Lines file of chats: every kept line byte for byte, in order; the first of its kind stays.

Read line by line; memory grows with the kept documents only (about 3 KB each at 250 words). What survives: the output
is written to a temporary file beside the target, synced and renamed, so after a kill or a power loss the target is
either what it was before or complete. Paths that end in `.gz` are compressed.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from synth_async.errors import DiskFailure, UsageError
from synth_async.stages.dedup import Deduplicator, Fields, Match, Verify

__all__ = ["DedupSummary", "UnreadableRow", "deduplicate_file", "parts_of_row"]

MAX_BROKEN_KEPT = 1000
"""Broken lines that a summary names; the others are only counted."""

_PROGRESS_LINES = 100
_ROLES = {"human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant", "chatgpt": "assistant"}
_INSTRUCTIONS = frozenset({"system", "developer"})
_ANY_ROLE = "text"


@dataclass(frozen=True, slots=True)
class DedupSummary:
    """Lines counted: `read` = `kept` + `exact` + `near` + `broken_count`; blank lines are passed over.

    `broken` names the line (from 1) and what is wrong, for the first thousand; `against_broken` likewise, its messages
    beginning with the file.
    """

    read: int
    kept: int
    exact: int
    near: int
    broken: tuple[tuple[int, str], ...] = ()
    broken_count: int = 0
    against_broken: tuple[tuple[int, str], ...] = ()


class UnreadableRow(ValueError):
    """A line that holds no text to compare; the message says why."""


def deduplicate_file(
    source: Path,
    target: Path,
    *,
    threshold: float = 0.80,
    verify: Verify = "indel",
    fields: Fields = "both",
    against: Sequence[Path] = (),
    report: Path | None = None,
    field: str | None = None,
    strict: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> DedupSummary:
    """The summary of copying `source` to `target` without the lines that repeat an earlier one or one of `against`.

    `field` names the one key to compare in rows of another shape. `report` gets a line per duplicate: `{"kept",
    "duplicate", "similarity", "exact"}` with line numbers from 1, and `kept_in` where the kept line is in a file of
    `against`. A broken line is left out and reported, or raises under `strict`. `on_progress` hears the number of lines
    read, every hundred and at the end.

    Raises `UsageError` for a file that cannot be read, a target that is also an input, and under `strict` for the first
    broken line (`file:line: why`); `DiskFailure` where writing fails. Either leaves the target untouched.
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"threshold {threshold:g}: must be above 0 and at most 1")
    _refuse_overwriting(inputs=[source, *against], outputs=[target] if report is None else [target, report])
    copy = _Copy(Deduplicator(threshold, verify, fields), only_field=field, strict=strict, against=tuple(against))
    copy.learn_against()
    with ExitStack() as outputs:
        kept_lines = outputs.enter_context(_replaced(target))
        report_lines = outputs.enter_context(_replaced(report)) if report is not None else None
        for number, line in _numbered_lines(source):
            match = copy.decide(source, number, line)
            if match is None:
                kept_lines.write(line)
            elif isinstance(match, Match) and report_lines is not None:
                report_lines.write(copy.report_line(match, number))
            if on_progress is not None and copy.read % _PROGRESS_LINES == 0:
                on_progress(copy.read)
    if on_progress is not None:
        on_progress(copy.read)
    return copy.summary()


@dataclass(slots=True)
class _Copy:
    """The state of one copying. Keys of the deduplicator: `<index in against>:<line>`, or `:<line>` of the source."""

    dedup: Deduplicator
    only_field: str | None
    strict: bool
    against: tuple[Path, ...]
    read: int = 0
    kept: int = 0
    exact: int = 0
    near: int = 0
    broken_count: int = 0
    broken: list[tuple[int, str]] = field(default_factory=list)
    against_broken: list[tuple[int, str]] = field(default_factory=list)

    def learn_against(self) -> None:
        """Add every document of the `against` files, near-duplicates too: each may have its own in the source."""
        for index, path in enumerate(self.against):
            for number, line in _numbered_lines(path):
                try:
                    sketch = self.dedup.sketch(parts_of_row(_parsed(line), self.dedup.fields, self.only_field))
                except UnreadableRow as problem:
                    self._note(self.against_broken, path, number, f"{path}: {problem}")
                    continue
                self.dedup.add(f"{index}:{number}", sketch)

    def decide(self, source: Path, number: int, line: bytes) -> Match | UnreadableRow | None:
        """What is wrong with a line: the match it repeats, or why it cannot be read; None for a line that was kept."""
        self.read += 1
        try:
            sketch = self.dedup.sketch(parts_of_row(_parsed(line), self.dedup.fields, self.only_field))
        except UnreadableRow as problem:
            self.broken_count += 1
            self._note(self.broken, source, number, str(problem))
            return problem
        match = self.dedup.find(sketch)
        if match is None:
            self.dedup.add(f":{number}", sketch)
            self.kept += 1
        elif match.exact:
            self.exact += 1
        else:
            self.near += 1
        return match

    def report_line(self, match: Match, number: int) -> bytes:
        index, _, kept = match.kept.partition(":")
        row: dict[str, Any] = {"kept": int(kept), "duplicate": number}
        row |= {"similarity": round(match.similarity, 4), "exact": match.exact}
        if index:
            row["kept_in"] = str(self.against[int(index)])
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)

    def summary(self) -> DedupSummary:
        return DedupSummary(
            read=self.read,
            kept=self.kept,
            exact=self.exact,
            near=self.near,
            broken=tuple(self.broken),
            broken_count=self.broken_count,
            against_broken=tuple(self.against_broken),
        )

    def _note(self, broken: list[tuple[int, str]], path: Path, number: int, message: str) -> None:
        if self.strict:
            raise UsageError(f"{path}:{number}: {message.removeprefix(f'{path}: ')}")
        if len(broken) < MAX_BROKEN_KEPT:
            broken.append((number, message))


# --- rows ----------------------------------------------------------------------------------------


def parts_of_row(row: object, fields: Fields = "both", field: str | None = None) -> tuple[str, ...]:
    """The texts of a row that are compared, without system messages; raises `UnreadableRow` where there are none.

    Shapes: `messages`; ShareGPT's `conversations` (from / value); `prompt` with `completion`, `chosen` or `response`;
    alpaca's `instruction`, `input`, `output`; plain `text`. `field` names one key instead, whatever it holds.
    """
    if not isinstance(row, dict):
        raise UnreadableRow("not a JSON object")
    turns = _turns_of_row(row) if field is None else _turns(_value(row, field), _ANY_ROLE)
    parts = tuple(
        text for role, text in turns if role == _ANY_ROLE or (role not in _INSTRUCTIONS and fields in {"both", role})
    )
    if not parts:
        raise UnreadableRow("no turns to compare" if fields == "both" else f"no {fields} turn to compare")
    return parts


def _turns_of_row(row: dict[str, Any]) -> list[tuple[str, str]]:
    for key in ("messages", "conversations"):
        if row.get(key) is not None:
            return _turns(row[key], _ANY_ROLE)
    if row.get("instruction") is not None:
        asked = [*_turns(row["instruction"], "user"), *_turns(row.get("input"), "user")]
        return asked + _turns(row.get("output", row.get("response")), "assistant")
    answers = [row[key] for key in ("completion", "chosen", "response") if row.get(key) is not None]
    if row.get("prompt") is not None or answers:
        return _turns(row.get("prompt"), "user") + (_turns(answers[0], "assistant") if answers else [])
    if row.get("text") is not None:
        return _turns(row["text"], _ANY_ROLE)
    raise UnreadableRow("none of messages, conversations, instruction, prompt, chosen, text; name the key with --field")


def _value(row: dict[str, Any], field: str) -> object:
    if row.get(field) is None:
        raise UnreadableRow(f"no {field!r}")
    return row[field]


def _turns(value: object, role: str) -> list[tuple[str, str]]:
    """(role, text) of a string, or of a list of messages of either spelling; nothing for None."""
    if value is None:
        return []
    if isinstance(value, str):
        return [(role, value)]
    if not isinstance(value, list):
        raise UnreadableRow(f"{type(value).__name__} where a text or a list of messages was expected")
    return [_turn(message) for message in value]


def _turn(message: object) -> tuple[str, str]:
    if not isinstance(message, dict):
        raise UnreadableRow(f"{type(message).__name__} where a message was expected")
    role = message.get("role", message.get("from"))
    if not isinstance(role, str):
        raise UnreadableRow("a message without a role")
    texts = [_content(message.get("content", message.get("value")))]
    # A call is what such an assistant turn says: without it, all calls after the same question would be equal.
    texts += [json.dumps(message[key], sort_keys=True) for key in ("tool_calls", "function_call") if message.get(key)]
    return _ROLES.get(role, role), " ".join(filter(None, texts))


def _content(content: object) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return " ".join(str(part["text"]) for part in content if isinstance(part, dict) and part.get("text"))
    raise UnreadableRow(f"content is {type(content).__name__}, neither a text nor a list of parts")


def _parsed(line: bytes) -> object:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        problem = error
    try:
        # The standard parser takes what orjson refuses and other tools write: a byte order mark, lone surrogates, NaN.
        return json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise UnreadableRow("not UTF-8") from None
    except (ValueError, RecursionError):
        raise UnreadableRow(f"not JSON: {problem.msg} (character {problem.pos + 1})") from None


# --- files ---------------------------------------------------------------------------------------


def _numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Every line that is not blank, with its number from 1 and its line end."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, line
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UsageError(f"{path}: not a complete gzip file") from None
    except OSError as error:
        raise UsageError(f"{path}: could not be read: {error.strerror}") from None


@contextmanager
def _replaced(target: Path) -> Iterator[BinaryIO | gzip.GzipFile]:
    """A stream that takes the place of `target` once it is whole and synced; an error leaves the target as it was."""
    temporary = target.resolve().with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as raw:
            if target.suffix == ".gz":
                # no name and no time inside: the same lines give the same bytes
                with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
                    yield packed
            else:
                yield raw
            raw.flush()
            os.fsync(raw.fileno())
        temporary.replace(target.resolve())
        _sync_folder(target.resolve().parent)
    except OSError as error:
        raise DiskFailure(f"{target}: could not be written: {error.strerror}") from None
    finally:
        with suppress(OSError):
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_overwriting(*, inputs: Sequence[Path], outputs: Sequence[Path]) -> None:
    for index, output in enumerate(outputs):
        for other in [*inputs, *outputs[:index]]:
            if _is_same_file(output, other):
                raise UsageError(f"{output}: is also read or written as {other}; name another file for the output")
        if output.exists() and not output.is_file():
            raise UsageError(f"{output}: is not a regular file; name a file for the output")


def _is_same_file(path: Path, other: Path) -> bool:
    if path.resolve() == other.resolve():
        return True
    return path.exists() and other.exists() and path.samefile(other)
