"""Coverage: which values of which axes are short of their wished share of the target, and which have had enough.

An axis is `category` or a facet; its wishes are the shares of its values. What counts is the accepted examples: by the
value that was asked for, or by the one that the judge observed where it labels the axis. A value is *open* while the
accepted ones, those that the tasks under way will probably bring, and those that come by the way are short of its
share: the planner draws open values only. By the way come those that a model writes although another value was asked
for; what it writes anyway is asked for less. An example does not get in (`over_share`), and is kept for a higher
target, where its value would end further than the tolerance above its share, or where the examples that are left to
accept would no longer do for all other values to end within the tolerance below theirs.

A value that the model does not deliver must not hold the run up: after 200 tasks that asked for it and brought next to
nothing it is given up, its share goes to the others, and the report says so.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from synth_async.config.models import Config
from synth_async.records import Drop, DropReason, Stage
from synth_async.stages.balance import shares_of

__all__ = ["CATEGORY", "Coverage", "Labels", "Standing"]

CATEGORY = "category"

Labels = Mapping[str, str | None]
"""Axis -> value of one example."""

PATIENCE = 200
"""Tasks that ask for a value before it can be given up."""

_ENOUGH_TRIED = 20
_GIVE_UP_SHARE = 0.02
_LEAST_SLACK = 2
_ROUNDING = 1e-9
_PRIOR = 10
"""Tasks at the general yield that a value's own yield starts from."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One value of an axis: the share of the accepted examples that was wished and the number that there is."""

    axis: str
    value: str
    wished: float
    accepted: int
    given_up: bool


@dataclass(slots=True)
class _Value:
    wish: float
    accepted: int = 0
    outstanding: int = 0
    given_up: bool = False
    decided: int = 0
    brought: Counter[str] = field(default_factory=Counter)
    """Other values that tasks which asked for this one brought accepted examples of."""
    recent: deque[bool] = field(default_factory=lambda: deque(maxlen=PATIENCE))
    """Of the last tasks that asked for the value, which brought an accepted example of it."""
    recent_got: int = 0

    def own_yield(self, general_yield: float) -> float:
        """Share of the tasks asking for the value that bring it, as far as that is known."""
        return (self.recent_got + _PRIOR * general_yield) / (len(self.recent) + _PRIOR)

    def expected(self, general_yield: float) -> float:
        """What the tasks under way that ask for the value will probably bring."""
        return self.outstanding * self.own_yield(general_yield)

    def note_asked(self, *, got: bool) -> None:
        """A task that asked for the value was decided."""
        self.decided += 1
        if len(self.recent) == PATIENCE:
            self.recent_got -= self.recent[0]
        self.recent.append(got)
        self.recent_got += got


class Coverage:
    """What was wished, issued and accepted of each value. Restored by telling it of earlier decisions in order."""

    def __init__(self, config: Config) -> None:
        self._target = config.target
        self._accepted = 0
        self._tolerance = config.coverage.tolerance if config.coverage else 0.0
        self._axes: dict[str, dict[str, _Value]] = {}
        self._holds_categories = config.coverage is not None and config.coverage.includes(CATEGORY)
        self._observed = frozenset(config.judge.labels if config.judge else ())
        if config.coverage is not None:
            for axis, facet in config.facets.items():
                # Where weights depend on other facets there is no one share to hold a value to.
                if not facet.when and config.coverage.includes(axis):
                    self._wish(axis, facet.values)
            self.wish_categories(config.topics.category_weights)

    def __repr__(self) -> str:
        short = {axis: len(open_values) for axis in self._axes if (open_values := self.open_values(axis, 1.0))}
        return f"<Coverage open={short}>"

    def wish_categories(self, weights: Mapping[str, float]) -> None:
        """The categories and their weights, as soon as they are known."""
        if self._holds_categories and len(weights) > 1:
            self._wish(CATEGORY, weights)

    def _wish(self, axis: str, weights: Mapping[str, float]) -> None:
        self._axes[axis] = {value: _Value(share) for value, share in shares_of(weights).items()}

    # --- what happened ---------------------------------------------------------------------------

    def note_issued(self, asked: Labels) -> None:
        """A task that asks for these values goes under way."""
        for value in self._values(asked):
            value.outstanding += 1

    def note_ended(self, asked: Labels) -> None:
        """A task under way came to its end."""
        for value in self._values(asked):
            value.outstanding -= 1

    def note_decided(self, asked: Labels, observed: Labels, *, accepted: bool) -> None:
        """A task was decided; `observed` are the judge's labels, which count in place of what was asked for."""
        counted = self.counted(asked, observed)
        self._accepted += accepted
        for axis, values in self._axes.items():
            name = counted.get(axis) or ""
            got = values.get(name)
            if accepted and got is not None:
                got.accepted += 1
            wanted = values.get(asked.get(axis) or "")
            if wanted is not None:
                wanted.note_asked(got=accepted and wanted is got)
                if accepted and got is not None and wanted is not got:
                    wanted.brought[name] += 1
                self._give_up_if_hopeless(axis, wanted)

    def counted(self, asked: Labels, observed: Labels) -> dict[str, str | None]:
        """The labels that an example counts under."""
        return {**asked, **{axis: value for axis, value in observed.items() if axis in self._observed}}

    def give_up(self, axis: str, value: str) -> None:
        """A value cannot be had: the others take its share."""
        if (found := self._axes.get(axis, {}).get(value)) is not None:
            found.given_up = True

    def _give_up_if_hopeless(self, axis: str, value: _Value) -> None:
        tried = len(value.recent)
        others_deliver = any(not other.given_up for other in self._axes[axis].values() if other is not value)
        if tried == PATIENCE and value.recent_got < _GIVE_UP_SHARE * tried and others_deliver:
            value.given_up = True

    # --- what to do ------------------------------------------------------------------------------

    def open_values(self, axis: str, general_yield: float) -> frozenset[str] | None:
        """Values of an axis that are short of their share; None where nothing is wished of the axis."""
        values = self._axes.get(axis)
        if values is None:
            return None
        scale = self._scale(values)
        short = {
            name: value.wish * scale * self._target - value.accepted - value.expected(general_yield)
            for name, value in values.items()
            if not value.given_up
        }
        by_the_way = _by_the_way(values, short, general_yield)
        return frozenset(name for name, missing in short.items() if missing - by_the_way[name] > _ROUNDING)

    def wanted(self, general_yield: float) -> dict[str, frozenset[str]]:
        """The open values of every axis that has wishes."""
        return {axis: self.open_values(axis, general_yield) or frozenset() for axis in self._axes}

    def missing(self, axis: str, value: str) -> float:
        """Accepted examples that a value is short of, without what is under way; 0 where it is given up or unknown."""
        found = self._axes.get(axis, {}).get(value)
        if found is None or found.given_up:
            return 0.0
        return max(0.0, found.wish * self._scale(self._axes[axis]) * self._target - found.accepted)

    def hard_to_get(self, general_yield: float) -> list[str]:
        """Values that tasks ask for and the model seldom delivers: fewer than half as often as others come."""
        return [
            name
            for values in self._axes.values()
            for name, value in values.items()
            if len(value.recent) >= _ENOUGH_TRIED
            and not value.given_up
            and value.recent_got < general_yield * len(value.recent) / 2
        ]

    def over_share(self, counted: Labels) -> Drop | None:
        """Why an example of these labels would go beyond what its values may have, or None."""
        for axis, values in self._axes.items():
            name = counted.get(axis) or ""
            if (value := values.get(name)) is not None and not self._has_room(values, value):
                detail = f"{axis} {name} has {value.accepted} examples, its share is {value.wish:.1%}"
                return Drop(Stage.TARGET, DropReason.OVER_SHARE, detail)
        return None

    def standings(self) -> list[Standing]:
        """Where every value stands, in the config's order."""
        return [
            Standing(axis, name, value.wish, value.accepted, value.given_up)
            for axis, values in self._axes.items()
            for name, value in values.items()
        ]

    def _has_room(self, values: Mapping[str, _Value], value: _Value) -> bool:
        """Whether one more example of a value leaves it, and all others, within the tolerance at the end."""
        scale = self._scale(values)
        if value.accepted >= self._most(value, scale):
            return False
        owed = sum(
            max(0, self._least(other, scale) - other.accepted) for other in values.values() if other is not value
        )
        is_owed = value.accepted < self._least(value, scale)
        return is_owed or self._target - self._accepted - 1 >= owed

    def _most(self, value: _Value, scale: float) -> int:
        wished = value.wish * scale * self._target
        return max(math.ceil(wished - _ROUNDING) + _LEAST_SLACK, math.floor(wished + self._tolerance * self._target))

    def _least(self, value: _Value, scale: float) -> int:
        if value.given_up:
            return 0
        wished = value.wish * scale * self._target
        least = min(math.floor(wished + _ROUNDING) - _LEAST_SLACK, math.ceil(wished - self._tolerance * self._target))
        return max(0, least)

    def _scale(self, values: Mapping[str, _Value]) -> float:
        """What the wishes of the others grow by when values were given up."""
        lost = [value for value in values.values() if value.given_up]
        if not lost:
            return 1.0
        left = sum(value.wish for value in values.values() if not value.given_up)
        had = sum(min(value.accepted / self._target, value.wish) for value in lost)
        return (1.0 - had) / left if left else 1.0

    def _values(self, labels: Labels) -> list[_Value]:
        found = (values.get(labels.get(axis) or "") for axis, values in self._axes.items())
        return [value for value in found if value is not None]


def _by_the_way(values: Mapping[str, _Value], short: Mapping[str, float], general_yield: float) -> Mapping[str, float]:
    """Examples of each value that come from tasks asking for others: those under way, and those others still need."""
    coming: dict[str, float] = dict.fromkeys(values, 0.0)
    for name, value in values.items():
        if value.brought:
            tasks = value.outstanding + max(0.0, short.get(name, 0.0)) / value.own_yield(general_yield)
            for other, count in value.brought.items():
                coming[other] += tasks * count / (value.decided + _PRIOR)
    return coming
