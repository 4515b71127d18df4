"""The report of a run as plain text, and as an object: read line by line, in memory that does not grow with the run.

Works while the run runs: a last line that is not whole yet is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from synth_async.records import Stage
from synth_async.report.summary import summary_text
from synth_async.stages.words import count_words

__all__ = ["BoundedCounter", "LengthHistogram", "RunReport", "read_report", "report_text"]

_MOST_WORDS = 20_000
_TOPICS_COUNTED = 50_000
_VALUES_COUNTED = 2_000
_TOP_TOPICS = 10
_TOP_VALUES = 12
_SAMPLE = 120
_BAR = 30


class BoundedCounter:
    """Counts of at most `capacity` values. Beyond that the rarest half is forgotten, and counts become lower bounds."""

    def __init__(self, capacity: int) -> None:
        self.counts: Counter[str] = Counter()
        self.is_exact = True
        self._capacity = capacity

    def add(self, value: str) -> None:
        self.counts[value] += 1
        if len(self.counts) > self._capacity:
            self.counts = Counter(dict(self.counts.most_common(self._capacity // 2)))
            self.is_exact = False

    def top(self, number: int) -> dict[str, int]:
        """The most frequent values, ties in the order in which they came."""
        return dict(self.counts.most_common(number))


class LengthHistogram:
    """Lengths in words, exact up to 20,000; anything longer counts as that long."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, words: int) -> None:
        self._counts[min(words, _MOST_WORDS)] += 1

    def quantile(self, share: float) -> int:
        """The length that `share` of the texts do not exceed (nearest rank); 0 without any."""
        wanted = share * self._counts.total()
        seen = 0
        for length in sorted(self._counts):
            seen += self._counts[length]
            if seen >= wanted:
                return length
        return 0

    def as_json(self) -> dict[str, int]:
        return {
            name: self.quantile(share) for name, share in (("min", 0.0), ("median", 0.5), ("p90", 0.9), ("max", 1.0))
        }


@dataclass(slots=True)
class RunReport:
    """What the lines of a run add up to."""

    accepted: int = 0
    unreadable: int = 0
    simulated: bool = False
    scores: dict[str, Counter[int]] = field(default_factory=dict)
    score_sums: Counter[str] = field(default_factory=Counter)
    user_words: LengthHistogram = field(default_factory=LengthHistogram)
    assistant_words: LengthHistogram = field(default_factory=LengthHistogram)
    categories: BoundedCounter = field(default_factory=lambda: BoundedCounter(_VALUES_COUNTED))
    facets: dict[str, BoundedCounter] = field(default_factory=dict)
    topics: BoundedCounter = field(default_factory=lambda: BoundedCounter(_TOPICS_COUNTED))
    models: BoundedCounter = field(default_factory=lambda: BoundedCounter(_VALUES_COUNTED))
    judge_models: BoundedCounter = field(default_factory=lambda: BoundedCounter(_VALUES_COUNTED))
    rejected: Counter[tuple[str, str]] = field(default_factory=Counter)
    samples: dict[tuple[str, str], str] = field(default_factory=dict)

    def add_accepted(self, line: Mapping[str, Any]) -> None:
        """A line of `dataset.jsonl`."""
        origin = line["metadata"]
        self.accepted += 1
        self._note_origin(origin)
        self.topics.add(origin["topic"])
        if origin["category"] is not None:
            self.categories.add(origin["category"])
        for axis, value in origin["facets"].items():
            self.facets.setdefault(axis, BoundedCounter(_VALUES_COUNTED)).add(value)
        for name, score in origin.get("scores", {}).items():
            self.scores.setdefault(name, Counter())[round(score)] += 1
            self.score_sums[name] += score
        self.user_words.add(_words(line["messages"], "user"))
        self.assistant_words.add(_words(line["messages"], "assistant"))

    def add_rejected(self, line: Mapping[str, Any]) -> None:
        """A line of `rejects.jsonl`."""
        reason = (line["stage"], line["reason"])
        self._note_origin(line["metadata"])
        self.rejected[reason] += 1
        if reason not in self.samples:
            self.samples[reason] = _sample(line)

    def _note_origin(self, origin: Mapping[str, Any]) -> None:
        self.simulated |= origin.get("simulated", False)
        self.models.add(origin["model"])
        if "judge_model" in origin:
            self.judge_models.add(origin["judge_model"])

    def as_json(self) -> dict[str, Any]:
        """The report as plain values; shares are left to the reader, who has the counts."""
        return {
            "accepted": self.accepted,
            "simulated": self.simulated,
            "unreadable_lines": self.unreadable,
            "scores": {
                name: {
                    "mean": round(self.score_sums[name] / counts.total(), 4),
                    "histogram": {str(score): counts[score] for score in range(1, 6)},
                }
                for name, counts in self.scores.items()
            },
            "user_words": self.user_words.as_json(),
            "assistant_words": self.assistant_words.as_json(),
            "categories": self.categories.top(_VALUES_COUNTED),
            "facets": {axis: values.top(_VALUES_COUNTED) for axis, values in self.facets.items()},
            "topics": {
                "different": len(self.topics.counts) if self.topics.is_exact else None,
                "top": self.topics.top(_TOP_TOPICS),
            },
            "rejected": [
                {"stage": stage, "reason": reason, "count": count, "sample": self.samples[stage, reason]}
                for (stage, reason), count in self.rejected.most_common()
            ],
            "models": self.models.top(_VALUES_COUNTED),
            "judge_models": self.judge_models.top(_VALUES_COUNTED),
        }


def read_report(dataset: Path, rejects: Path) -> RunReport:
    """The report of the two files of a run, either of which may not be there yet."""
    report = RunReport()
    for path, add in ((dataset, report.add_accepted), (rejects, report.add_rejected)):
        for raw in _whole_lines(path):
            try:
                add(orjson.loads(raw))
            except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
                # Not a line that a run wrote: the files may have been edited.
                report.unreadable += 1
    return report


def _whole_lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from (line for line in file if line.endswith(b"\n"))
    except FileNotFoundError:
        return


def _words(messages: Sequence[Mapping[str, str]], role: str) -> int:
    return sum(count_words(message["content"]) for message in messages if message["role"] == role)


def _sample(line: Mapping[str, Any]) -> str:
    said = next((message["content"] for message in line.get("messages", ()) if message["role"] == "user"), "")
    return " | ".join(_short(text) for text in (line["detail"], said) if text)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SAMPLE else text[: _SAMPLE - 1] + "…"


# --- as text -------------------------------------------------------------------------------------


def report_text(report: RunReport, metrics: Mapping[str, Any] | None, *, name: str) -> str:
    """The report for a person, without a final line feed. Without `metrics` the funnel and the cost are left out."""
    found = report.as_json()
    if metrics is None:
        head = f"{name}: {report.accepted:,} examples accepted; no metrics.json yet"
    else:
        head = summary_text(metrics, name=name, simulated=report.simulated)
    blocks = [head, *_score_blocks(found["scores"]), _lengths(found), *_variety(report, found), *_rejections(found)]
    blocks.append("models\n" + "\n".join(_model_lines(found)))
    if report.unreadable:
        blocks.append(f"{report.unreadable:,} lines are not as a run writes them, and were left out")
    return "\n\n".join(block for block in blocks if block)


def _score_blocks(scores: Mapping[str, Any]) -> Iterator[str]:
    for name, found in scores.items():
        rows = _bars(dict(sorted(found["histogram"].items(), reverse=True)))
        yield "\n".join([f"score of accepted examples: {name}, mean {found['mean']:.2f}", *rows])


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
        rows = [f"  {count:>9,}  {_short(topic)}" for topic, count in found["topics"]["top"].items()]
        yield "\n".join([f"topics by accepted examples ({told})", *rows])


def _rejections(found: Mapping[str, Any]) -> Iterator[str]:
    if not found["rejected"]:
        return
    rows = ["dropped, by stage and reason, with the first of each"]
    for drop in sorted(found["rejected"], key=lambda drop: (_flow_order(drop["stage"]), -drop["count"])):
        rows.append(f"  {drop['stage']:<10}{drop['reason']:<24}{drop['count']:>9,}")
        if drop["sample"]:
            rows.append(f"      {drop['sample']}")
    yield "\n".join(rows)


def _flow_order(stage: str) -> int:
    return next((place for place, known in enumerate(Stage) if known == stage), len(Stage))


def _model_lines(found: Mapping[str, Any]) -> Iterator[str]:
    for title, key in (("generation", "models"), ("judge", "judge_models")):
        for model, count in found[key].items():
            yield f"  {title:<12}{model} ({count:,})"


def _bars(counts: Mapping[str, int], *, of: int | None = None) -> list[str]:
    """A row a value: its name, count, share and bar. Names are cut to what fits."""
    total = max(1, sum(counts.values()) if of is None else of)
    most = max(1, *counts.values())
    return [
        f"  {_short(value)[:30]:<30}{count:>9,}{count / total:>8.1%}  {'█' * round(_BAR * count / most)}".rstrip()
        for value, count in counts.items()
    ]
