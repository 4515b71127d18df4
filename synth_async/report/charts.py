"""The numbers behind the charts of the page: round ticks, bins, and paths in a box of 1000 by 100.

Sizes are percentages and the box is stretched, so a chart is as wide as the screen and its words stay readable.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = [
    "BOX_HEIGHT",
    "BOX_WIDTH",
    "Bin",
    "Tick",
    "bins_of",
    "paths",
    "percent",
    "round_ticks",
    "short_number",
    "time_ticks",
]

BOX_WIDTH, BOX_HEIGHT = 1000, 100
_MOST_BINS = 32
_BIN_SHARE = 0.995
_TIME_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 180, 300, 600, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_TIME_TICKS = 5

XY = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Tick:
    """A label, and where it stands, in per cent of the axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Bin:
    """A bar of a histogram: values from `low` to `high`, both included; sizes in per cent of the chart."""

    low: int
    high: int
    count: int
    x: float
    width: float
    height: float


def percent(part: float, whole: float) -> float:
    """Per cent, 0-100, with two decimals; 0 of nothing."""
    return round(100 * min(1.0, max(0.0, part / whole)), 2) if whole > 0 else 0.0


def short_number(number: float) -> str:
    """Such as `950`, `1.2k`, `34M`: three digits at the most, and no more than are there."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def round_ticks(highest: float) -> list[float]:
    """Round values from 0 to at most `highest`, four to eight of them."""
    raw = max(highest / 5, sys.float_info.min)  # a rate may be so small that its fifth is 0
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    return [step * number for number in range(int(highest / step + 1e-9) + 1)]


def time_ticks(start_s: float, end_s: float) -> list[Tick]:
    """At most six round instants between two, both in seconds of the run."""
    span_s = max(end_s - start_s, 1e-9)
    step_s = next((step for step in _TIME_STEPS_S if span_s / step <= _TIME_TICKS), None)
    if step_s is None:
        step_s = 86400 * math.ceil(span_s / _TIME_TICKS / 86400)
    first = math.ceil(start_s / step_s - 1e-9)
    instants = [step_s * number for number in range(first, int(end_s / step_s + 1e-9) + 1)]
    return [Tick(percent(instant - start_s, span_s), _instant(instant, step_s)) for instant in instants]


def _instant(seconds: int, step_s: int) -> str:
    if step_s >= 86400:
        return f"{seconds // 86400} d"
    hours, minutes, rest = seconds // 3600, seconds % 3600 // 60, seconds % 60
    if step_s >= 60:
        return f"{hours} h {minutes:02d}" if hours and minutes else f"{hours} h" if hours else f"{minutes} min"
    return f"{minutes + 60 * hours}:{rest:02d}" if seconds >= 60 else f"{rest} s"


def bins_of(counts: Mapping[int, int]) -> list[Bin]:
    """At most 32 bins of one width over the values; the largest half per cent is in the last one."""
    if not counts:
        return []
    low, top = min(counts), _reached_by(counts, _BIN_SHARE)
    width = max(1, math.ceil((top - low + 1) / _MOST_BINS))
    number = (top - low) // width + 1
    sums = [0] * number
    for value, count in counts.items():
        sums[min(number - 1, (value - low) // width)] += count
    each, most = 100 / number, max(sums)
    last = max(counts)
    return [
        Bin(
            low=low + index * width,
            high=last if index == number - 1 else low + (index + 1) * width - 1,
            count=count,
            x=round(index * each, 3),
            width=round(0.86 * each, 3),
            height=percent(count, most),
        )
        for index, count in enumerate(sums)
    ]


def _reached_by(counts: Mapping[int, int], share: float) -> int:
    """The value that this share of all does not exceed."""
    wanted, seen = share * sum(counts.values()), 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= wanted:
            return value
    return max(counts)


def paths(lines: Sequence[Sequence[XY]]) -> tuple[str, str]:
    """The `d` of a line, and of the area below it; points are (per cent from the left, per cent of the height).

    Each of `lines` is drawn by itself: between them there is nothing.
    """
    drawn = [
        [(_number(x * BOX_WIDTH / 100), _number(BOX_HEIGHT - y * BOX_HEIGHT / 100)) for x, y in line]
        for line in lines
        if line
    ]
    line = "".join("M" + "L".join(f"{x} {y}" for x, y in points) for points in drawn)
    area = "".join(
        f"M{points[0][0]} {BOX_HEIGHT}L" + "L".join(f"{x} {y}" for x, y in points) + f"L{points[-1][0]} {BOX_HEIGHT}Z"
        for points in drawn
    )
    return line, area


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
