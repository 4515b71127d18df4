"""What the search for personal data returns, and what every kind of it asks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from synth_async.records import PiiKind

__all__ = ["Finding", "Window", "is_dummy", "matches", "number_windows", "only_digits", "stands_after"]


class Finding(NamedTuple):
    """Personal data of a kind between two positions of a text."""

    start: int
    end: int
    kind: PiiKind


class Window(NamedTuple):
    """Where a long number stands, with what may belong to it on both sides. `digits` are the digits of the number."""

    start: int
    end: int
    digits: int


# Expressions that look behind themselves try every character; a run of digits and their separators is found at once.
_NUMBER = re.compile(r"\d[\d ().\-/]{4,}\d")
_SEPARATORS = " ().-/"
_FEWEST_DIGITS = 6
_BEFORE = 14
"""`RO49 AAAA 1B` may stand before the digits of an IBAN."""

_BEHIND = 10

_DUMMY_RUN = re.compile(r"1234567|7654321|0000000")
_LOOK_BACK = 40


def number_windows(text: str) -> list[Window]:
    """The places where numbers of six digits and more stand, separators between them."""
    windows: list[Window] = []
    for found in _NUMBER.finditer(text):
        digits = found.end() - found.start() - sum(map(found[0].count, _SEPARATORS))
        if digits >= _FEWEST_DIGITS:
            windows.append(Window(max(0, found.start() - _BEFORE), found.end() + _BEHIND, digits))
    return windows


def matches(pattern: re.Pattern[str], text: str, windows: Iterable[Window], *, digits: int) -> Iterator[re.Match[str]]:
    """What an expression finds in the windows that hold as many digits as it needs."""
    for window in windows:
        if window.digits >= digits:
            yield from pattern.finditer(text, window.start, window.end)


def only_digits(text: str) -> str:
    """The ASCII digits of a text."""
    return "".join(character for character in text if character in "0123456789")


def is_dummy(digits: str) -> bool:
    """Whether digits are typed and not given to anybody: two different ones at the most, or counted up or down."""
    return len(set(digits)) <= 2 or _DUMMY_RUN.search(digits) is not None


def stands_after(introduction: re.Pattern[str], text: str, position: int) -> bool:
    """Whether an expression, which ends with `$`, is found in the 40 characters before a position."""
    return introduction.search(text[max(0, position - _LOOK_BACK) : position]) is not None
