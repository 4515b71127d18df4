"""Coverage: which values of which axes are short of their wished share of the target, and which have had enough.

An axis is `category` or a facet; its wishes are the shares of its values. What counts is the accepted examples: by the
value that was asked for, or by the one that the judge observed where it labels the axis. A value is *open* while the
accepted ones, and those that the tasks under way will probably bring, are short of its share: the planner draws open
values only. An example of a value that has more than its share and some slack does not get in (`over_share`); it is
kept for a higher target. The slack is small enough that every value ends within the tolerance: k values, each at most
tolerance / k above its wish, leave none further than the tolerance below it.

A value that the model does not deliver must not hold the run up: after 200 tasks that asked for it and brought next to
nothing it is given up, its share goes to the others, and the report says so.
"""

from __future__ import annotations

import math
from collections import deque
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
    recent: deque[bool] = field(default_factory=lambda: deque(maxlen=PATIENCE))
    """Of the last tasks that asked for the value, which brought an accepted example of it."""
    recent_got: int = 0

    def expected(self, general_yield: float) -> float:
        """What the tasks under way will probably bring, at the value's own yield as far as that is known."""
        own = (self.recent_got + _PRIOR * general_yield) / (len(self.recent) + _PRIOR)
        return self.outstanding * own

    def note_asked(self, *, got: bool) -> None:
        """A task that asked for the value was decided."""
        if len(self.recent) == PATIENCE:
            self.recent_got -= self.recent[0]
        self.recent.append(got)
        self.recent_got += got


class Coverage:
    """What was wished, issued and accepted of each value. Restored by telling it of earlier decisions in order."""

    def __init__(self, config: Config) -> None:
        self._target = config.target
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
        for axis, values in self._axes.items():
            got = values.get(counted.get(axis) or "")
            if accepted and got is not None:
                got.accepted += 1
            wanted = values.get(asked.get(axis) or "")
            if wanted is not None:
                wanted.note_asked(got=accepted and wanted is got)
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
        return frozenset(
            name
            for name, value in values.items()
            if not value.given_up and value.accepted + value.expected(general_yield) < value.wish * scale * self._target
        )

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
            if (value := values.get(name)) is not None and value.accepted >= self._most(values, value):
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

    def _most(self, values: Mapping[str, _Value], value: _Value) -> int:
        slack = max(_LEAST_SLACK, math.floor(self._tolerance * self._target / len(values)))
        return math.ceil(value.wish * self._scale(values) * self._target) + slack

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
