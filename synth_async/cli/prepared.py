"""The config and the endpoints of a verb, checked before anything that takes long to import is touched."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from synth_async.cli.console import hide
from synth_async.config import Config, LoadedConfig, ResolvedEndpoint, load_config, resolve_endpoints

__all__ = ["Prepared", "prepared"]


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


def _resolved(config: Config) -> dict[str, ResolvedEndpoint]:
    resolved = resolve_endpoints(config, os.environ)
    for endpoint in resolved.values():
        hide(endpoint.api_key.reveal())
    return resolved
