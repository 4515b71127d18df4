"""The config and the endpoints of a verb, checked before anything that takes long to import is touched."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from synth_async.cli.console import hide
from synth_async.config import Config, LoadedConfig, ResolvedEndpoint, load_config, resolve_endpoints

__all__ = ["Prepared", "in_mode", "prepared"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A config without mistakes, and its endpoints by name; no endpoints where nothing is sent."""

    loaded: LoadedConfig
    resolved: dict[str, ResolvedEndpoint]


def prepared(path: Path, overrides: Sequence[str], *, offline: bool = False) -> Prepared:
    """The config and the endpoints that its stages send to; raises `UsageError` with all that is wrong with either."""
    loaded = load_config(path, overrides)
    if loaded.examples:
        from synth_async.stages.few_shot import read_examples

        read_examples(loaded)
    return Prepared(loaded, {} if offline else _resolved(loaded.config))


def in_mode(ready: Prepared, mode: Literal["online", "batch"]) -> Prepared:
    """The same with all examples and verdicts in one mode."""
    config = ready.loaded.config
    named = {name for stage in ("generation", "judge") for name in config.endpoints_of(stage)}
    endpoints = {
        name: endpoint.model_copy(update={"mode": mode}) if name in named else endpoint
        for name, endpoint in config.endpoints.items()
    }
    loaded = replace(ready.loaded, config=config.model_copy(update={"endpoints": endpoints}))
    resolved = {name: replace(found, settings=endpoints[name]) for name, found in ready.resolved.items()}
    return Prepared(loaded, resolved)


def _resolved(config: Config) -> dict[str, ResolvedEndpoint]:
    resolved = resolve_endpoints(config, os.environ)
    for endpoint in resolved.values():
        hide(endpoint.api_key.reveal())
    return resolved
