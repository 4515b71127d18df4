"""The reference of the config file, as a page: every key with its type, its default and its description.

`python -m synth_async.config.reference > docs/config.md` writes the page. All of it comes from the JSON Schema, and so
from the models.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from synth_async.config.schema import json_schema

__all__ = ["render"]

_HEAD = """\
# Config reference

Made from the models by `python -m synth_async.config.reference > docs/config.md`.
[configs/overnight.yaml](../configs/overnight.yaml) shows every key in its place.

Unknown keys are mistakes. Paths are relative to the file; a config names the *variable* of an API key, never the key.
Durations are seconds, prices are US dollars per million tokens. *Needed* keys have no default. `--set a.b=c` on the
command line sets any key. After a change, `synth-async run` says what it means for a run that has begun.
"""

_NAMED = {"endpoints": "NAME", "facets": "NAME", "categories": "NAME"}
"""Mappings whose keys are names of the user's."""

_PLAIN = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": "null"}
_LONGEST_DEFAULT = 60

Schema = Mapping[str, Any]


def render() -> str:
    """The page."""
    schema = json_schema()
    places: dict[str, str] = {}
    for name, place in _places(schema, schema["$defs"], "", ()):
        places[name] = f"{place}.NAME" if place in places.values() else place  # a list, or a mapping by name
    sections = [_section("The whole file", schema, places)]
    sections += [_section(f"`{place}`", schema["$defs"][name], places) for name, place in places.items()]
    return "\n".join([_HEAD, *sections])


def _places(section: Schema, models: Schema, prefix: str, above: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Each model's name with the dotted key at which it stands first, in the order of the file."""
    seen = set(above)
    for key, field in section["properties"].items():
        for name in dict.fromkeys(_models_in(field)):
            if name in seen:
                continue
            seen.add(name)
            place = f"{prefix}{key}.{_NAMED[key]}" if key in _NAMED else f"{prefix}{key}"
            yield name, place
            for inner, inner_place in _places(models[name], models, f"{place}.", (*above, *seen)):
                seen.add(inner)
                yield inner, inner_place


def _models_in(field: Any) -> Iterator[str]:
    """The models that a field refers to, however deep."""
    if isinstance(field, Mapping):
        if "$ref" in field:
            yield _name(field["$ref"])
        for key, child in field.items():
            if key != "default":
                yield from _models_in(child)
    elif isinstance(field, list):
        for child in field:
            yield from _models_in(child)


def _name(reference: str) -> str:
    return reference.removeprefix("#/$defs/")


def _section(title: str, section: Schema, places: Mapping[str, str]) -> str:
    about = "" if title == "The whole file" else f"{section['description']}\n\n"
    rows = [_row(key, field, section.get("required", ()), places) for key, field in section["properties"].items()]
    return "\n".join([f"## {title}\n\n{about}| key | what it holds | default | |\n|---|---|---|---|", *rows, ""])


def _row(key: str, field: Schema, required: list[str], places: Mapping[str, str]) -> str:
    default = "*needed*" if key in required else _default(field)
    description = " ".join(field.get("description", "").split())
    return "| " + " | ".join(_cell(text) for text in (f"`{key}`", _holds(field, places), default, description)) + " |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _default(field: Schema) -> str:
    default = field.get("default")
    if default is None:
        return "null" if "default" in field else ""
    text = json.dumps(default, ensure_ascii=False)
    if len(text) <= _LONGEST_DEFAULT:
        return f"`{text}`"
    if isinstance(default, list):
        return ", ".join(f"`{each.get('name') if isinstance(each, dict) else each}`" for each in default)
    is_named = isinstance(field.get("additionalProperties"), Mapping)
    return ", ".join(f"`{name}`" for name in default) if is_named else "its defaults"


def _holds(field: Schema, places: Mapping[str, str]) -> str:
    """What a value may be, in words."""
    if "$ref" in field:
        place = places[_name(field["$ref"])]
        return f"[{place}](#{place.lower().replace('.', '')})"
    if "anyOf" in field:
        forms = [_holds(form, places) for form in field["anyOf"]]
        return ", or ".join(dict.fromkeys(form for form in forms if form))
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "array":
        return f"list of {_inner(field['items'], places)}" if "items" in field else "list"
    if field.get("type") == "object":
        values = field.get("additionalProperties")
        return f"mapping to {_inner(values, places)}" if isinstance(values, Mapping) and values else "mapping"
    return f"{_PLAIN.get(field.get('type', ''), 'any value')}{_bounds(field)}"


def _inner(field: Schema, places: Mapping[str, str]) -> str:
    words = _holds(field, places)
    return f"({words})" if ", " in words else words


def _bounds(field: Schema) -> str:
    words = {"exclusiveMinimum": "above", "minimum": "from", "exclusiveMaximum": "below", "maximum": "up to"}
    told = [f"{word} {field[key]:g}" for key, word in words.items() if key in field]
    return f" {' '.join(told)}" if told else ""


if __name__ == "__main__":
    sys.stdout.write(render())
