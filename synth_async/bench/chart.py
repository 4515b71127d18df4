"""Throughput over time against the limit, as an SVG that needs nothing else, or as an HTML page around it.

One panel for each endpoint and unit: what was accepted per second, and the limit as a dashed line. Colours follow the
reader's light or dark scheme.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from synth_async.bench.measures import AMOUNTS, whole_seconds
from synth_async.bench.results import BenchResult, EndpointResult
from synth_async.report.charts import round_ticks

__all__ = ["Panel", "chart_html", "chart_svg", "panels_of"]

_WIDTH = 840
_PANEL_HEIGHT = 250
_HEAD = 64
_LEFT, _RIGHT, _TOP, _FLOOR = 72, 24, 40, 206
_MOST_POINTS = 400
_HEADROOM = 1.15

_STYLE = """
svg { --ground: #ffffff; --ink: #1f2328; --soft: #59636e; --grid: #d8dee4; --line: #0a66c2; --limit: #b42318;
  background: var(--ground); font: 13px system-ui, sans-serif; }
@media (prefers-color-scheme: dark) {
  svg { --ground: #0d1117; --ink: #e6edf3; --soft: #9198a1; --grid: #30363d; --line: #58a6ff; --limit: #ff7b72; }
}
text { fill: var(--ink); }
.soft { fill: var(--soft); }
.title { font-size: 17px; font-weight: 600; }
.panel { font-weight: 600; }
.grid { stroke: var(--grid); stroke-width: 1; }
.line { fill: none; stroke: var(--line); stroke-width: 2; stroke-linejoin: round; }
.area { fill: var(--line); opacity: 0.12; }
.limit { stroke: var(--limit); stroke-width: 1.5; stroke-dasharray: 6 4; }
.limit-label { fill: var(--limit); stroke: var(--ground); stroke-width: 4; paint-order: stroke; }
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<style>body {{ margin: 24px; }} svg {{ max-width: 100%; height: auto; }} pre {{ overflow-x: auto; }}</style></head>
<body>
{svg}
<pre>{table}</pre>
</body></html>
"""


@dataclass(frozen=True, slots=True)
class Panel:
    """One line over time: points are (seconds, units per second); the limit is per second, None where there is none."""

    title: str
    unit: str
    points: tuple[tuple[float, float], ...]
    limit: float | None


def panels_of(result: BenchResult) -> list[Panel]:
    """Requests of each endpoint, and tokens where they are limited."""
    panels = []
    for one in result.endpoints:
        panels.append(_panel(one, "requests", "requests/s"))
        if "tokens" in one.limits_per_minute:
            panels.append(_panel(one, "tokens", f"tokens/s ({one.token_unit})"))
    return panels


def _panel(one: EndpointResult, unit: str, label: str) -> Panel:
    amount = AMOUNTS[unit]
    points = [(each.start_s + 0.5, float(amount(each))) for each in whole_seconds(one.seconds, one.sending_s)]
    limit = one.limits_per_minute.get(unit)
    return Panel(f"{one.name}: accepted {label}", unit, _thinned(points), None if limit is None else limit / 60)


def _thinned(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """At most 400 points, each the mean of as many seconds."""
    size = max(1, math.ceil(len(points) / _MOST_POINTS))
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return tuple((sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups)


def chart_svg(panels: Sequence[Panel], *, title: str, simulated: bool) -> str:
    """The whole chart as an SVG document."""
    height = _HEAD + _PANEL_HEIGHT * max(1, len(panels))
    kind = "simulated endpoint: no model was asked" if simulated else "real endpoint"
    longest_s = max((panel.points[-1][0] + 0.5 for panel in panels if panel.points), default=1.0)
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{_text(title)}">',
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="{_LEFT}" y="28">{_text(title)}</text>',
        f'<text class="soft" x="{_LEFT}" y="48">{_text(kind)}</text>',
    ]
    for number, panel in enumerate(panels):
        parts.append(f'<g transform="translate(0 {_HEAD + number * _PANEL_HEIGHT})">')
        parts += _drawn(panel, longest_s)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def chart_html(svg: str, *, title: str, table: str) -> str:
    """A page with the chart and the table; it asks for nothing from anywhere."""
    return _PAGE.format(title=_text(title), svg=svg, table=_text(table))


def _text(text: str) -> str:
    """Escaped, without characters that XML cannot hold."""
    return escape("".join(sign if sign.isprintable() or sign in "\n\t" else " " for sign in text))


@dataclass(frozen=True, slots=True)
class _Axes:
    """Seconds and values -> pixels of a panel."""

    longest_s: float
    highest: float

    def x(self, seconds: float) -> float:
        return round(_LEFT + (_WIDTH - _RIGHT - _LEFT) * seconds / self.longest_s, 1)

    def y(self, value: float) -> float:
        return round(_FLOOR - (_FLOOR - _TOP) * value / self.highest, 1)


def _drawn(panel: Panel, longest_s: float) -> list[str]:
    highest = max([value for _, value in panel.points] + [panel.limit or 0.0]) * _HEADROOM or 1.0
    axes = _Axes(longest_s, highest)
    title = f'<text class="panel" x="{_LEFT}" y="22">{_text(panel.title)}</text>'
    return [title, *_grid(axes), *_line(panel, axes), *_limit(panel, axes)]


def _grid(axes: _Axes) -> list[str]:
    right = _WIDTH - _RIGHT
    parts = [f'<text class="soft" x="{right}" y="{_FLOOR + 36}" text-anchor="end">seconds from the begin</text>']
    for value in round_ticks(axes.highest):
        at = axes.y(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text class="soft" x="{_LEFT - 8}" y="{at + 4}" text-anchor="end">{value:,.10g}</text>')
    parts += [
        f'<text class="soft" x="{axes.x(value)}" y="{_FLOOR + 18}" text-anchor="middle">{value:,.10g}</text>'
        for value in round_ticks(axes.longest_s)
    ]
    return parts


def _line(panel: Panel, axes: _Axes) -> list[str]:
    if not panel.points:
        return []
    points = " ".join(f"{axes.x(seconds)},{axes.y(value)}" for seconds, value in panel.points)
    first, last = axes.x(panel.points[0][0]), axes.x(panel.points[-1][0])
    return [
        f'<polygon class="area" points="{first},{_FLOOR} {points} {last},{_FLOOR}"/>',
        f'<polyline class="line" points="{points}"/>',
    ]


def _limit(panel: Panel, axes: _Axes) -> list[str]:
    if panel.limit is None:
        return []
    at, right = axes.y(panel.limit), _WIDTH - _RIGHT
    return [
        f'<line class="limit" x1="{_LEFT}" x2="{right}" y1="{at}" y2="{at}"/>',
        f'<text class="limit-label" x="{right}" y="{at - 6}" text-anchor="end">limit {panel.limit:,.10g}/s</text>',
    ]
