"""What of a config changes what each stage produces, and a short hash of it.

Left out on purpose: host, key, rate limits, concurrency, timeouts, prices, target, fsync, how often a topic is used,
and how JSON is asked for.
They change who answers, how fast and how many, and not what is asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from synth_async.config.models import Config, Endpoint, Facet

__all__ = ["STAGES", "describe_parts", "diff_parts", "fingerprints"]

STAGES = ("topics", "generate", "filter", "judge", "coverage", "dedup", "output")
"""The stages that have a fingerprint."""

_SHOWN_CHARACTERS = 60


def fingerprints(config: Config) -> dict[str, str]:
    """One fingerprint per stage: 32 hex digits, blake2b of 128 bits. Reads the files that the config names."""
    return {
        stage: _hex(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)) for stage, parts in describe_parts(config).items()
    }


def describe_parts(config: Config) -> dict[str, dict[str, Any]]:
    """Per stage: dotted field -> plain JSON value of all that goes into its fingerprint.

    Files stand as a hash of their content. Raises `OSError` where one cannot be read.
    """
    context = None if config.context is None else _hex(config.context.file.read_bytes())
    asked = {"domain": config.domain, "system_prompt": config.system_prompt, "context": context}
    return {
        "topics": _topic_parts(config, asked),
        "generate": _generation_parts(config, asked),
        "filter": _filter_parts(config),
        "judge": _judge_parts(config, asked),
        "coverage": _coverage_parts(config),
        "dedup": dict(_flat("dedup", config.dedup.model_dump(mode="json") if config.dedup else None)),
        "output": _output_parts(config),
    }


def diff_parts(old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What changed, a line each: `generation.temperature: 0.8 -> 0.9 (generate)`; in order of first appearance."""
    stages_of: dict[str, list[str]] = {}
    for stage in dict.fromkeys((*old, *new)):
        before, after = old.get(stage, {}), new.get(stage, {})
        for name in dict.fromkeys((*before, *after)):
            if (name in before) != (name in after) or before.get(name) != after.get(name):
                change = f"{name}: {_shown(before, name)} -> {_shown(after, name)}"
                stages_of.setdefault(change, []).append(stage)
    return [f"{change} ({', '.join(stages)})" for change, stages in stages_of.items()]


def _topic_parts(config: Config, asked: dict[str, Any]) -> dict[str, Any]:
    if config.topics.file is not None:
        return {"topics.file": _hex(Path(config.topics.file).read_bytes())}
    section = config.topics.model_dump(mode="json", exclude={"endpoint", "count", "file"})
    endpoint = config.endpoints[config.endpoint_of("topics")]
    return {**asked, "seed": config.seed, **dict(_flat("topics", section)), **_endpoint_parts("topics", endpoint)}


def _generation_parts(config: Config, asked: dict[str, Any]) -> dict[str, Any]:
    section = config.generation.model_dump(
        mode="json", exclude={"endpoint", "examples_per_topic", "max_examples_per_topic"}
    )
    endpoint = config.endpoints[config.endpoint_of("generation")]
    return {
        **asked,
        "seed": config.seed,
        **dict(_flat("generation", section)),
        **dict(_flat("facets", _ordered(config.facets))),
        **_listed_parts(config),
        **_endpoint_parts("generation", endpoint),
    }


def _listed_parts(config: Config) -> dict[str, Any]:
    """What the user's own files bring into the prompts; nothing where there are none."""
    parts: dict[str, Any] = {}
    if config.personas is not None:
        parts["personas.file"] = _hex(config.personas.file.read_bytes())
    if config.examples is not None:
        parts["examples.file"] = _hex(config.examples.file.read_bytes())
        parts["examples.per_request"] = config.examples.per_request
    return parts


def _filter_parts(config: Config) -> dict[str, Any]:
    """Lists of words and the code of the user's functions stand as a hash of what they hold, wherever it comes from."""
    filters = config.filters
    parts = dict(_flat("filters", filters.model_dump(mode="json", exclude={"profanity": {"file"}})))
    if filters.profanity is not None:
        parts["filters.profanity.words"] = _hex(orjson.dumps(filters.profanity.words))
    if filters.custom:
        from synth_async.config.extensions import function_digest  # noqa: PLC0415 - runs the user's code

        parts.update({f"filters.custom.{name}": function_digest(name) for name in filters.custom})
    return parts if config.examples is None else {**parts, "examples.file": _hex(config.examples.file.read_bytes())}


def _coverage_parts(config: Config) -> dict[str, Any]:
    if config.coverage is None:
        return {"coverage": None}
    held = dict(_flat("coverage", config.coverage.model_dump(mode="json")))
    return {**held, "topics.categories": dict(config.topics.category_weights)}


def _judge_parts(config: Config, asked: dict[str, Any]) -> dict[str, Any]:
    if config.judge is None:
        return {"judge": None}
    section = config.judge.model_dump(mode="json", exclude={"endpoint", "panel", "mode"})
    parts = {**asked, **dict(_flat("judge", section)), **_further_parts(config)}
    if config.judge.panel is None:
        return {**parts, **_endpoint_parts("judge", config.endpoints[config.endpoint_of("judge")])}
    for number, name in enumerate(config.judge.panel):
        parts |= _endpoint_parts(f"judge.panel.{number}", config.endpoints[name])
    return parts


def _further_parts(config: Config) -> dict[str, Any]:
    """What is asked besides a verdict on each example; nothing where nothing is."""
    parts: dict[str, Any] = {}
    if config.revise is not None:
        parts |= _flat("revise", config.revise.model_dump(mode="json"))
    if config.mode == "preference" and config.judge is not None:
        parts |= {"mode": config.mode, "judge.mode": config.judge.mode}
        parts |= _flat("preference", config.preference.model_dump(mode="json", exclude={"rejected_endpoint"}))
        if (weaker := config.preference.rejected_endpoint) is not None:
            parts |= _endpoint_parts("preference.rejected", config.endpoints[weaker])
    return parts


def _output_parts(config: Config) -> dict[str, Any]:
    system_prompt = config.system_prompt if config.output.system_message else None
    return {"output.system_message": config.output.system_message, "system_prompt": system_prompt}


def _endpoint_parts(stage: str, endpoint: Endpoint) -> dict[str, Any]:
    return {f"{stage}.model": endpoint.model, **dict(_flat(f"{stage}.extra_body", endpoint.extra_body))}


def _ordered(facets: Mapping[str, Facet]) -> dict[str, Any]:
    """Facets as plain values: the order of values and of axes goes into the draw, so weights stand as pairs."""
    plain: dict[str, Any] = {}
    for name, facet in facets.items():
        plain[name] = _pairs(facet.values)
        if facet.when:
            plain[f"{name}.when"] = [[rule.given, _pairs(rule.values)] for rule in facet.when]
        if facet.prompt is not None:
            plain[f"{name}.prompt"] = facet.prompt
    return {**plain, "order": list(facets)} if len(facets) > 1 else plain


def _pairs(weights: Mapping[str, float]) -> list[list[Any]]:
    return [[value, weight] for value, weight in weights.items()]


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Dotted names of the leaves. Lists of named things (criteria, patterns) go by name, and keep their order."""
    if isinstance(value, dict) and value:
        for key, child in value.items():
            yield from _flat(f"{name}.{key}", child)
    elif isinstance(value, list) and value and all(isinstance(each, dict) and "name" in each for each in value):
        yield name, [each["name"] for each in value]
        for each in value:
            yield from _flat(f"{name}.{each['name']}", {key: child for key, child in each.items() if key != "name"})
    else:
        yield name, value


def _shown(parts: Mapping[str, Any], name: str) -> str:
    if name not in parts:
        return "(not there)"
    text = orjson.dumps(parts[name]).decode()
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"


def _hex(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
