"""The smallest config that is valid, for tests of the stages; `changes` are further top-level keys."""

from __future__ import annotations

from typing import Any

from synth_async.config.models import Config


def small_config(endpoint: dict[str, Any] | None = None, **changes: Any) -> Config:
    """A config with one endpoint, the keys of `endpoint` changed in it."""
    tree = {
        "name": "n",
        "domain": "a shop",
        "system_prompt": "Help.",
        "target": 100,
        "endpoints": {"only": {"base_url": "http://localhost/v1", "model": "m", **(endpoint or {})}},
    }
    return Config.model_validate({**tree, **changes})
