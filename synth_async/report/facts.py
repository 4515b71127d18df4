"""What the lines of a run add up to, as an object: read line by line, in memory that does not grow with the run."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from synth_async.records import Stage
from synth_async.report.duplicates import DuplicateClusters
from synth_async.report.samples import Samples, rank_of
from synth_async.report.variety import VarietySamples
from synth_async.stages.words import count_words

__all__ = ["BoundedCounter", "LengthHistogram", "RunReport", "flow_order", "short"]

_MOST_WORDS = 20_000
_TOPICS_COUNTED = 50_000
_VALUES_COUNTED = 2_000
_TOP_TOPICS = 10
_SAMPLE = 120


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

    def counts(self) -> dict[int, int]:
        """Length -> texts, the shortest first."""
        return dict(sorted(self._counts.items()))

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


def _values_counter() -> BoundedCounter:
    return BoundedCounter(_VALUES_COUNTED)


@dataclass(slots=True)
class RunReport:
    """What the lines of a run add up to."""

    accepted: int = 0
    unreadable: int = 0
    simulated: bool = False
    scores: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    score_sums: Counter[str] = field(default_factory=Counter)
    user_words: LengthHistogram = field(default_factory=LengthHistogram)
    assistant_words: LengthHistogram = field(default_factory=LengthHistogram)
    categories: BoundedCounter = field(default_factory=_values_counter)
    facets: defaultdict[str, BoundedCounter] = field(default_factory=lambda: defaultdict(_values_counter))
    topics: BoundedCounter = field(default_factory=lambda: BoundedCounter(_TOPICS_COUNTED))
    models: BoundedCounter = field(default_factory=_values_counter)
    judge_models: BoundedCounter = field(default_factory=_values_counter)
    rejected: Counter[tuple[str, str]] = field(default_factory=Counter)
    first_of: dict[tuple[str, str], str] = field(default_factory=dict)
    rejected_scores: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    safety: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    rejected_safety: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    mean_scores: Counter[tuple[bool, int]] = field(default_factory=Counter)
    """(whether accepted, mean score in quarters of a point) -> examples."""
    samples: Samples = field(default_factory=Samples)
    clusters: DuplicateClusters = field(default_factory=DuplicateClusters)
    variety: VarietySamples = field(default_factory=VarietySamples)

    def add_accepted(self, line: Mapping[str, Any], place: int = 0) -> None:  # noqa: ARG002 - as for the other file
        """A line of `dataset.jsonl`; one that a merge brought from elsewhere may say less of where it is from."""
        origin = line["metadata"]
        self.accepted += 1
        self._note_origin(origin)
        if "topic" in origin:
            self.topics.add(origin["topic"])
        if origin.get("category") is not None:
            self.categories.add(origin["category"])
        for axis, value in origin.get("facets", {}).items():
            self.facets[axis].add(value)
        for name, score in origin.get("scores", {}).items():
            self.scores[name][round(score)] += 1
            self.score_sums[name] += score
        for name, score in origin.get("safety", {}).items():
            self.safety[name][round(score)] += 1
            self.score_sums[name] += score
        self.user_words.add(_words(line["messages"], "user"))
        self.assistant_words.add(_words(line["messages"], "assistant"))
        self._note_mean(origin, accepted=True)
        rank = rank_of(str(line.get("id", "")))
        self.samples.add_accepted(rank, line)
        self.variety.add(rank, line, accepted=True)

    def add_rejected(self, line: Mapping[str, Any], place: int = 0) -> None:
        """A line of `rejects.jsonl`, and where it begins in the file."""
        reason = (line["stage"], line["reason"])
        rank = rank_of(str(line.get("id", "")))
        self.samples.add_rejected(rank, line)
        self.variety.add(rank, line, accepted=False)
        self.clusters.add(line, place)
        self._note_mean(line["metadata"], accepted=False)
        for name, score in line["metadata"].get("scores", {}).items():
            self.rejected_scores[name][round(score)] += 1
        for name, score in line["metadata"].get("safety", {}).items():
            self.rejected_safety[name][round(score)] += 1
        self._note_origin(line["metadata"])
        self.rejected[reason] += 1
        if reason not in self.first_of:
            self.first_of[reason] = _sample(line)

    def _note_mean(self, origin: Mapping[str, Any], *, accepted: bool) -> None:
        if (score := origin.get("score")) is not None:
            self.mean_scores[accepted, round(4 * score)] += 1

    def _note_origin(self, origin: Mapping[str, Any]) -> None:
        self.simulated |= origin.get("simulated", False)
        if "model" in origin:
            self.models.add(origin["model"])
        if "judge_model" in origin:
            self.judge_models.add(origin["judge_model"])

    def as_json(self) -> dict[str, Any]:
        """The report as plain values; shares are left to the reader, who has the counts."""
        return {
            "accepted": self.accepted,
            "simulated": self.simulated,
            "unreadable_lines": self.unreadable,
            "scores": self._distributions(self.scores),
            "safety": self._distributions(self.safety),
            "user_words": self.user_words.as_json(),
            "assistant_words": self.assistant_words.as_json(),
            "categories": self.categories.top(_VALUES_COUNTED),
            "facets": {axis: values.top(_VALUES_COUNTED) for axis, values in self.facets.items()},
            "topics": {
                "different": len(self.topics.counts) if self.topics.is_exact else None,
                "top": self.topics.top(_TOP_TOPICS),
            },
            "rejected": [
                {"stage": stage, "reason": reason, "count": count, "sample": self.first_of[stage, reason]}
                for (stage, reason), count in self.rejected.most_common()
            ],
            "models": self.models.top(_VALUES_COUNTED),
            "judge_models": self.judge_models.top(_VALUES_COUNTED),
        }

    def _distributions(self, scores: Mapping[str, Counter[int]]) -> dict[str, Any]:
        """Mean and histogram of each criterion."""
        return {
            name: {
                "mean": round(self.score_sums[name] / counts.total(), 4),
                "histogram": {str(score): counts[score] for score in range(1, 6)},
            }
            for name, counts in scores.items()
        }


def _words(messages: Sequence[Mapping[str, str]], role: str) -> int:
    return sum(count_words(message["content"]) for message in messages if message["role"] == role)


def _sample(line: Mapping[str, Any]) -> str:
    said = next((message["content"] for message in line.get("messages", ()) if message["role"] == "user"), "")
    return " | ".join(short(text) for text in (line["detail"], said) if text)


def short(text: str) -> str:
    """One line of at most 120 characters."""
    text = " ".join(text.split())
    return text if len(text) <= _SAMPLE else text[: _SAMPLE - 1] + "…"


def flow_order(stage: str) -> int:
    """The place of a stage in the flow; unknown ones come last."""
    return next((place for place, known in enumerate(Stage) if known == stage), len(Stage))
