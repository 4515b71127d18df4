"""The JSON Schema of the config file, for editors and other tools.

`python -m synth_async.config.schema > configs/synth-async.schema.json` writes the copy that the examples point to.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
from typing import Any

from synth_async.config import models
from synth_async.config.models import Config

__all__ = ["json_schema", "render"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The schema of `Config` (draft 2020-12): descriptions from the docstrings of the models, short forms included."""
    schema = Config.model_json_schema()
    sections = {"Config": schema, **schema["$defs"]}
    for name, descriptions in _attribute_docstrings().items():
        for key, description in descriptions.items():
            if key in sections.get(name, {}).get("properties", {}):
                sections[name]["properties"][key]["description"] = description
    _allow_short_criteria(schema["$defs"])
    _allow_one_name(schema["$defs"])
    schema["properties"]["on_finish"]["anyOf"].insert(0, {"type": "string"})
    _allow_short_facets(schema)
    _allow_short_categories(schema["$defs"])
    _allow_short_filters(schema["$defs"])
    return {"$schema": DIALECT, **schema, "title": "synth-async config"}


def render() -> str:
    """The schema as the text of a file."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _attribute_docstrings() -> dict[str, dict[str, str]]:
    """Class -> attribute -> the string that stands below it."""
    module = ast.parse(inspect.getsource(models))
    return {node.name: _strings_below(node) for node in module.body if isinstance(node, ast.ClassDef)}


def _strings_below(node: ast.ClassDef) -> dict[str, str]:
    found = {}
    for statement, below in zip(node.body, node.body[1:], strict=False):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            found[statement.target.id] = inspect.cleandoc(below.value.value)
    return found


def _allow_short_criteria(definitions: dict[str, Any]) -> None:
    """The rubric as a list of names or mappings, or as a mapping from name to description or mapping."""
    criterion = definitions["Criterion"]
    name = {key: value for key, value in criterion["properties"]["name"].items() if key in ("type", "pattern")}
    unnamed = {key: value for key, value in criterion["properties"].items() if key != "name"}
    definitions["NamedCriterion"] = {
        "type": "object",
        "description": "A criterion whose name is its key.",
        "additionalProperties": False,
        "properties": unnamed,
    }
    long = definitions["Judge"]["properties"]["criteria"]
    values = [{"type": "string"}, {"type": "null"}, {"$ref": "#/$defs/NamedCriterion"}]
    forms = [
        {"type": "array", "minItems": 1, "items": {"anyOf": [name, {"$ref": "#/$defs/Criterion"}]}},
        {"type": "object", "minProperties": 1, "propertyNames": name, "additionalProperties": {"anyOf": values}},
    ]
    kept = {key: value for key, value in long.items() if key in ("default", "description", "title")}
    definitions["Judge"]["properties"]["criteria"] = {"anyOf": forms, **kept}


def _allow_short_facets(schema: dict[str, Any]) -> None:
    """A facet as its values alone, and values as a list."""
    weights = {"type": "object", "minProperties": 1, "additionalProperties": {"type": "number", "exclusiveMinimum": 0}}
    values = {"anyOf": [{"type": "array", "minItems": 1, "items": {"type": "string"}}, weights]}
    for name in ("Facet", "FacetRule"):
        properties = schema["$defs"][name]["properties"]
        kept = {key: value for key, value in properties["values"].items() if key in ("description", "title")}
        properties["values"] = {**values, **kept}
    facets = schema["properties"]["facets"]
    facets["additionalProperties"] = {"anyOf": [{"$ref": "#/$defs/Facet"}, *values["anyOf"]]}


def _allow_short_categories(definitions: dict[str, Any]) -> None:
    """A category as its share, or as nothing; categories as a list of names."""
    names = {"type": "array", "items": {"type": "string"}}
    short = [{"$ref": "#/$defs/Category"}, {"type": "number", "exclusiveMinimum": 0}, {"type": "null"}]
    tree = {"type": "object", "additionalProperties": {"anyOf": short}}
    inner, outer = (definitions[name]["properties"]["categories"] for name in ("Category", "Topics"))
    for properties, forms in ((inner, [tree, names]), (outer, [tree, names, {"type": "integer", "minimum": 1}])):
        for key in ("type", "additionalProperties", "anyOf"):
            properties.pop(key, None)
        properties["anyOf"] = forms


def _allow_one_name(definitions: dict[str, Any]) -> None:
    """One endpoint by its name alone, as well as a list of names."""
    for section in ("Topics", "Generation", "Judge"):
        definitions[section]["properties"]["endpoint"]["anyOf"].insert(0, {"type": "string"})


def _allow_short_filters(definitions: dict[str, Any]) -> None:
    """One value in the place of a section, one language without a list; `false` turns a filter off, as null does."""
    filters = definitions["Filters"]["properties"]
    for key, short in {
        "pii": definitions["Pii"]["properties"]["action"],
        "repetition": definitions["Repetition"]["properties"]["share"]["anyOf"][0],
        "profanity": definitions["Profanity"]["properties"]["words"],
        "language": filters["language"]["anyOf"][0]["items"],
    }.items():
        told = {name: value for name, value in short.items() if name not in ("title", "default", "description")}
        filters[key]["anyOf"].insert(0, told)
    for key in filters.keys() - {"language"}:
        if {"type": "null"} in filters[key].get("anyOf", ()):
            filters[key]["anyOf"].append({"const": False})


if __name__ == "__main__":
    sys.stdout.write(render())
