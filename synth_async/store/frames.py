"""Journal frames: one line of text each, found again whatever happened to the file around it.

    crc32hex SP {"k":"<32 hex>","t":"<kind>", ..., "body": <verbatim JSON> | "body64": "<base64>"} LF

* The checksum covers the bytes between the space and the LF, so any flipped byte or truncation is found.
* `k` and `t` stand at fixed offsets: a scan needs a checksum and two slices a line, no JSON parse.
* A body is stored byte for byte where it is valid JSON on one line; anything else (HTML, a cut body, NaN, lone
  surrogates, line feeds) goes in as base64. Either way the same bytes come out.
"""

from __future__ import annotations

import base64
import re
from binascii import unhexlify
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import orjson

__all__ = ["KEY_DIGITS", "NO_KEY", "DamagedFrame", "Frame", "encode_frame", "fields_before", "read_frame", "scan_line"]

NO_KEY = "0" * 32
"""Key of frames that belong to no request, such as a segment's header."""

KEY_DIGITS = slice(15, 47)
"""Where the key's hex digits stand in a line."""

_KIND_START = 54
_PREFIX = b' {"k":"'
_HEAD = re.compile(rb'\{"k":"[0-9a-f]{32}","t":"[a-z0-9_-]+"')
_RESERVED = frozenset({"k", "t", "body", "body64"})
_BODY_MARK = b',"body":'


class DamagedFrame(ValueError):
    """A line that is not a whole frame: torn, overwritten, or never one."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One line of the journal. `fields` holds everything but key, kind and body."""

    key: str
    kind: str
    fields: dict[str, Any]
    body: bytes | None = None


def _is_json_line(body: bytes) -> bool:
    if b"\n" in body:
        return False
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True


def encode_frame(frame: Frame) -> bytes:
    """The line of a frame, its LF included.

    Raises `ValueError` for a key that is not 32 lower-case hex digits, a kind that is not a plain word (such as
    `answer-judge`), or a field named like a part of the frame; `TypeError` for fields that JSON cannot hold.
    """
    text = orjson.dumps({"k": frame.key, "t": frame.kind, **frame.fields})
    if _HEAD.match(text) is None or not _RESERVED.isdisjoint(frame.fields):
        raise ValueError(f"not a frame: key {frame.key!r}, kind {frame.kind!r}, fields {sorted(frame.fields)}")
    if frame.body is not None:
        if _is_json_line(frame.body):
            text = b"".join((text[:-1], _BODY_MARK, frame.body, b"}"))
        else:
            text = b"".join((text[:-1], b',"body64":"', base64.b64encode(frame.body), b'"}'))
    return b"%08x %b\n" % (crc32(text), text)


def scan_line(line: bytes) -> tuple[bytes, str]:
    """Key (16 bytes) and kind of a line, its checksum verified; raises `DamagedFrame`."""
    # The digits are compared as written: int() would take "+", "_" and capitals for a checksum as well.
    if line[8:15] != _PREFIX or line[-1:] != b"\n" or line[:8] != b"%08x" % crc32(line[9:-1]):
        raise DamagedFrame("checksum does not match")
    try:
        kind = line[_KIND_START : line.index(b'"', _KIND_START)].decode("ascii")
        return unhexlify(line[KEY_DIGITS]), kind
    except ValueError as error:
        raise DamagedFrame(str(error)) from None


def read_frame(line: bytes) -> Frame:
    """The frame of a line, its checksum verified; raises `DamagedFrame`."""
    scan_line(line)
    text = line[9:-1]
    try:
        fields, body = _split(text)
        if "body64" in fields:
            body = base64.b64decode(fields.pop("body64"), validate=True)
        return Frame(fields.pop("k"), fields.pop("t"), fields, body)
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedFrame(str(error)) from None


def fields_before(line: bytes, name: bytes) -> dict[str, Any]:
    """The fields in front of `name`, what follows not parsed; all of them where that cannot be told (see `_split`).

    For a line that `scan_line` has found good.
    """
    at = line.find(b',"' + name + b'":')
    try:
        fields: dict[str, Any] = orjson.loads(line[9:at] + b"}" if at >= 0 else line[9:])
    except orjson.JSONDecodeError:
        fields = orjson.loads(line[9:])
    return fields


def _split(text: bytes) -> tuple[dict[str, Any], bytes | None]:
    """The fields, and the verbatim body where there is one.

    A quote inside a JSON string is escaped, so a bare mark is always a key: ours, or that of an object inside a field.
    What stands before the latter has a bracket open, and is no JSON with one brace added.
    """
    at = text.find(_BODY_MARK)
    while at >= 0:
        try:
            return orjson.loads(text[:at] + b"}"), text[at + len(_BODY_MARK) : -1]
        except orjson.JSONDecodeError:
            at = text.find(_BODY_MARK, at + 1)
    return orjson.loads(text), None
