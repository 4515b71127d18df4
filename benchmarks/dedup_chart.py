"""The tables and the chart of `dedup.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

__all__ = ["Accuracy", "Speed", "accuracy_table", "chart", "speed_table", "steps_table", "written_into"]

_BEGIN, _END = "<!-- tables of dedup.py -->", "<!-- end of the tables of dedup.py -->"
_WIDTH, _LEFT, _RIGHT, _HEAD, _ROW = 840, 250, 96, 84, 26
_STEPS = ("normalise", "exact hash", "signature", "sketch", "candidates", "verify", "find", "add")
_STYLE = """
svg { --ground: #ffffff; --ink: #1f2328; --soft: #59636e; background: var(--ground); font: 13px system-ui, sans-serif; }
@media (prefers-color-scheme: dark) { svg { --ground: #0d1117; --ink: #e6edf3; --soft: #9198a1; } }
text { fill: var(--ink); }
.soft { fill: var(--soft); }
.title { font-size: 17px; font-weight: 600; }
"""
_COLOURS = dict(
    zip(_STEPS, ("#8c959f", "#57606a", "#0a66c2", "#0a66c2", "#1a7f37", "#bc4c00", "#bc4c00", "#8250df"), strict=True)
)


@dataclass(frozen=True, slots=True)
class Speed:
    """One method at one size. Steps are CPU microseconds a document, memory is None where it was too little to tell."""

    method: str
    documents: int
    kept: int
    documents_per_s: float
    steps_us: dict[str, float]
    find_p99_ms: float
    add_p99_ms: float
    longest_ms: float
    bytes_per_kept: float | None


@dataclass(frozen=True, slots=True)
class Accuracy:
    """One method on one set; shares from 0 to 1."""

    set_name: str
    method: str
    documents: int
    dropped: int
    recall: float
    precision: float
    of_naive: float


def speed_table(rows: Sequence[Speed]) -> str:
    """Documents per second, memory, and how long a single call takes."""
    head = ["documents", "kept", "docs/s", "bytes/kept", "find p99 ms", "add p99 ms", "longest ms"]
    return _table(
        ["method", *head],
        [
            [
                row.method,
                f"{row.documents:,}",
                f"{row.kept:,}",
                f"{row.documents_per_s:,.0f}",
                "-" if row.bytes_per_kept is None else f"{row.bytes_per_kept:,.0f}",
                f"{row.find_p99_ms:.2f}",
                f"{row.add_p99_ms:.2f}",
                f"{row.longest_ms:.1f}",
            ]
            for row in rows
        ],
    )


def steps_table(rows: Sequence[Speed]) -> str:
    """CPU microseconds per document by step."""
    steps = [step for step in _STEPS if any(step in row.steps_us for row in rows)]
    return _table(
        ["CPU µs per document", "documents", *steps],
        [[row.method, f"{row.documents:,}", *(f"{row.steps_us.get(step, 0):.0f}" for step in steps)] for row in rows],
    )


def accuracy_table(rows: Sequence[Accuracy]) -> str:
    """Recall, precision, and how much of the naive pass's drops is dropped."""
    return _table(
        ["set", "method", "documents", "dropped", "recall", "precision", "naive's"],
        [
            [
                row.set_name,
                row.method,
                f"{row.documents:,}",
                f"{row.dropped:,}",
                f"{row.recall:.3f}",
                f"{row.precision:.3f}",
                f"{row.of_naive:.3f}",
            ]
            for row in rows
        ],
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    words = 1 + (head[1] == "method")
    rule = "|".join(["---"] * words + ["---:"] * (len(head) - words))
    return "\n".join([f"| {' | '.join(head)} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in rows)])


def written_into(readme: Path, tables: str) -> None:
    """Put the tables between their marks."""
    text = readme.read_text(encoding="utf-8")
    before, rest = text.split(_BEGIN)
    _, after = rest.split(_END)
    readme.write_text(f"{before}{_BEGIN}\n{tables}\n\n{_END}{after}", encoding="utf-8")


def chart(rows: Sequence[Speed]) -> str:
    """CPU per document by step as an SVG; a bar that is too long for the scale ends in its figure."""
    height = _HEAD + _ROW * len(rows) + 20
    longest_us = max(sum(row.steps_us.values()) for row in rows if row.method.startswith("ours"))
    title = "Near-duplicate search: CPU per document"
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{title}">',
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="16" y="28">{title}</text>',
        *_legend([step for step in _STEPS if any(step in row.steps_us for row in rows)]),
    ]
    for number, row in enumerate(rows):
        parts += _bar(row, _HEAD + _ROW * number, (_WIDTH - _LEFT - _RIGHT) / longest_us)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend(steps: Sequence[str]) -> list[str]:
    parts, x = [], 16
    for step in steps:
        parts.append(f'<rect x="{x}" y="46" width="12" height="12" fill="{_COLOURS[step]}"/>')
        parts.append(f'<text class="soft" x="{x + 17}" y="57">{step}</text>')
        x += 32 + 8 * len(step)
    return parts


def _bar(row: Speed, top: float, scale: float) -> list[str]:
    label = f"{escape(row.method)}, {row.documents:,}"
    parts = [f'<text x="{_LEFT - 10}" y="{top + 14}" text-anchor="end">{label}</text>']
    x, end = float(_LEFT), _WIDTH - _RIGHT
    for step, spent_us in sorted(row.steps_us.items(), key=lambda step: _STEPS.index(step[0])):
        width = min(spent_us * scale, end - x)
        parts.append(f'<rect x="{x:.1f}" y="{top}" width="{width:.1f}" height="18" fill="{_COLOURS[step]}"/>')
        x += width
    total = sum(row.steps_us.values())
    figure = f"{total / 1000:,.1f} ms" if total >= 10_000 else f"{total:,.0f} µs"
    return [*parts, f'<text class="soft" x="{x + 6:.1f}" y="{top + 14}">{figure}</text>']
