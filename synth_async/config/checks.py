"""Rules that the models cannot say: secrets, facets, endpoint names, patterns. Pure, on the tree as it was written.

They look at the tree and not at a `Config`, so that their mistakes are reported together with those of the models.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from synth_async.config.models import is_long_facet
from synth_async.config.secrets import base_url_problem, header_problem, variable_name_problem
from synth_async.config.source import KeyPath, Mistake
from synth_async.config.wording import shown, suggestion

__all__ = ["section", "tree_mistakes"]


def section(tree: object, *path: str) -> dict[str, Any]:
    """The mapping at a place; empty where there is none."""
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree if isinstance(tree, dict) else {}


def tree_mistakes(tree: Mapping[str, Any]) -> list[Mistake]:
    """All mistakes against the rules of this module."""
    return [
        *_endpoint_mistakes(section(tree, "endpoints")),
        *_stage_mistakes(tree),
        *_facet_mistakes(tree.get("facets", {})),
        *_pattern_mistakes(section(tree, "filters").get("patterns")),
    ]


def _endpoint_mistakes(endpoints: Mapping[str, Any]) -> Iterator[Mistake]:
    for name, endpoint in endpoints.items():
        variable, url = section(endpoint).get("api_key_env"), section(endpoint).get("base_url")
        if isinstance(variable, str) and (problem := variable_name_problem(variable)):
            yield Mistake(("endpoints", name, "api_key_env"), problem)
        # A URL without a scheme is the models' own mistake.
        if isinstance(url, str) and url.startswith("http") and (problem := base_url_problem(url)):
            yield Mistake(("endpoints", name, "base_url"), problem)
        for header, value in section(endpoint, "headers").items():
            if isinstance(value, str) and (problem := header_problem(header, value)):
                yield Mistake(("endpoints", name, "headers", header), problem)


def _stage_mistakes(tree: Mapping[str, Any]) -> Iterator[Mistake]:
    names = list(section(tree, "endpoints"))
    for stage in ("topics", "generation", "judge"):
        stage_section = section(tree, stage)
        unused = (stage == "judge" and stage in tree and tree[stage] is None) or (
            stage == "topics" and stage_section.get("file") is not None
        )
        if unused or not names:
            continue
        if stage == "judge" and stage_section.get("panel") is not None:
            continue  # the models' own rules look at its names
        wanted = stage_section.get("endpoint")
        if wanted is None and len(names) > 1:
            yield Mistake((stage, "endpoint"), f"there are several endpoints, name one of {', '.join(names)}")
        elif isinstance(wanted, str) and wanted not in names:
            hint = suggestion(wanted, names) or f" (there is: {', '.join(names)})"
            yield Mistake((stage, "endpoint"), f"no endpoint is named {shown(wanted)}{hint}")


def _facet_mistakes(facets: object) -> Iterator[Mistake]:
    if not isinstance(facets, dict):
        yield Mistake(("facets",), f"must be a section with keys, got {shown(facets)}")
        return
    seen: dict[str, list[str]] = {}
    for name, facet in facets.items():
        path: KeyPath = ("facets", name)
        if is_long_facet(facet):
            yield from _weights_mistakes((*path, "values"), facet["values"])
            yield from _facet_rule_mistakes((*path, "when"), facet, seen)
            seen[name] = list(facet["values"])
        else:
            yield from _weights_mistakes(path, facet)
            seen[name] = list(facet) if isinstance(facet, dict | list) else []


def _weights_mistakes(path: KeyPath, values: object) -> Iterator[Mistake]:
    if not isinstance(values, dict | list):
        yield Mistake(path, f"must be a list of values, or values with weights, got {shown(values)}")
    elif not values:
        yield Mistake(path, "must not be empty")
    elif isinstance(values, list):
        yield from _facet_value_mistakes(path, values)
    else:
        yield from _facet_weight_mistakes(path, values)


def _facet_rule_mistakes(path: KeyPath, facet: dict[str, Any], seen: Mapping[str, list[str]]) -> Iterator[Mistake]:
    """Rules look at facets that were named before, at values that those have, and choose among the facet's own."""
    rules = facet.get("when", [])
    for index, rule in enumerate(rules if isinstance(rules, list) else ()):
        given, values = section(rule).get("given"), section(rule).get("values")
        for axis, value in section(rule, "given").items():
            if axis not in seen and axis != "category":
                hint = suggestion(axis, [*seen, "category"]) or f" (there is: {', '.join([*seen, 'category'])})"
                yield Mistake((*path, index, "given", axis), f"no facet above this one is named {shown(axis)}{hint}")
            elif axis in seen and value not in seen[axis]:
                yield Mistake((*path, index, "given", axis), f"{axis} has no value {shown(value)}")
        if values is not None and given is not None:
            yield from _weights_mistakes((*path, index, "values"), values)
        for value in values if isinstance(values, dict | list) else ():
            if value not in facet["values"]:
                yield Mistake((*path, index, "values"), f"{shown(value)} is not among the facet's values")


def _facet_value_mistakes(path: KeyPath, values: list[Any]) -> Iterator[Mistake]:
    for index, value in enumerate(values):
        if not isinstance(value, str):
            quotes = ": put it in quotes" if isinstance(value, bool | int | float) else ""
            yield Mistake((*path, index), f"must be text, got {shown(value)}{quotes}")
        elif not value.strip():
            yield Mistake((*path, index), "must not be empty")
        elif value in values[:index]:
            yield Mistake((*path, index), f"given twice: {shown(value)}")


def _facet_weight_mistakes(path: KeyPath, weights: dict[str, Any]) -> Iterator[Mistake]:
    for value, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            yield Mistake((*path, value), f"must be a number, the weight of this value, got {shown(weight)}")
        elif weight <= 0:
            yield Mistake((*path, value), f"must be above 0, got {shown(weight)}")


def _pattern_mistakes(patterns: object) -> Iterator[Mistake]:
    for index, pattern in enumerate(patterns if isinstance(patterns, list) else ()):
        regex = section(pattern).get("regex")
        if not isinstance(regex, str):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # `[[a]` and the like may change their meaning one day, and work today
                re.compile(regex)
        except (re.error, OverflowError, RecursionError) as error:
            yield Mistake(("filters", "patterns", index, "regex"), f"is not a regular expression: {error}")
