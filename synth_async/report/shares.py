"""Coverage: what each value of an axis got of the accepted examples, beside what was wished."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synth_async.report.charts import percent
from synth_async.report.facts import RunReport

__all__ = ["Axis", "Share", "coverage_axes"]

_MOST_AXES = 24
_MOST_VALUES = 600
"""On all axes together."""

_MOST_NAME = 100
_HEADROOM = 1.12
"""Bars end before the edge, so that the mark of a wish beside the longest one is seen."""


@dataclass(frozen=True, slots=True)
class Share:
    """A value of an axis. `got` and `wished` in per cent, `off` in points; bar and mark in per cent of the chart."""

    value: str
    accepted: int
    got: float
    wished: float | None
    off: float
    width: float
    wish_at: float | None
    given_up: bool


@dataclass(frozen=True, slots=True)
class Axis:
    """Category or a facet. `furthest` is the largest distance to a wish, in points; None where nothing was wished."""

    name: str
    shares: tuple[Share, ...]
    more: int
    furthest: float | None


def coverage_axes(report: RunReport, metrics: Mapping[str, Any] | None) -> list[Axis]:
    """Each axis with what was wished for it; facets without a wish with what they got."""
    wished = (metrics or {}).get("coverage", {})
    counted = {"category": report.categories, **report.facets}
    axes = [_wished_axis(name, values) for name, values in wished.items() if values]
    axes += [_counted_axis(name, each.counts) for name, each in counted.items() if name not in wished and each.counts]
    return list(_within_bounds(axes[:_MOST_AXES]))


def _within_bounds(axes: Sequence[Axis]) -> Iterator[Axis]:
    """Where there are too many values in all, an axis is cut to its part of what is left to those behind it."""
    left = _MOST_VALUES
    for number, axis in enumerate(axes):
        shown = axis.shares[: max(1, left // (len(axes) - number))]
        left -= len(shown)
        yield Axis(axis.name, shown, len(axis.shares) - len(shown), axis.furthest)


def _wished_axis(name: str, values: Mapping[str, Mapping[str, Any]]) -> Axis:
    longest = _HEADROOM * max(max(got["share"], got["wished"]) for got in values.values())
    shares = [
        _share(value, got["accepted"], got["share"], got["wished"], longest, given_up=got.get("given_up", False))
        for value, got in values.items()
    ]
    return _axis(name, shares, max(abs(share.off) for share in shares))


def _counted_axis(name: str, counts: Mapping[str, int]) -> Axis:
    total = sum(counts.values())
    longest = _HEADROOM * max(counts.values()) / total
    rows = sorted(counts.items(), key=lambda row: (-row[1], row[0]))
    return _axis(name, [_share(value, count, count / total, None, longest) for value, count in rows], None)


def _axis(name: str, shares: list[Share], furthest: float | None) -> Axis:
    return Axis(name[:_MOST_NAME], tuple(shares), 0, furthest)


def _share(
    value: str, accepted: int, got: float, wished: float | None, longest: float, *, given_up: bool = False
) -> Share:
    return Share(
        value=value[:_MOST_NAME],
        accepted=accepted,
        got=100 * got,
        wished=None if wished is None else 100 * wished,
        off=0.0 if wished is None else round(100 * (got - wished), 1),
        width=percent(got, longest),
        wish_at=None if wished is None else percent(wished, longest),
        given_up=given_up,
    )
