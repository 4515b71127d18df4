"""Facets: the axes of variation of a run (tone, channel, persona...), drawn so that variety is designed and not chance.

For each example one value is drawn per axis. After any number of draws each value's count is within 1 of its share;
within that bound the value is taken that has come least often together with the values already drawn for the other
axes, so that pairs are covered evenly too, and the seed decides between equals.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Container, Mapping

from synth_async.config.models import Config, Facet
from synth_async.stages.balance import drawable, shares_of
from synth_async.stages.templates import render

__all__ = ["FacetPlan", "facet_lines"]

_CATEGORY = "category"


class FacetPlan:
    """The balanced draw of facets. Its counts are restored from the journaled tasks with `note`.

    Where weights depend on other facets (`when`), the draws under each rule are balanced among themselves.
    """

    def __init__(self, config: Config) -> None:
        self._axes = {axis: _Axis(facet) for axis, facet in config.facets.items()}
        self._pairs: Counter[tuple[str, str, str, str]] = Counter()
        self._drawn = 0
        self._seed = config.seed

    def draw(self, category: str | None = None, wanted: Mapping[str, Container[str]] | None = None) -> dict[str, str]:
        """The next value of every axis, for an example of `category`.

        `wanted` names, per axis, the values that are short of their share: only those are drawn, where there are any.
        """
        chance = random.Random(f"{self._seed}/facets/{self._drawn}")
        drawn: dict[str, str] = {}
        for name, axis in self._axes.items():
            values = axis.drawable(drawn, category, (wanted or {}).get(name))
            drawn[name] = self._least_met(name, values, axis.shares(drawn, category), drawn, chance)
        self.note(drawn, category)
        return drawn

    def note(self, drawn: Mapping[str, str], category: str | None = None) -> None:
        """Count values that were drawn, here or by an earlier process."""
        self._drawn += 1
        for name, axis in self._axes.items():
            if (value := drawn.get(name)) is not None:
                axis.note(value, drawn, category)
        known = [(name, value) for name, value in drawn.items() if name in self._axes]
        for place, (name, value) in enumerate(known):
            for other, met in known[:place]:
                self._pairs[other, met, name, value] += 1

    def _least_met(
        self, name: str, values: list[str], shares: Mapping[str, float], drawn: Mapping[str, str], chance: random.Random
    ) -> str:
        """The value that is furthest behind its share of the draws that brought the same other values."""
        if len(values) == 1:
            return values[0]
        met = {
            value: sum(self._pairs[other, other_value, name, value] for other, other_value in drawn.items())
            for value in values
        }
        # Of equals a heavy value is drawn as much more often as it weighs more.
        return min(values, key=lambda value: ((met[value] + chance.random()) / shares[value], value))


class _Axis:
    """One axis: its shares, by rule, and what has been drawn of it under each."""

    def __init__(self, facet: Facet) -> None:
        self._rules = [(rule.given, shares_of(rule.values)) for rule in facet.when]
        self._rules.append(({}, shares_of(facet.values)))
        self._counts: list[Counter[str]] = [Counter() for _ in self._rules]

    def shares(self, drawn: Mapping[str, str], category: str | None) -> dict[str, float]:
        return self._rules[self._rule(drawn, category)][1]

    def drawable(self, drawn: Mapping[str, str], category: str | None, wanted: Container[str] | None) -> list[str]:
        """Values that may come next: within balance, and among the wanted ones where any of those can be had."""
        rule = self._rule(drawn, category)
        shares, counts = self._rules[rule][1], self._counts[rule]
        values = drawable(shares, counts, counts.total() + 1)
        if wanted is None or not (short := [value for value in shares if value in wanted]):
            return values
        return [value for value in values if value in wanted] or short

    def note(self, value: str, drawn: Mapping[str, str], category: str | None) -> None:
        self._counts[self._rule(drawn, category)][value] += 1

    def _rule(self, drawn: Mapping[str, str], category: str | None) -> int:
        """The first rule that fits; the last one fits always."""
        known = {**drawn, _CATEGORY: category}
        return next(
            index
            for index, (given, _) in enumerate(self._rules)
            if all(known.get(axis) == value for axis, value in given.items())
        )


def facet_lines(config: Config, facets: Mapping[str, str], *, topic: str, category: str | None) -> list[str]:
    """What the prompt says of each facet: a line by its own template, or `Name: value`."""
    lines = []
    for name, value in facets.items():
        facet = config.facets.get(name)
        if facet is None or facet.prompt is None:
            lines.append(f"{name.replace('_', ' ').capitalize()}: {value}")
        else:
            lines.append(render(facet.prompt, value=value, topic=topic, category=category, facets=facets))
    return lines
