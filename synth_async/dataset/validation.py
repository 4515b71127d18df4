"""What the target of a format would refuse in a file: every breach, with its line.

Read line by line in flat memory. All breaches are counted; the first thousand are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from synth_async.dataset.formats import Format
from synth_async.dataset.formats.rules import key_breaches
from synth_async.dataset.line_files import numbered_lines
from synth_async.dataset.rows import numbered_rows
from synth_async.errors import UsageError
from synth_async.stages.conversations import UnreadableRow

__all__ = ["MAX_BREACHES_KEPT", "Breach", "Validation", "row_breaches", "validate_file"]

MAX_BREACHES_KEPT = 1000


@dataclass(frozen=True, slots=True)
class Breach:
    """One thing that the target refuses. `line` counts from 1 (rows, in Parquet and JSON); None: the whole file."""

    line: int | None
    message: str


@dataclass(slots=True)
class Validation:
    """What was found: `rows` read, `rows_in_breach` of them with at least one of `breach_count` breaches."""

    rows: int = 0
    rows_in_breach: int = 0
    breach_count: int = 0
    breaches: list[Breach] = field(default_factory=list)

    def note(self, line: int | None, messages: list[str]) -> None:
        """Count the breaches of a line."""
        self.breach_count += len(messages)
        self.rows_in_breach += line is not None and bool(messages)
        room = MAX_BREACHES_KEPT - len(self.breaches)
        self.breaches += [Breach(line, message) for message in messages[:room]]


def validate_file(path: Path, target: Format) -> Validation:
    """The breaches of a file; raises `UsageError` where it cannot be read at all."""
    found = Validation()
    shape: str | None = None
    for number, row in _rows(path):
        found.rows += 1
        if isinstance(row, UnreadableRow):
            found.note(number, [str(row)])
            continue
        breaches = list(row_breaches(row, target))
        row_shape = target.shape(row) if isinstance(row, dict) else None
        if shape is not None and row_shape is not None and row_shape != shape:
            breaches.append(f"is {row_shape}, where the rows before it are {shape}: a file holds one shape")
        shape = shape or row_shape
        found.note(number, breaches)
    found.note(None, list(_file_breaches(path, target, found.rows)))
    return found


def row_breaches(row: object, target: Format) -> Iterator[str]:
    """What the target refuses in one row."""
    if not isinstance(row, Mapping):
        yield "not a JSON object"
        return
    if target.keys is not None:
        yield from key_breaches(row, target.keys)
    yield from target.breaches(row)


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Rows as strict readers see them: what only a lenient parser takes (a byte order mark, NaN) is unreadable."""
    if path.is_dir() or path.suffix in {".json", ".parquet"}:
        yield from numbered_rows(path)
        return
    for _, number, line in numbered_lines([path]):
        try:
            yield number, orjson.loads(line)
        except orjson.JSONDecodeError as error:
            yield number, UnreadableRow(_why_not_json(line, error))


def _why_not_json(line: bytes, error: orjson.JSONDecodeError) -> str:
    if line.startswith(b"\xef\xbb\xbf"):
        return "not JSON: a byte order mark before it; save the file as UTF-8 without BOM"
    try:
        line.decode()
    except UnicodeDecodeError:
        return "not UTF-8"
    return f"not JSON: {error.msg} (character {error.pos + 1})"


def _file_breaches(path: Path, target: Format, rows: int) -> Iterator[str]:
    if rows < target.min_rows:
        yield f"{rows} rows; {target.name} takes no fewer than {target.min_rows}"
    try:
        size_bytes = path.stat().st_size
    except OSError as error:
        raise UsageError(f"{path}: could not be read: {error.strerror}") from None
    if target.max_bytes is not None and size_bytes > target.max_bytes:
        yield f"{size_bytes:,} bytes; {target.name} takes no more than {target.max_bytes:,}"
