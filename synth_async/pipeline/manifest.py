"""The manifest, `run.json`: which config made the run, in parts that can be compared field by field."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import orjson

from synth_async import __version__
from synth_async.config import Config, describe_parts, diff_parts, fingerprints
from synth_async.errors import UsageError
from synth_async.pipeline.frames import manifest_frame
from synth_async.store.journal import Journal
from synth_async.store.run_folder import RunFolder, read_json, write_atomically

__all__ = ["check_manifest", "decision_fingerprint"]

FORMAT = 1
_PACKAGES = ("aiohttp", "aiolimiter", "anyio", "datasketch", "numpy", "openai", "orjson", "pydantic", "rapidfuzz")
_DECIDING = ("filter", "judge", "dedup")


def decision_fingerprint(config: Config) -> str:
    """One fingerprint for all that decides about an answer: filters, judge, dedup."""
    made_of = fingerprints(config)
    return hashlib.blake2b("".join(made_of[stage] for stage in _DECIDING).encode(), digest_size=8).hexdigest()


def check_manifest(
    folder: RunFolder, config: Config, journal: Journal, journaled: Mapping[str, Any] | None, *, accept_change: bool
) -> bool:
    """Write `run.json` for a new run, or compare it: a run goes on only with the generation that it began with.

    Returns whether the generation has changed; raises `UsageError` with what changed, field by field, unless that is
    accepted. The journal holds the manifest as well (`journaled`), so the file can be made again. Both are written only
    where their content changes.
    """
    found = read_json(folder.manifest)
    earlier = found if found is not None else journaled
    is_changed = False
    if earlier is not None:
        _check_format(folder, earlier)
        is_changed = _check_generation(folder, config, earlier, accept_change=accept_change)
    manifest = _manifest(config, earlier)
    if manifest != journaled:
        journal.append(manifest_frame(manifest))
    if manifest != found:
        write_atomically(folder.manifest, orjson.dumps(manifest, option=orjson.OPT_INDENT_2) + b"\n")
    return is_changed


def _check_format(folder: RunFolder, earlier: Mapping[str, Any]) -> None:
    if earlier.get("format", 0) > FORMAT:
        raise UsageError(
            f"{folder.manifest}: written by a newer version ({earlier.get('synth_async')}); upgrade synth-async"
        )


def _check_generation(folder: RunFolder, config: Config, earlier: Mapping[str, Any], *, accept_change: bool) -> bool:
    then, now = earlier.get("parts", {}).get("generate", {}), describe_parts(config)["generate"]
    changes = diff_parts({"generate": then}, {"generate": orjson.loads(orjson.dumps(now))})
    if changes and not accept_change:
        listed = "\n".join(f"  {change}" for change in changes)
        raise UsageError(
            f"{folder.path}: the run was made with another generation config:\n{listed}\n"
            "Begin a new folder with what still matches (--fork NEWDIR), put the config back,"
            " or go on with both kinds in one dataset (--accept-change)"
        )
    return bool(changes)


def _manifest(config: Config, earlier: Mapping[str, Any] | None) -> dict[str, Any]:
    if earlier is None:
        earlier = {
            "created_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "synth_async": __version__,
            "python": platform.python_version(),
            "packages": {name: metadata.version(name) for name in _PACKAGES},
        }
    kept = ("created_at", "synth_async", "python", "packages")
    described: dict[str, Any] = {
        "format": FORMAT,
        "name": config.name,
        **{name: earlier.get(name) for name in kept},
        "simulated": any(endpoint.is_simulator for endpoint in config.endpoints.values()),
        "target": config.target,
        "fingerprints": fingerprints(config),
        "parts": describe_parts(config),
    }
    plain: dict[str, Any] = orjson.loads(orjson.dumps(described))
    return plain
