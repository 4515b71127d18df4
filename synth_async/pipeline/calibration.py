"""Calibration: the judge held against what people said about the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from synth_async.config.models import Config, Judge
from synth_async.dataset.judged_rows import HumanScores, human_scores
from synth_async.errors import UsageError
from synth_async.records import Verdict
from synth_async.stages.agreement import agreement, best_cut, cut_at
from synth_async.stages.conversations import UnreadableRow

__all__ = ["Calibration"]

OVERALL = "score"
"""The line of the report for the score of the whole; no criterion is named so."""

_KEPT = 1000


class Calibration:
    """Pairs of people's scores and the judge's, by criterion and for the whole; told of each row with `note`.

    A row is accepted where its label says so, or where a person's score of the whole reaches `min_score`: the one that
    is given, else the weighted mean of those by criterion.
    """

    def __init__(self, config: Config) -> None:
        if config.judge is None:
            raise UsageError("judge is null: there is no rubric to calibrate")
        self.unlabelled: list[tuple[int, str]] = []
        self.unlabelled_count = 0
        self._judge: Judge = config.judge
        self._pairs: dict[str, list[tuple[float, float]]] = {OVERALL: []}
        self._decided: list[tuple[float, bool]] = []

    def note(self, number: int, row: Mapping[str, Any], verdict: Verdict) -> None:
        """A row with its verdict."""
        try:
            human = human_scores(row)
        except UnreadableRow as problem:
            self.unlabelled_count += 1
            self.unlabelled += [(number, str(problem))] if len(self.unlabelled) < _KEPT else []
            return
        for name, score in {**verdict.scores, **verdict.safety}.items():
            if name in human.scores:
                self._pairs.setdefault(name, []).append((human.scores[name], score))
        whole = self._whole(human)
        if whole is not None:
            self._pairs[OVERALL].append((whole, verdict.score))
        accepted = human.accepted if whole is None or human.accepted is not None else whole >= self._judge.min_score
        if accepted is not None:
            self._decided.append((verdict.score, accepted))

    def report(self) -> dict[str, Any]:
        """`{"agreement": {criterion: ...}, "now": cut | None, "suggested": cut | None}`; raises `UsageError`."""
        if not self._decided and not any(self._pairs.values()):
            raise UsageError("no judged row has a person's scores, score or accepted: there is nothing to compare")
        suggested = best_cut(self._decided, now=self._judge.min_score)
        now = cut_at(self._judge.min_score, self._decided) if self._decided else None
        return {
            "agreement": {name: asdict(agreement(pairs)) for name, pairs in self._pairs.items() if pairs},
            "now": None if now is None else asdict(now),
            "suggested": None if suggested is None else asdict(suggested),
        }

    def _whole(self, human: HumanScores) -> float | None:
        if human.score is not None:
            return human.score
        counted = [each for each in self._judge.criteria if not each.safety]
        if not all(each.name in human.scores for each in counted):
            return None
        return sum(each.weight * human.scores[each.name] for each in counted) / sum(each.weight for each in counted)
