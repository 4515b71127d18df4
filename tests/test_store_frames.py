"""Journal frames: the same bytes out, and no damage unnoticed."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from synth_async.store.frames import NO_KEY, DamagedFrame, Frame, encode_frame, read_frame, scan_line

_KEYS = st.text("0123456789abcdef", min_size=32, max_size=32)
_KINDS = st.sampled_from(["task", "topics", "accept", "reject", "answer-topics", "answer-generate", "answer-judge"])
_MARKS = st.sampled_from([',"body":', ',"body64":', '"},"body":{', '\\","body":1}', "body", "body64", "k", "t", "\n"])
_TEXTS = st.one_of(_MARKS, st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
_SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), _TEXTS)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_TEXTS, inner, max_size=4))
)
_NAMES = _TEXTS.filter(lambda name: name not in {"k", "t", "body", "body64"})
_FIELDS = st.dictionaries(_NAMES, _VALUES, max_size=4)
_JSON_BODIES = st.builds(
    lambda value, before, after: before + orjson.dumps(value) + after,
    _VALUES,
    st.sampled_from([b"", b" ", b"\r\t"]),
    st.sampled_from([b"", b" ", b"\n", b"\r"]),
)
_BODIES = st.one_of(
    st.none(), st.binary(max_size=200), _JSON_BODIES, st.sampled_from([b"NaN", b'"\\ud800"', b"<html>"])
)
_FRAMES = st.builds(Frame, _KEYS, _KINDS, _FIELDS, _BODIES)


@given(_FRAMES)
@example(Frame("a" * 32, "task", {"facets": {"tone": "dry", "body": "tall"}}))
@example(Frame("a" * 32, "task", {"facets": {"tone": "dry", "body": "tall"}}, b'{"x":1,"body":2}'))
@example(Frame("a" * 32, "task", {"list": [{"a": 1, "body": [{"b": 2, "body": 3}]}]}, b"not JSON"))
def test_what_goes_in_comes_out(frame: Frame) -> None:
    """Any bytes and any fields survive, whatever they hold, on one line that ends in the only LF."""
    line = encode_frame(frame)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert read_frame(line) == frame


@given(_FRAMES)
def test_a_scan_finds_key_and_kind_without_parsing(frame: Frame) -> None:
    """Key and kind stand at fixed offsets of every line."""
    assert scan_line(encode_frame(frame)) == (bytes.fromhex(frame.key), frame.kind)


def test_a_body_on_one_line_is_stored_as_it_is() -> None:
    """Valid JSON can be read in the file with any tool; anything else is base64."""
    body = b' {"content": "caf\xc3\xa9",  "n": 1.50}'
    assert body in encode_frame(Frame(NO_KEY, "answer-judge", {}, body))
    assert b'"body64":"PGh0bWw+"' in encode_frame(Frame(NO_KEY, "answer-judge", {}, b"<html>"))


@given(_FRAMES, st.data())
def test_a_cut_line_is_damaged(frame: Frame, data: st.DataObject) -> None:
    """No true prefix of a line passes for a frame."""
    line = encode_frame(frame)
    cut = line[: data.draw(st.integers(0, len(line) - 1))]
    with pytest.raises(DamagedFrame):
        scan_line(cut)


@given(_FRAMES, st.data())
def test_a_flipped_byte_is_damage(frame: Frame, data: st.DataObject) -> None:
    """Any change of any one byte is found, in the checksum's own digits as well."""
    line = bytearray(encode_frame(frame))
    at = data.draw(st.integers(0, len(line) - 1))
    line[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DamagedFrame):
        scan_line(bytes(line))


def test_every_single_bit_of_a_frame_counts() -> None:
    """All single-bit flips of one frame are found, case and sign of the checksum's digits included."""
    line = encode_frame(Frame("0a" * 16, "accept", {"fp": "00"}, b"{}"))
    for at in range(len(line)):
        for bit in range(8):
            flipped = bytearray(line)
            flipped[at] ^= 1 << bit
            with pytest.raises(DamagedFrame):
                scan_line(bytes(flipped))


@given(st.binary(max_size=200))
def test_noise_is_damage_and_nothing_worse(noise: bytes) -> None:
    """Whatever the bytes are, the one error is DamagedFrame."""
    for line in (noise, noise + b"\n"):
        with pytest.raises(DamagedFrame):
            read_frame(line)


@pytest.mark.parametrize(
    ("key", "kind", "fields"),
    [
        ("abc", "task", {}),
        ("A" * 32, "task", {}),
        ("0" * 33, "task", {}),
        (NO_KEY, 'ta"sk', {}),
        (NO_KEY, "", {}),
        (NO_KEY, "Aufgabe ä", {}),
        (NO_KEY, "task", {"body": 1}),
        (NO_KEY, "task", {"body64": ""}),
        (NO_KEY, "task", {"k": "1" * 32}),
        (NO_KEY, "task", {"t": "accept"}),
    ],
)
def test_what_a_scan_could_not_find_is_never_written(key: str, kind: str, fields: dict[str, Any]) -> None:
    """A key or kind that would shift the offsets, or a field that would hide a part of the frame, is refused."""
    with pytest.raises(ValueError, match="not a frame"):
        encode_frame(Frame(key, kind, fields))
