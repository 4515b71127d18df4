"""The rows of a file, one by one: JSON Lines (also .gz), a JSON array, or Parquet (extra `parquet`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from synth_async.dataset.compared_texts import parsed_json
from synth_async.dataset.extras import required
from synth_async.dataset.line_files import numbered_lines, require_inputs
from synth_async.errors import UsageError
from synth_async.stages.conversations import UnreadableRow

__all__ = ["numbered_rows"]

_BATCH_ROWS = 1000


def numbered_rows(path: Path) -> Iterator[tuple[int, object]]:
    """Each row with its number from 1; an `UnreadableRow` in the place of one that could not be parsed.

    Blank lines are passed over and counted. A JSON array is read as a whole, the others in flat memory. Raises
    `UsageError` for a file that cannot be read.
    """
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name the file")
    require_inputs([path])
    if path.suffix == ".parquet":
        yield from enumerate(_parquet_rows(path), start=1)
    elif path.suffix == ".json":
        yield from enumerate(_array_rows(path), start=1)
    else:
        for _, number, line in numbered_lines([path]):
            yield number, _row_or_problem(line)


def _row_or_problem(line: bytes) -> object:
    try:
        return parsed_json(line)
    except UnreadableRow as problem:
        return problem


def _array_rows(path: Path) -> list[Any]:
    content = b"".join(line for _, _, line in numbered_lines([path]))
    try:
        rows = parsed_json(content)
    except UnreadableRow as problem:
        raise UsageError(f"{path}: {problem}; JSON Lines end in .jsonl") from None
    if not isinstance(rows, list):
        raise UsageError(f"{path}: holds no JSON array; JSON Lines end in .jsonl")
    return rows


def _parquet_rows(path: Path) -> Iterator[Any]:
    parquet = required("pyarrow.parquet", extra="parquet")
    arrow = required("pyarrow", extra="parquet")
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                yield from batch.to_pylist()
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except arrow.ArrowException as error:
        raise UsageError(f"{path}: not a Parquet file: {error}") from None
