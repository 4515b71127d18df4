"""An object that fits a JSON schema: what is already known under the right name and type, the rest made up."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}
# Schemas may refer to themselves; below this depth optional parts are left out.
_DEEPEST = 6


def conform(known: Mapping[str, Any], schema: Mapping[str, Any], rng: random.Random) -> Any:
    """A value for the schema. Knows type, properties, items, enum, const, anyOf, oneOf, $ref, minimum and minItems."""
    return _value(dict(known), schema, schema, rng, 0)


def _value(known: Any, schema: Mapping[str, Any], root: Mapping[str, Any], rng: random.Random, depth: int) -> Any:
    schema = _resolve(schema, root)
    if "const" in schema:
        return schema["const"]
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return known if known in schema["enum"] else rng.choice(schema["enum"])
    kind = _kind(schema)
    if kind == "object":
        return _object(known if isinstance(known, dict) else {}, schema, root, rng, depth)
    if kind == "array":
        return _array(known if isinstance(known, list) else [], schema, root, rng, depth)
    if isinstance(known, _TYPES[kind]) and (kind == "boolean" or not isinstance(known, bool)):
        return known
    return _made_up(kind, schema, rng)


def _object(
    known: dict[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any], rng: random.Random, depth: int
) -> dict[str, Any]:
    properties = schema.get("properties")
    if not isinstance(properties, dict) or not properties:
        return known
    wanted = schema.get("required", list(properties)) if depth >= _DEEPEST else list(properties)
    # A flat schema may ask for what we know one level down, such as single scores.
    inner = {**next((value for value in known.values() if isinstance(value, dict)), {}), **known}
    return {
        name: _value(inner.get(name), properties[name], root, rng, depth + 1) for name in wanted if name in properties
    }


def _array(
    known: list[Any], schema: Mapping[str, Any], root: Mapping[str, Any], rng: random.Random, depth: int
) -> list[Any]:
    items = schema.get("items")
    if not isinstance(items, dict):
        return known
    if depth >= _DEEPEST:
        return []
    parts = known or [None] * max(2, int(schema.get("minItems", 0)))
    return [_value(part, items, root, rng, depth + 1) for part in parts[: schema.get("maxItems", len(parts))]]


def _made_up(kind: str, schema: Mapping[str, Any], rng: random.Random) -> Any:
    if kind in {"integer", "number"}:
        low = schema.get("minimum", 1)
        return low + int(rng.random() * (schema.get("maximum", low + 4) - low + 1))
    return {"boolean": rng.random() < 0.5, "null": None}.get(kind, f"simulated text {int(rng.random() * 1000)}")


def _kind(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), "null")
    if kind in _TYPES:
        return str(kind)
    return "object" if "properties" in schema else "array" if "items" in schema else "string"


def _resolve(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    for _ in range(_DEEPEST):
        if isinstance(schema.get("$ref"), str):
            found: Any = root
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found.get(part, {}) if isinstance(found, dict) else {}
            schema = found
        elif options := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
            schema = next((option for option in options if option.get("type") != "null"), options[0])
        else:
            break
    return schema
