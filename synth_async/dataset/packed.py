"""Packed training blocks in Parquet: examples as tokens, several to a block (extras `tokens` and `parquet`).

A row is a block: `input_ids`, `labels` (-100 where there is no loss), `position_ids` (from 0 in every example, which is
how padding-free attention tells them apart), `seq_lengths` (tokens of each example, in order). Blocks are not padded.

The tokens wait in a nameless temporary file until all lengths are known: memory grows by 50 bytes an example.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from gzip import GzipFile
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np

from synth_async.dataset.extras import required
from synth_async.dataset.pack import packed_blocks, pieces_of
from synth_async.dataset.tokens import TokenIds

__all__ = ["NO_LOSS", "Packer", "Packing"]

NO_LOSS = -100
"""The label that torch's cross entropy ignores by default."""

_ITEM = np.dtype([("id", "<i4"), ("label", "<i4")])
_BATCH_BLOCKS = 256


@dataclass(frozen=True, slots=True)
class Packing:
    """What became of the tokens: `fill` is the share of the blocks' room that is taken."""

    blocks: int
    examples: int
    tokens: int
    fill: float
    over_length: int
    over_length_rows: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Packer:
    """Collects the tokens of examples, then writes them as blocks of at most `block_tokens`.

    An example that is longer is left out and counted, or with `split_long` cut into pieces.
    """

    def __init__(self, block_tokens: int, *, split_long: bool = False, folder: Path | None = None) -> None:
        self._block_tokens = block_tokens
        self._split_long = split_long
        self._spool = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed by __exit__
        self._starts = array("q")
        self._lengths = array("q")
        self._written = 0
        self._examples = 0
        self._over_length = 0
        self._over_length_rows: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spool.close()

    def add(self, row: int, tokens: TokenIds) -> None:
        """One more example; `row` names it in the report of those that are too long."""
        length = len(tokens.ids)
        if length > self._block_tokens:
            self._over_length += 1
            if len(self._over_length_rows) < 1000:
                self._over_length_rows.append(row)
            if not self._split_long:
                return
        self._examples += 1
        items = np.empty(length, dtype=_ITEM)
        items["id"] = tokens.ids
        items["label"] = np.where(tokens.trained, items["id"], NO_LOSS)
        self._spool.write(items.tobytes())
        for start, end in pieces_of(length, self._block_tokens):
            self._starts.append(self._written + start)
            self._lengths.append(end - start)
        self._written += length

    def write(self, target: BinaryIO | GzipFile) -> Packing:
        """Write the blocks as a Parquet file, and say how full they are."""
        arrow = required("pyarrow", extra="parquet")
        parquet = required("pyarrow.parquet", extra="parquet")
        integers = arrow.list_(arrow.int32())
        schema = arrow.schema([(name, integers) for name in ("input_ids", "labels", "position_ids", "seq_lengths")])
        blocks = packed_blocks(self._lengths, self._block_tokens)
        with parquet.ParquetWriter(target, schema, compression="zstd") as writer:
            for rows in _batches(blocks):
                writer.write_table(arrow.Table.from_pylist([self._block(row) for row in rows], schema=schema))
        room = len(blocks) * self._block_tokens
        tokens = sum(self._lengths)
        return Packing(
            blocks=len(blocks),
            examples=self._examples,
            tokens=tokens,
            fill=round(tokens / room, 4) if room else 0.0,
            over_length=self._over_length,
            over_length_rows=tuple(self._over_length_rows),
        )

    def _block(self, indices: Sequence[int]) -> dict[str, Any]:
        items = np.concatenate([self._items(index) for index in sorted(indices)])
        lengths = [self._lengths[index] for index in sorted(indices)]
        return {
            "input_ids": items["id"],
            "labels": items["label"],
            "position_ids": np.concatenate([np.arange(length, dtype=np.int32) for length in lengths]),
            "seq_lengths": lengths,
        }

    def _items(self, index: int) -> np.ndarray[Any, Any]:
        self._spool.seek(self._starts[index] * _ITEM.itemsize)
        return np.frombuffer(self._spool.read(self._lengths[index] * _ITEM.itemsize), dtype=_ITEM)


def _batches(blocks: Sequence[list[int]]) -> Iterator[Sequence[list[int]]]:
    for start in range(0, len(blocks), _BATCH_BLOCKS):
        yield blocks[start : start + _BATCH_BLOCKS]
