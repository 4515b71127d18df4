"""Candidate pairs among many signatures: which two documents share a band of their signatures, and agree enough.

The group-by of the band keys is polars' work (extra `merge`): the keys lie in Parquet files, one column a band, and one
band after the other is grouped. Memory is bounded by one band and by the block of documents whose pairs are looked at,
where a document has at most `MAX_EARLIER` a band.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from synth_async.dataset.extras import required
from synth_async.stages.dedup.engine import MIN_AGREEMENT
from synth_async.stages.dedup.index import band_keys
from synth_async.stages.dedup.signatures import BANDS, Signature

__all__ = ["MAX_EARLIER", "candidates_by_document", "required_polars"]

MAX_EARLIER = 256
"""Documents of a bucket that a later one is compared with: the earliest. Only in buckets of more than these may a pair
be missed that the index of a single pass proposes, and only where the two share no smaller bucket."""

_KEYS_AT_ONCE = 16_384
_BLOCK = 2048  # documents whose pairs are in memory at once
_COMPARED_AT_ONCE = 16_384

Numbers = npt.NDArray[np.uint32]
Rows = npt.NDArray[np.int64]


def required_polars() -> Any:
    """The polars module; raises `UsageError` with the extra to install."""
    return required("polars", extra="merge")


def candidates_by_document(signatures: Signature, order: Rows, folder: Path) -> Iterator[tuple[int, Numbers]]:
    """Each document that has candidates, in ascending order, with those: the likeliest first, the oldest among equals.

    Documents are numbered from 0 in their order; the signature of document n is `signatures[order[n]]`, and an all-zero
    one stands for a document that has none. `folder` takes the files that are made on the way.
    """
    polars = required_polars()
    _write_keys(polars, signatures, order, folder)
    for band in range(BANDS):
        _write_pairs(polars, folder, band)
    for start in range(0, len(order), _BLOCK):
        later, earlier = _pairs_of_block(polars, folder, start)
        agreements = _agreements(signatures, order[later], order[earlier])
        likely = agreements >= MIN_AGREEMENT
        yield from _grouped(later[likely], earlier[likely], agreements[likely])


def _write_keys(polars: Any, signatures: Signature, order: Rows, folder: Path) -> None:
    for start in range(0, len(order), _KEYS_AT_ONCE):
        part = signatures[order[start : start + _KEYS_AT_ONCE]]
        present = np.flatnonzero(part.any(axis=1))
        keys = band_keys(part[present])
        columns = {"number": (present + start).astype(np.uint32)} | {f"band{b}": keys[:, b] for b in range(BANDS)}
        polars.DataFrame(columns).write_parquet(folder / f"keys-{start:012}.parquet", compression="uncompressed")


def _write_pairs(polars: Any, folder: Path, band: int) -> None:
    """The pairs that share this band, by the later document."""
    keys = polars.scan_parquet(folder / "keys-*.parquet").select("number", key=f"band{band}")
    buckets = keys.group_by("key").agg(polars.col("number").sort()).filter(polars.col("number").list.len() > 1)
    pairs = (
        buckets.select(later="number", earlier=polars.col("number").list.head(MAX_EARLIER))
        .explode("later")
        .explode("earlier")
        .filter(polars.col("earlier") < polars.col("later"))
        .sort("later")
    )
    pairs.sink_parquet(folder / f"pairs-{band:03}.parquet", compression="lz4", engine="streaming")


def _pairs_of_block(polars: Any, folder: Path, start: int) -> tuple[Numbers, Numbers]:
    in_block = polars.col("later").is_between(start, start + _BLOCK - 1)
    pairs = polars.scan_parquet(folder / "pairs-*.parquet").filter(in_block).unique().collect(engine="streaming")
    return pairs["later"].to_numpy(), pairs["earlier"].to_numpy()


def _agreements(signatures: Signature, rows: Rows, other_rows: Rows) -> npt.NDArray[np.float64]:
    found = np.empty(len(rows))
    for start in range(0, len(rows), _COMPARED_AT_ONCE):
        part = slice(start, start + _COMPARED_AT_ONCE)
        equal = signatures[rows[part]] == signatures[other_rows[part]]
        found[part] = equal.sum(axis=1, dtype=np.uint16) / np.float64(signatures.shape[1])
    return found


def _grouped(later: Numbers, earlier: Numbers, agreements: npt.NDArray[np.float64]) -> Iterator[tuple[int, Numbers]]:
    order = np.lexsort((earlier, -agreements, later))
    numbers, starts = np.unique(later[order], return_index=True)
    return zip(numbers.tolist(), np.split(earlier[order], starts[1:]), strict=False)  # nothing is split into one part
