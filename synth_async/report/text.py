"""The report of a run as plain text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from synth_async.report.facts import RunReport, flow_order, short
from synth_async.report.summary import summary_text

__all__ = ["report_text"]

_TOPICS_COUNTED = 50_000
_TOP_VALUES = 12
_BAR = 30


def report_text(report: RunReport, metrics: Mapping[str, Any] | None, *, name: str) -> str:
    """The report for a person, without a final line feed. Without `metrics` the funnel and the cost are left out."""
    found = report.as_json()
    if metrics is None:
        head = f"{name}: {report.accepted:,} examples accepted; no metrics.json yet"
    else:
        head = summary_text(metrics, name=name, simulated=report.simulated)
    blocks = [head, *_score_blocks(found), _lengths(found), *_variety(report, found), *_rejections(found)]
    blocks.append("models\n" + "\n".join(_model_lines(found)))
    if report.unreadable:
        blocks.append(f"{report.unreadable:,} lines are not as a run writes them, and were left out")
    return "\n\n".join(block for block in blocks if block)


def _score_blocks(found: Mapping[str, Any]) -> Iterator[str]:
    for title, criteria in (("score", found["scores"]), ("safety", found["safety"])):
        for name, scores in criteria.items():
            rows = _bars(dict(sorted(scores["histogram"].items(), reverse=True)))
            yield "\n".join([f"{title} of accepted examples: {name}, mean {scores['mean']:.2f}", *rows])


def _lengths(found: Mapping[str, Any]) -> str:
    if not found["accepted"]:
        return ""
    rows = ["words in accepted examples      min   median      p90      max"]
    for title, key in (("user", "user_words"), ("assistant", "assistant_words")):
        rows.append(f"  {title:<24}" + "".join(f"{words:>9,}" for words in found[key].values()))
    return "\n".join(rows)


def _variety(report: RunReport, found: Mapping[str, Any]) -> Iterator[str]:
    groups = {"category": report.categories, **{f"facet {axis}": values for axis, values in report.facets.items()}}
    for title, values in groups.items():
        if values.counts:
            more = len(values.counts) - _TOP_VALUES
            rows = _bars(values.top(_TOP_VALUES), of=values.counts.total())
            yield "\n".join([title, *rows, *([f"  and {more:,} more"] if more > 0 else [])])
    if found["topics"]["top"]:
        different = found["topics"]["different"]
        told = (
            f"{different:,} different" if different is not None else f"more than {_TOPICS_COUNTED:,}, counts at least"
        )
        rows = [f"  {count:>9,}  {short(topic)}" for topic, count in found["topics"]["top"].items()]
        yield "\n".join([f"topics by accepted examples ({told})", *rows])


def _rejections(found: Mapping[str, Any]) -> Iterator[str]:
    if not found["rejected"]:
        return
    rows = ["dropped, by stage and reason, with the first of each"]
    for drop in sorted(found["rejected"], key=lambda drop: (flow_order(drop["stage"]), -drop["count"])):
        rows.append(f"  {drop['stage']:<10}{drop['reason']:<24}{drop['count']:>9,}")
        if drop["sample"]:
            rows.append(f"      {drop['sample']}")
    yield "\n".join(rows)


def _model_lines(found: Mapping[str, Any]) -> Iterator[str]:
    for title, key in (("generation", "models"), ("judge", "judge_models")):
        for model, count in found[key].items():
            yield f"  {title:<12}{model} ({count:,})"


def _bars(counts: Mapping[str, int], *, of: int | None = None) -> list[str]:
    """A row a value: its name, count, share and bar. Names are cut to what fits."""
    total = max(1, sum(counts.values()) if of is None else of)
    most = max(1, *counts.values())
    return [
        f"  {short(value)[:30]:<30}{count:>9,}{count / total:>8.1%}  {'█' * round(_BAR * count / most)}".rstrip()
        for value, count in counts.items()
    ]
