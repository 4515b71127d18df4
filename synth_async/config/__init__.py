"""The config file: frozen models, loading with all mistakes at once, secrets, fingerprints, JSON Schema.

Names are loaded when they are first used, so that the models alone do not cost the YAML parser.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synth_async.config.fingerprint import describe_parts, diff_parts, fingerprints
    from synth_async.config.loading import LoadedConfig, load_config
    from synth_async.config.models import Config, Endpoint
    from synth_async.config.schema import json_schema
    from synth_async.config.secrets import ResolvedEndpoint, Secret, resolve_endpoint, resolve_endpoints
    from synth_async.config.starter import STARTER

__all__ = [
    "STARTER",
    "Config",
    "Endpoint",
    "LoadedConfig",
    "ResolvedEndpoint",
    "Secret",
    "describe_parts",
    "diff_parts",
    "fingerprints",
    "json_schema",
    "load_config",
    "resolve_endpoint",
    "resolve_endpoints",
]

_MODULES = {
    "STARTER": "starter",
    "Config": "models",
    "Endpoint": "models",
    "LoadedConfig": "loading",
    "ResolvedEndpoint": "secrets",
    "Secret": "secrets",
    "describe_parts": "fingerprint",
    "diff_parts": "fingerprint",
    "fingerprints": "fingerprint",
    "json_schema": "schema",
    "load_config": "loading",
    "resolve_endpoint": "secrets",
    "resolve_endpoints": "secrets",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
