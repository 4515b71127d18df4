"""Lines of a run's files, and pages made of them, for tests of the report."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from synth_async.report.follow import Follower
from synth_async.report.page import report_page
from synth_async.report.timeline import WHOLE_RUN, Timeline

METRICS: dict[str, Any] = {
    "asked": 9,
    "answered": 8,
    "parsed": 7,
    "passed": 6,
    "judged": 5,
    "accepted": 4,
    "rejected": {},
    "attempts": 20,
    "http_429": 2,
    "tokens": {"prompt": 1000, "completion": 500},
    "cost_usd": None,
    "elapsed_s": 12.5,
    "target": 10,
    "utilisation": {"main": {"requests": 0.5, "tokens": None}},
    "undecided": 0,
}


def accepted_line(
    number: int = 0, *, user: str = "Where is my invoice?", reply: str = "Open Billing.", **more: Any
) -> dict[str, Any]:
    """A line of `dataset.jsonl`; `more` goes into its metadata."""
    origin = {"topic": "refund", "category": None, "facets": {"tone": "calm"}, "sample": 0, "model": "m"}
    messages = [
        {"role": "system", "content": "Help."},
        {"role": "user", "content": user},
        {"role": "assistant", "content": reply},
    ]
    return {"id": f"{number:016x}", "messages": messages, "metadata": origin | more}


def rejected_line(number: int, reason: str = "low_score", detail: str = "2 < 4", **more: Any) -> dict[str, Any]:
    """A line of `rejects.jsonl`."""
    line = accepted_line(number, **more)
    return {"stage": "judge", "reason": reason, "detail": detail, **line}


def write_lines(path: Path, *lines: dict[str, Any]) -> Path:
    """The path, with these lines in it."""
    path.write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    return path


def followed(folder: Path, accepted: list[dict[str, Any]], rejected: list[dict[str, Any]]) -> Follower:
    """What these lines add up to."""
    follower = Follower(
        write_lines(folder / "dataset.jsonl", *accepted), write_lines(folder / "rejects.jsonl", *rejected)
    )
    follower.read_on()
    return follower


def short_timeline() -> Timeline:
    """Three seconds of a run with one endpoint, a refusal and a pause."""
    timeline = Timeline(limits={"main": {"requests": 600.0}})
    timeline.begin(0.0, {})
    for second in (1, 2, 3):
        counts = {"requests": 9 * second, "tokens": 900 * second, "http_429": second // 3, "paused_s": second // 3}
        totals = {("main", unit): count for unit, count in counts.items()}
        timeline.note(float(second), {**totals, (WHOLE_RUN, "accepted"): 4 * second})
    return timeline


def page_of(
    follower: Follower,
    *,
    manifest: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = METRICS,
    timeline: Timeline | None = None,
    name: str = "run",
    state: str = "stopped",
) -> str:
    """The page as text."""
    timeline = short_timeline() if timeline is None else timeline
    return report_page(follower, manifest or {}, metrics, timeline, name=name, state=state).decode()


class Read(HTMLParser):
    """What a browser would find in a page: the texts by the class of what they stand in, all attributes, all tags."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: dict[str, list[str]] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        name = (found.get("class") or tag).split(" ", 1)[0]
        if tag in ("p", "dd", "h1", "title", "style", "script", "code", "summary", "mark"):
            self._open.append(name)
            self.texts.setdefault(name, []).append("")

    def handle_endtag(self, tag: str) -> None:
        if self._open and tag in ("p", "dd", "h1", "title", "style", "script", "code", "summary", "mark"):
            self._open.pop()

    def handle_data(self, data: str) -> None:
        for name in self._open:
            self.texts[name][-1] += data
