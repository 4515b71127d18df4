"""Where rows go: JSON Lines, or Parquet."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson

from synth_async.dataset.extras import required
from synth_async.dataset.formats import Row
from synth_async.dataset.line_files import replaced

__all__ = ["JsonlSink", "ParquetSink", "Sink", "encoded", "open_sink"]

_BATCH_ROWS = 1000


def encoded(row: object) -> bytes:
    """A row as a line of JSON."""
    try:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        # metadata of others: integers beyond 64 bits, lone surrogates
        return json.dumps(row).encode() + b"\n"


class JsonlSink:
    """A JSON Lines file, gzipped where its name ends in `.gz`; it shows once it is whole (or not at all)."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.path = path
        self.rows = 0
        self._file: Any = stack.enter_context(replaced(path))

    def write(self, row: Row) -> None:
        self._file.write(encoded(row))
        self.rows += 1


class ParquetSink:
    """A Parquet file with a column of messages; `id` and `metadata` (as JSON text) where rows have them."""

    def __init__(self, path: Path, stack: ExitStack, *, keep_metadata: bool) -> None:
        self.path = path
        self.rows = 0
        self._arrow = required("pyarrow", extra="parquet")
        parquet = required("pyarrow.parquet", extra="parquet")
        text = self._arrow.string()
        message = self._arrow.struct([("role", text), ("content", text)])
        extra = [("id", text), ("metadata", text)] if keep_metadata else []
        self._schema = self._arrow.schema([("messages", self._arrow.list_(message)), *extra])
        file = stack.enter_context(replaced(path))
        self._writer = stack.enter_context(parquet.ParquetWriter(file, self._schema, compression="zstd"))
        self._batch: list[Row] = []
        stack.callback(self._flush)

    def write(self, row: Row) -> None:
        if "metadata" in row:
            row = row | {"metadata": orjson.dumps(row["metadata"]).decode()}
        self._batch.append(row)
        self.rows += 1
        if len(self._batch) == _BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_table(self._arrow.Table.from_pylist(self._batch, schema=self._schema))
        self._batch = []


Sink = JsonlSink | ParquetSink


def open_sink(path: Path, stack: ExitStack, *, keep_metadata: bool) -> Sink:
    """The sink that a file's name calls for; the file takes its place when the stack closes without an error."""
    if path.suffix == ".parquet":
        return ParquetSink(path, stack, keep_metadata=keep_metadata)
    return JsonlSink(path, stack)
