"""A run over time: what was accepted, answered, charged, refused and paused, second by second while it is young.

At most 480 points, however long the run: when there are more, neighbours are put together and the step doubles, which
keeps every sum. Time is that of the run's own processes, one behind the other; when none ran, no time passed. It goes
to `timeline.json` with `metrics.json`, and what a kill takes of the one it takes of the other, two seconds at most.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

__all__ = ["MOST_POINTS", "WHOLE_RUN", "Point", "Series", "Timeline", "Totals"]

FORMAT = 1
MOST_POINTS = 480
_MOST_STARTS = 100
_STEP_S = 1.0
_DECIMALS = 3

WHOLE_RUN = ""
"""Stands for the run where a series is no single endpoint's."""

Series = tuple[str, str]
"""(endpoint or `WHOLE_RUN`, what is counted)."""

Totals = Mapping[Series, float]
"""What a process has counted up to some instant."""


@dataclass(slots=True)
class Point:
    """What was counted in `span_s` seconds up to `end_s`; what is not there was 0."""

    end_s: float
    span_s: float
    counts: dict[Series, float]

    @property
    def start_s(self) -> float:
        return self.end_s - self.span_s

    def take_in(self, later: Point) -> None:
        """Put a later point to this one."""
        self.end_s, self.span_s = later.end_s, self.span_s + later.span_s
        for series, count in later.counts.items():
            self.counts[series] = self.counts.get(series, 0) + count


@dataclass(slots=True)
class Timeline:
    """The points of a run, in order. `limits`: endpoint -> unit -> units a minute, of those that are known.

    `starts_s` is when each process of the run began, `step_s` how long a point is at least.
    """

    points: list[Point] = field(default_factory=list)
    limits: dict[str, dict[str, float]] = field(default_factory=dict)
    starts_s: list[float] = field(default_factory=list)
    step_s: float = _STEP_S
    _noted_s: float = 0.0
    _noted: dict[Series, float] = field(default_factory=dict)

    def begin(self, at_s: float, totals: Totals) -> None:
        """A process begins, `at_s` seconds into the run; it counts on from `totals`."""
        self._noted_s, self._noted = at_s, dict(totals)
        self.starts_s = [*self.starts_s, round(at_s, _DECIMALS)][-_MOST_STARTS:]

    def note(self, at_s: float, totals: Totals) -> None:
        """What has been counted by now: the difference to the last note becomes a point, or a part of the last one."""
        span_s = at_s - self._noted_s
        if span_s <= 0:
            return
        grown = {series: total - self._noted.get(series, 0) for series, total in totals.items()}
        self._add(Point(at_s, span_s, {series: count for series, count in grown.items() if count > 0}))
        self._noted_s, self._noted = at_s, dict(totals)

    def _add(self, point: Point) -> None:
        if self.points and self._belong_together(self.points[-1], point):
            self.points[-1].take_in(point)
        else:
            self.points.append(point)
        while len(self.points) > MOST_POINTS:
            self._coarsen()

    def _belong_together(self, earlier: Point, later: Point) -> bool:
        """Whether both fit into one step; a tick that comes a little late still does."""
        return later.end_s - earlier.start_s <= 1.05 * self.step_s

    def _coarsen(self) -> None:
        self.step_s *= 2
        points, self.points = self.points, []
        for point in points:
            if self.points and self._belong_together(self.points[-1], point):
                self.points[-1].take_in(point)
            else:
                self.points.append(point)

    def total(self, series: Series) -> float:
        """The sum of a series."""
        return sum(self._column(series))

    def _column(self, series: Series) -> Iterator[float]:
        return (point.counts.get(series, 0) for point in self.points)

    def series(self) -> list[Series]:
        """All that is counted anywhere, in order."""
        return sorted({series for point in self.points for series in point.counts})

    def as_json(self) -> dict[str, Any]:
        """The content of `timeline.json`, column by column."""
        columns = [
            {"endpoint": series[0], "unit": series[1], "counts": _rounded(self._column(series))}
            for series in self.series()
        ]
        return {
            "format": FORMAT,
            "step_s": self.step_s,
            "starts_s": self.starts_s,
            "end_s": _rounded(point.end_s for point in self.points),
            "span_s": _rounded(point.span_s for point in self.points),
            "series": columns,
            "limits_per_minute": self.limits,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any] | None, *, until_s: float | None = None) -> Self:
        """The timeline of an earlier process; an empty one where there is none, or none that can be read.

        One that ends after `until_s` belongs to a longer run than the other counts do, and is left alone as well.
        """
        try:
            timeline = cls._read(found) if found is not None and found["format"] == FORMAT else cls()
        except (KeyError, TypeError, ValueError, AttributeError):
            return cls()
        is_longer = until_s is not None and timeline.points and timeline.points[-1].end_s > until_s + _STEP_S
        return cls() if is_longer else timeline

    @classmethod
    def _read(cls, found: Mapping[str, Any]) -> Self:
        points = list(_points(found["end_s"], found["span_s"]))
        for column in found["series"]:
            series = (str(column["endpoint"]), str(column["unit"]))
            for point, count in zip(points, column["counts"], strict=True):
                if count:
                    point.counts[series] = count + 0
        limits = {
            str(name): {str(unit): float(limit) for unit, limit in units.items()}
            for name, units in found["limits_per_minute"].items()
        }
        starts_s = [float(start_s) for start_s in found["starts_s"]]
        return cls(points=points, limits=limits, starts_s=starts_s, step_s=max(_STEP_S, float(found["step_s"])))


def _points(ends_s: Sequence[float], spans_s: Sequence[float]) -> Iterator[Point]:
    for end_s, span_s in zip(ends_s, spans_s, strict=True):
        yield Point(float(end_s), float(span_s), {})


def _rounded(numbers: Iterable[float]) -> list[float]:
    """Whole numbers as such, others to a thousandth."""
    return [int(number) if number == int(number) else round(number, _DECIMALS) for number in numbers]
