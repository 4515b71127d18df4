"""Which keys and types the models have at a place of the tree: for suggestions, defaults and the check of booleans."""

from __future__ import annotations

import types
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from synth_async.config.models import Config
from synth_async.config.source import KeyPath

__all__ = ["annotation_at", "default_at", "is_number", "section_at"]


def _alternatives(annotation: Any) -> list[Any]:
    """The types that a value may have, without `Annotated` and None."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _alternatives(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [each for part in get_args(annotation) for each in _alternatives(part)]
    return [] if annotation is type(None) else [annotation]


def _inside(annotation: Any, key: str | int) -> Any:
    for each in _alternatives(annotation):
        if isinstance(each, type) and issubclass(each, BaseModel):
            found = each.model_fields.get(str(key))
            return found.annotation if found is not None else None
        if get_origin(each) is dict and isinstance(key, str):
            return get_args(each)[1]
        if get_origin(each) is tuple:  # by name too: the rubric may be a mapping from name to criterion
            return get_args(each)[0]
    return None


def annotation_at(path: KeyPath) -> Any:
    """The declared type at a place, or None where the models know none."""
    annotation: Any = Config
    for key in path:
        annotation = _inside(annotation, key)
    return annotation


def section_at(path: KeyPath) -> type[BaseModel] | None:
    """The model at a place, or None where there is none."""
    for each in _alternatives(annotation_at(path)):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    return None


def is_number(path: KeyPath) -> bool:
    """Whether the place holds an int or a float (pydantic would take `true` there for 1)."""
    return any(each in (int, float) for each in _alternatives(annotation_at(path)))


def default_at(path: KeyPath) -> Any:
    """What the models hold at a place that a config leaves out, as plain values; None where that is nothing."""
    section = section_at(path[:-1])
    if section is None or str(path[-1]) not in section.model_fields:
        return None
    default = section.model_fields[str(path[-1])].get_default(call_default_factory=True)
    if isinstance(default, tuple):
        return [each.model_dump(mode="json", exclude_unset=True) for each in default]
    if isinstance(default, dict):
        return {key: _plain(value) for key, value in default.items()}
    return _plain(default) if isinstance(default, BaseModel) else None


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json", exclude_unset=True) if isinstance(value, BaseModel) else value
