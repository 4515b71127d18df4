"""`--set a.b=c`: changes to the tree of a config before it is checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from synth_async.config.models import Judge
from synth_async.config.shape import default_at
from synth_async.config.source import KeyPath, Mistake, looks_secret, parse_yaml

__all__ = ["apply_overrides"]


def apply_overrides(tree: dict[str, Any], overrides: Sequence[str]) -> tuple[set[KeyPath], list[Mistake]]:
    """Changes `tree` in place; gives the places that were set, and what could not be set.

    Values are YAML (`3`, `null`, `[a, b]`, `{tone: [dry]}`). A number steps into a list (`judge.criteria.0.weight=2`).
    What the file leaves out is taken from the defaults first, so that setting one key of a section keeps the others.
    """
    places: set[KeyPath] = set()
    mistakes: list[Mistake] = []
    for override in overrides:
        name, equals, text = override.partition("=")
        name = name.strip()
        path: KeyPath = tuple(int(part) if part.isascii() and part.isdecimal() else part for part in name.split("."))
        named = f"--set {'***' if looks_secret(name) else name}"
        if not equals or "" in path:
            mistakes.append(
                Mistake((named,), "must be a dotted key, '=' and a value, such as generation.temperature=0.7")
            )
            continue
        value = parse_yaml(text)
        if value.mistakes:
            mistakes.append(Mistake((named,), value.mistakes[0].message))
            continue
        place, problem = _set(tree, path, value.tree)
        places.add(place)
        if problem:
            mistakes.append(Mistake(place, problem))
    return places, mistakes


def _set(tree: dict[str, Any], path: KeyPath, value: object) -> tuple[KeyPath, str | None]:
    """Sets one place: where that is in the tree, and what is wrong with the path."""
    current: Any = tree
    place: KeyPath = ()
    for key, next_key in zip(path, (*path[1:], None), strict=True):
        problem = _cannot_step(current, key)
        if problem:
            return (*place, key), problem
        own_key: Any = key if isinstance(current, list) else str(key)
        place = (*place, own_key)
        if next_key is None:
            current[own_key] = value
            break
        there = current[own_key] if isinstance(current, list) else current.get(own_key)
        below = _opened(there, place, next_key)
        current[own_key] = below
        current = below
    return place, None


def _opened(value: Any, here: KeyPath, next_key: str | int) -> Any:
    """The collection to step into: what stands there, or its default; the rubric in its long form for an index."""
    if value is None:
        default = default_at(here)
        value = {} if default is None else default
    if here == ("judge", "criteria") and isinstance(next_key, int) and isinstance(value, list | dict):
        try:
            return [
                entry.model_dump(exclude_unset=True) for entry in Judge.model_validate({"criteria": value}).criteria
            ]
        except ValidationError:
            return value  # the mistake is found again, at its place
    return value


def _cannot_step(current: Any, key: str | int) -> str | None:
    if isinstance(current, dict):
        return None
    if not isinstance(current, list):
        return "stands below a plain value, which has no keys"
    if not isinstance(key, int):
        return "stands below a list: name a position, counted from 0"
    if key >= len(current):
        return f"the list has {len(current)} entries, counted from 0"
    return None
