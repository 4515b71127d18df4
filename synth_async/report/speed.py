"""The charts of a run over time: what was done a minute, the limit, and where refusals and pauses were."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from synth_async.report.charts import Tick, paths, percent, round_ticks, short_number, time_ticks
from synth_async.report.timeline import WHOLE_RUN, Point, Series, Timeline

__all__ = ["Mark", "Panel", "panels_of", "thinned"]

_MOST_DRAWN = 160
_MOST_ENDPOINTS = 12
_MOST_NAME = 100
_FAR = 4.0
"""A limit so many times above all that was reached is told and not drawn: the line would lie on the floor."""

_GAP_S = 5.0
_UNITS = {"accepted": "accepted examples", "requests": "requests", "tokens": "tokens as they are charged,"}


@dataclass(frozen=True, slots=True)
class Mark:
    """A stretch of time in which something happened, in per cent of the axis; `count` says how much of it.

    A pause is as wide as it was long, a refusal as the point of the chart that it is in.
    """

    x: float
    width: float
    count: float


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart. `readings` are (per cent from the left, seconds of the run, units a minute) for a pointer."""

    title: str
    unit: str
    line: str
    area: str
    readings: tuple[tuple[float, float, float], ...]
    y_ticks: tuple[Tick, ...]
    x_ticks: tuple[Tick, ...]
    mean: float
    peak: float
    limit: float | None
    limit_at: float | None
    refused: tuple[Mark, ...]
    paused: tuple[Mark, ...]
    http_429: int
    paused_s: float


def panels_of(timeline: Timeline) -> list[Panel]:
    """What was accepted, and the requests and tokens of each endpoint that answered; none while nothing was noted."""
    points = thinned(timeline.points)
    if not points:
        return []
    known = timeline.series()
    endpoints = sorted({endpoint for endpoint, _ in known} - {WHOLE_RUN})[:_MOST_ENDPOINTS]
    wanted = [(WHOLE_RUN, "accepted"), *((name, unit) for name in endpoints for unit in ("requests", "tokens"))]
    return [_panel(timeline, points, series) for series in wanted if series in known or series[0] == WHOLE_RUN]


def thinned(points: Sequence[Point]) -> list[Point]:
    """At most 160 points; neighbours are put together, which keeps every sum."""
    size = max(1, math.ceil(len(points) / _MOST_DRAWN))
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    found = []
    for group in groups:
        whole = Point(group[0].end_s, group[0].span_s, dict(group[0].counts))
        for point in group[1:]:
            whole.take_in(point)
        found.append(whole)
    return found


def _panel(timeline: Timeline, points: Sequence[Point], series: Series) -> Panel:
    endpoint, unit = series
    start_s, end_s = points[0].start_s, points[-1].end_s
    rates = [60 * point.counts.get(series, 0) / point.span_s for point in points]
    limit = timeline.limits.get(endpoint, {}).get(unit)
    peak = max(rates)
    is_drawn = limit is not None and limit <= _FAR * peak
    highest = max(peak, limit if limit is not None and is_drawn else 0.0, 1e-9) * 1.08
    at = [percent(point.end_s - point.span_s / 2 - start_s, end_s - start_s) for point in points]
    heights = [percent(rate, highest) for rate in rates]
    line, area = paths(_stretches(points, list(zip(at, heights, strict=True))))
    busy_s = sum(point.span_s for point in points)
    return Panel(
        title=endpoint[:_MOST_NAME] or "Whole run",
        unit=_UNITS[unit],
        line=line,
        area=area,
        readings=tuple(
            (x, round(point.end_s - point.span_s / 2, 1), round(rate, 1))
            for x, point, rate in zip(at, points, rates, strict=True)
        ),
        y_ticks=tuple(Tick(percent(value, highest), short_number(value)) for value in round_ticks(highest)[1:]),
        x_ticks=tuple(time_ticks(start_s, end_s)),
        mean=60 * timeline.total(series) / busy_s,
        peak=peak,
        limit=limit,
        limit_at=percent(limit, highest) if limit is not None and is_drawn else None,
        refused=tuple(_marks(points, (endpoint, "http_429"))),
        paused=tuple(_marks(points, (endpoint, "paused_s"))),
        http_429=round(timeline.total((endpoint, "http_429"))),
        paused_s=timeline.total((endpoint, "paused_s")),
    )


def _stretches(points: Sequence[Point], drawn: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """What is drawn in one line: it breaks where nothing was noted for a while."""
    found = [[drawn[0]]]
    for (earlier, later), xy in zip(pairwise(points), drawn[1:], strict=True):
        if later.start_s - earlier.end_s > _GAP_S:
            found.append([])
        found[-1].append(xy)
    return found


def _marks(points: Sequence[Point], series: Series) -> Iterator[Mark]:
    start_s, length_s = points[0].start_s, points[-1].end_s - points[0].start_s
    for point in points:
        if (count := point.counts.get(series, 0)) > 0:
            long_s = min(count, point.span_s) if series[1] == "paused_s" else point.span_s
            yield Mark(percent(point.start_s - start_s, length_s), percent(long_s, length_s), count)
