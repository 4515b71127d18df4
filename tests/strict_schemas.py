"""JSON schemas as the strict structured output of OpenAI wants them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_KNOWN = {"type", "properties", "required", "additionalProperties", "items", "enum"}


def _parts(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield schema
    for part in [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]:
        yield from _parts(part)


def objects_of(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The properties of every object in a schema."""
    return [part["properties"] for part in _parts(schema) if part["type"] == "object"]


def assert_strict(schema: Mapping[str, Any]) -> None:
    """Every object requires all of its keys and allows no other, and nothing is said that a server may not compile."""
    assert schema["type"] == "object"
    for part in _parts(schema):
        assert set(part) <= _KNOWN
        if part["type"] == "object":
            assert part["required"] == list(part["properties"])
            assert part["additionalProperties"] is False
