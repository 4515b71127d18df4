r"""The sidecar: records of fixed size beside the journal, so that an index of what was accepted is not computed again.

    header   synth-async sidecar 1 <record bytes> <stamp>\n, then the CRC-32 of that line in 8 hex digits and \n
    block    count (u32) · CRC-32 (u32) · count places (u64) · count records; little-endian

A place says where the journal has the decision that a record belongs to, so that a reader can tell whether it still
counts. The stamp is the writer's description of what the records depend on.

What survives: nothing has to. Records are collected and written a block at a time with one `os.write`, and are never
synced: they can be made again from the journal. Whatever is wrong with the file - missing, of another stamp or version,
cut, with a flipped bit - reading gives the records before the damage and says what it found; what is missing behind
them is computed again and appended. A sidecar that cannot be written stops being written and stops nothing else.
"""

from __future__ import annotations

import os
from array import array
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from struct import Struct, pack, unpack
from typing import BinaryIO
from zlib import crc32

__all__ = ["BLOCK_RECORDS", "FORMAT", "Restored", "Sidecar", "open_sidecar"]

FORMAT = 1
"""Version of the file that this package writes, and the only one that it reads."""

BLOCK_RECORDS = 64
"""Records that are written together: at most as many are computed again after a kill."""

_MAGIC = b"synth-async sidecar"
_BLOCK = Struct("<II")
_PLACE_BYTES = 8


@dataclass(frozen=True, slots=True)
class Restored:
    """What a sidecar held: a place and a record for each decision, in order; `trouble` says why it is not all."""

    places: array[int]
    records: bytearray
    trouble: str | None = None


class Sidecar:
    """An open sidecar: what it held when it was opened (`restored`), and `append` for what comes. One writer."""

    def __init__(self, path: Path, fd: int | None, restored: Restored, *, header_bytes: int, record_bytes: int) -> None:
        self.path = path
        self.restored = restored
        self.failure: str | None = None
        self._fd = fd
        self._header_bytes = header_bytes
        self._record_bytes = record_bytes
        self._places = array("Q")
        self._records = bytearray()

    def __repr__(self) -> str:
        state = self.failure or ("closed" if self._fd is None else "open")
        return f"<Sidecar {self.path.name} restored={len(self.restored.places)} waiting={len(self._places)} {state}>"

    def append(self, place: int, record: bytes) -> None:
        """Note a record; it is written with its block. Raises `ValueError` for a record of another size."""
        if self._fd is None:
            return
        if len(record) != self._record_bytes:
            raise ValueError(f"a record of {len(record)} bytes, where all have {self._record_bytes}")
        self._places.append(place)
        self._records += record
        if len(self._places) == BLOCK_RECORDS:
            self.flush()

    def settle(self, count: int) -> None:
        """Keep the first `count` of the restored records, those whose decisions still count, and forget them here.

        To be called once, before the first `append`. The others are cut off the file.
        """
        places, records = self.restored.places, self.restored.records
        self.restored = Restored(array("Q"), bytearray(), self.restored.trouble)
        if self._fd is None or count == len(places):
            return
        try:
            os.ftruncate(self._fd, self._header_bytes)
        except OSError as error:
            self._give_up(error.strerror or str(error))
        for start in range(0, count, BLOCK_RECORDS):
            end = min(start + BLOCK_RECORDS, count)
            self._places = places[start:end]
            self._records = records[start * self._record_bytes : end * self._record_bytes]
            self.flush()

    def flush(self) -> None:
        """Write what is waiting as a block of its own."""
        if self._fd is None or not self._places:
            return
        block = encode_block(self._places, self._records)
        self._places, self._records = array("Q"), bytearray()
        try:
            written = os.write(self._fd, block)
        except OSError as error:
            self._give_up(error.strerror or str(error))
            return
        if written != len(block):
            with suppress(OSError):
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)  # others have more need of the space
            self._give_up("the disk took only part of a block")

    def abandon(self) -> None:
        """Write nothing more, not even what is waiting: the space that is left belongs to the journal."""
        self._places, self._records = array("Q"), bytearray()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def close(self) -> None:
        """Write what is waiting, and close. May be called twice; records that come later are not kept."""
        self.flush()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _give_up(self, why: str) -> None:
        self.failure = f"{self.path}: could not be written: {why}; the next start computes the index again"
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def open_sidecar(path: Path, *, stamp: str, record_bytes: int, last_place: int) -> Sidecar:
    """The sidecar at `path`, ready for what comes after what it holds; a new one where none can be used.

    Records of places beyond `last_place`, the last decision that the journal holds (0 where there is none), are cut
    off: a power loss may take the journal's tail and leave the sidecar's. Damage is cut off too. Raises nothing for a
    file that cannot be read or written: `restored.trouble` or `failure` says why, and the caller computes the index
    from the texts.
    """
    header = encode_header(stamp, record_bytes)
    try:
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        return _unusable(path, f"{path}: could not be opened: {error.strerror}")
    try:
        with os.fdopen(os.dup(fd), "rb") as stream:
            restored, good_bytes = _read(path, stream, header, record_bytes, last_place)
        os.ftruncate(fd, good_bytes)
        if not good_bytes:
            os.write(fd, header)
    except OSError as error:
        os.close(fd)
        return _unusable(path, f"{path}: could not be read or cut: {error.strerror}")
    return Sidecar(path, fd, restored, header_bytes=len(header), record_bytes=record_bytes)


def encode_header(stamp: str, record_bytes: int) -> bytes:
    """The two lines at the head of the file."""
    line = b"%b %d %d %b\n" % (_MAGIC, FORMAT, record_bytes, stamp.encode("utf-8").replace(b"\n", b" "))
    return b"%b%08x\n" % (line, crc32(line))


def encode_block(places: array[int], records: bytes | bytearray) -> bytes:
    """One block."""
    body = pack(f"<{len(places)}Q", *places) + records
    return b"".join((_BLOCK.pack(len(places), crc32(body)), body))


def _unusable(path: Path, why: str) -> Sidecar:
    sidecar = Sidecar(path, None, Restored(array("Q"), bytearray(), why), header_bytes=0, record_bytes=0)
    sidecar.failure = why
    return sidecar


def _read(path: Path, stream: BinaryIO, header: bytes, record_bytes: int, last_place: int) -> tuple[Restored, int]:
    """What can be used, and how many bytes of the file are to stay."""
    found = stream.read(len(header))
    if found != header:
        return Restored(array("Q"), bytearray(), _foreign(path, found, last_place)), 0
    places, records = array("Q"), bytearray()
    good_bytes = len(header)
    trouble = None
    while head := stream.read(_BLOCK.size):
        count, checksum = _BLOCK.unpack(head) if len(head) == _BLOCK.size else (0, 0)
        # A count that was damaged may be any number: no more is read than a block can have.
        body = stream.read(count * (_PLACE_BYTES + record_bytes)) if 0 < count <= BLOCK_RECORDS else b""
        if not body or crc32(body) != checksum:
            trouble = f"{path}: torn or damaged at byte {good_bytes}; what follows is computed again"
            break
        found_places = unpack(f"<{count}Q", body[: count * _PLACE_BYTES])
        if max(found_places) > last_place:
            trouble = f"{path}: runs ahead of the journal at byte {good_bytes}; what follows is computed again"
            break
        places.extend(found_places)
        records += body[count * _PLACE_BYTES :]
        good_bytes += len(head) + len(body)
    return Restored(places, records, trouble), good_bytes


def _foreign(path: Path, found: bytes, last_place: int) -> str | None:
    if not found:
        return f"{path}: is missing; the index is computed again" if last_place else None
    if not found.startswith(_MAGIC):
        return f"{path}: is no sidecar; the index is computed again"
    return f"{path}: was made by another version or with other settings; the index is computed again"
