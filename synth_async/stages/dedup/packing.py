"""A kept document as a record of fixed size: what the index needs of it, so that it is never computed again.

The record holds the caller's key, the exact hash, the length of the compared text, the low byte of each signature entry
(what agreement is told from) and the band keys. The text is not in it: `Deduplicator.text_of` reads it back when a
candidate has to be verified.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from synth_async.stages.dedup.index import band_keys
from synth_async.stages.dedup.signatures import BANDS, ENTRIES, Signature

__all__ = [
    "PACKED",
    "PACKED_BYTES",
    "PACKING",
    "Marks",
    "Packed",
    "exact_hashes_of",
    "keys_of",
    "marks_of",
    "pack",
    "unpack",
]

PACKING = 1
"""Version of the record; it changes with the layout, the signatures, the bands or the normal form of texts."""

MOST_KEY_BYTES = 16

PACKED = np.dtype(
    [
        ("key", f"S{MOST_KEY_BYTES}"),
        ("exact", "u1", (16,)),
        ("length", "<u4"),
        ("marks", "u1", (ENTRIES,)),
        ("bands", "<u4", (BANDS,)),
    ]
)
PACKED_BYTES = PACKED.itemsize

Packed = npt.NDArray[np.void]
"""Records of the type `PACKED`, in the order the documents were kept."""

Marks = npt.NDArray[np.uint8]


def marks_of(signature: Signature) -> Marks:
    """The low byte of each entry: two unlike entries agree in it once in 256 times, which costs 0.004 of agreement."""
    return signature.astype(np.uint8)


def pack(key: str, exact: bytes, signature: Signature | None, length: int) -> bytes:
    """The record of one document; without a signature its marks and band keys are 0.

    Raises `ValueError` for a key that is longer than 16 bytes or holds a NUL.
    """
    name = key.encode("utf-8", "surrogatepass")
    if len(name) > MOST_KEY_BYTES or b"\0" in name:
        raise ValueError(f"key {key!r}: at most {MOST_KEY_BYTES} bytes and no NUL can be packed")
    if signature is None:
        marks, bands = bytes(ENTRIES), bytes(4 * BANDS)
    else:
        marks, bands = marks_of(signature).tobytes(), band_keys(signature).astype("<u4", copy=False).tobytes()
    return b"".join((name.ljust(MOST_KEY_BYTES, b"\0"), exact, length.to_bytes(4, "little"), marks, bands))


def unpack(records: bytes | bytearray | memoryview) -> Packed:
    """The records in a piece of memory, not copied; raises `ValueError` where it is no whole number of them."""
    return np.frombuffer(records, dtype=PACKED)


def keys_of(records: Packed) -> list[str]:
    """The caller's keys."""
    names: Sequence[Any] = records["key"].tolist()
    return [name.decode("utf-8", "surrogatepass") for name in names]


def exact_hashes_of(records: Packed) -> list[bytes]:
    """The exact hashes."""
    whole = records["exact"].tobytes()
    return [whole[start : start + 16] for start in range(0, len(whole), 16)]
