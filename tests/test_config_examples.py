from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from synth_async import config
from synth_async.config.loading import load_config
from synth_async.config.models import Config, Criterion, Endpoint
from synth_async.config.schema import json_schema, render
from synth_async.config.secrets import resolve_endpoint
from synth_async.config.starter import STARTER
from synth_async.config.templates import VARIABLES

CONFIGS = Path(__file__).parent.parent / "configs"
NAMES = ["customer_support", "local_vllm", "overnight", "quickstart"]


@pytest.mark.parametrize("name", NAMES)
def test_every_example_config_loads(name: str) -> None:
    """The configs that we ship have no mistake, carry their file's name, and point editors to the schema."""
    loaded = load_config(CONFIGS / f"{name}.yaml")
    assert loaded.config.name == name
    assert loaded.text.startswith("# yaml-language-server: $schema=synth-async.schema.json\n")


def test_no_example_config_is_left_out() -> None:
    """The list above is the folder."""
    assert sorted(path.stem for path in CONFIGS.glob("*.yaml")) == NAMES


def test_the_starter_loads_and_needs_no_key(tmp_path: Path) -> None:
    """What `init` writes runs as it stands."""
    path = tmp_path / "starter.yaml"
    path.write_text(STARTER, encoding="utf-8")
    endpoints = load_config(path).config.endpoints
    assert [resolve_endpoint(name, endpoint, {}).base_url for name, endpoint in endpoints.items()] == ["simulator"]


def test_the_environment_alone_points_customer_support_elsewhere() -> None:
    """Without a base_url in the config, OPENAI_BASE_URL and OPENAI_API_KEY decide."""
    endpoints = load_config(CONFIGS / "customer_support.yaml").config.endpoints
    env = {"OPENAI_BASE_URL": "http://localhost:8000/v1", "OPENAI_API_KEY": "k"}
    [resolved] = [resolve_endpoint(name, endpoint, env) for name, endpoint in endpoints.items()]
    assert (resolved.base_url, resolved.api_key.reveal()) == ("http://localhost:8000/v1", "k")


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)


def keys_of(model: type[BaseModel], prefix: str = "", above: tuple[type[BaseModel], ...] = ()) -> Iterator[str]:
    """The dotted keys of a model and of the models in it; of one that holds its own kind, the first level."""
    for key, field in model.model_fields.items():
        yield f"{prefix}{key}"
        for inner in models_in(field.annotation):
            if inner not in above:
                yield from keys_of(inner, f"{prefix}{key}.", (*above, inner))


def keys_in(tree: Any, model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The keys that a tree shows, names of endpoints, facets and categories and positions left out."""
    for key, value in tree.items():
        yield f"{prefix}{key}"
        if key not in model.model_fields:
            continue  # a short form
        for inner in models_in(model.model_fields[key].annotation):
            if isinstance(value, list):
                entries = value
            elif key in ("endpoints", "facets", "categories") and isinstance(value, dict):
                entries = [each for each in value.values() if isinstance(each, dict)]
            else:
                entries = [value]
            for entry in entries:
                yield from keys_in(entry or {}, inner, f"{prefix}{key}.")


def test_overnight_shows_every_key() -> None:
    """The annotated config shows all keys of the models, each at its place."""
    tree = yaml.safe_load((CONFIGS / "overnight.yaml").read_text(encoding="utf-8"))
    assert set(keys_of(Config)) - set(keys_in(tree, Config)) == set()


def test_overnight_shows_the_defaults() -> None:
    """Where it does not say otherwise, the value shown is the default, so that deleting the line changes nothing."""
    shown = load_config(CONFIGS / "overnight.yaml").config
    endpoint = shown.endpoints["openai"].model_dump(exclude={"model", "api_key_env", "rpm", "tpm", "price"})
    default = Endpoint(model="m").model_dump(exclude={"model", "api_key_env", "rpm", "tpm", "price"})
    assert endpoint == default
    for name, different in {
        "topics": {"count", "endpoint", "categories"},
        "generation": {"endpoint"},
        "filters": {"patterns", "profanity"},
        "judge": {"endpoint", "criteria"},
        "coverage": set(),
        "dedup": set(),
        "output": set(),
    }.items():
        default = Config.model_fields[name].get_default().model_dump(exclude=different)
        assert getattr(shown, name).model_dump(exclude=different) == default


def test_the_schema_in_the_folder_is_current() -> None:
    """`python -m synth_async.config.schema` would write the file that is there."""
    assert (CONFIGS / "synth-async.schema.json").read_text(encoding="utf-8") == render()


def test_every_key_has_a_description() -> None:
    """Editors show the docstrings of the models; the schema refuses unknown keys as the loader does."""
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for section in [schema, *schema["$defs"].values()]:
        assert section["additionalProperties"] is False
        assert section["description"]
        assert [key for key, field in section["properties"].items() if not field.get("description")] == []


@pytest.mark.parametrize("stage", list(VARIABLES))
def test_templates_may_use_what_the_models_say(stage: str) -> None:
    """The variables that a prompt is checked against are those that the docstring of the key names."""
    description = json_schema()["$defs"][stage.title()]["properties"]["prompt"]["description"]
    assert tuple(re.findall(r"`(\w+)`", description)) == VARIABLES[stage]


def test_the_schema_knows_the_short_forms() -> None:
    """The rubric may be names, mappings, or a mapping by name; a filter with a bound may be false."""
    definitions = json_schema()["$defs"]
    as_list, as_mapping = definitions["Judge"]["properties"]["criteria"]["anyOf"]
    assert as_list["items"]["anyOf"] == [
        {"type": "string", "pattern": "^[a-z][a-z0-9_]*$"},
        {"$ref": "#/$defs/Criterion"},
    ]
    assert as_mapping["additionalProperties"]["anyOf"][-1] == {"$ref": "#/$defs/NamedCriterion"}
    assert set(definitions["NamedCriterion"]["properties"]) == set(Criterion.model_fields) - {"name"}
    assert {"const": False} in definitions["Filters"]["properties"]["echo"]["anyOf"]
    assert "anyOf" not in definitions["Filters"]["properties"]["refusal"]


def test_the_schema_module_prints_the_schema() -> None:
    """The command that writes the file prints JSON and nothing else."""
    output = subprocess.run([sys.executable, "-m", "synth_async.config.schema"], capture_output=True, check=True).stdout
    assert json.loads(output) == json_schema()


def test_every_public_name_is_there() -> None:
    """The package gives each name that it lists, and no other."""
    assert {name for name in config.__all__ if getattr(config, name) is None} == set()
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = config.nothing


def test_the_models_alone_load_neither_yaml_nor_jinja2() -> None:
    """What a config mistake does not need is not imported: no template engine, no orjson, no client."""
    code = (
        "import sys, pathlib; import synth_async.config.models as m; early = 'yaml' in sys.modules\n"
        "from synth_async.config.loading import load_config\n"
        "from synth_async.errors import ConfigError\n"
        "try: load_config(pathlib.Path('none.yaml'))\n"
        "except ConfigError: pass\n"
        "print([early, *(name for name in ('jinja2', 'orjson', 'difflib', 'openai', 'numpy') if name in sys.modules)])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert output.strip() == "[False]"
