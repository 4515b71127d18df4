"""Prices that a config does not give, from the optional package genai-prices (the extra `prices`).

The package ships its list, and nothing is fetched. It knows endpoints by their address and models by their name; what
it does not know stays unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from importlib.util import find_spec
from typing import Any

from synth_async.config.models import SIMULATOR
from synth_async.config.secrets import OPENAI_BASE_URL

__all__ = ["listed_prices"]

_PACKAGE = "genai-prices"
_TOKENS = 1000
"""Few enough for the lowest tier of prices that depend on the length of a prompt."""


def listed_prices(
    endpoints: Mapping[str, Any], env: Mapping[str, str]
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """({name: price}, {name: where it is from}) of endpoints of a config's tree that have no price; often none."""
    prices, sources = {}, {}
    for name, endpoint in endpoints.items():
        is_open = isinstance(endpoint, dict) and endpoint.get("price") is None
        if not is_open or endpoint.get("base_url") == SIMULATOR or find_spec("genai_prices") is None:
            continue
        url = endpoint.get("base_url") or env.get("OPENAI_BASE_URL", "").strip() or OPENAI_BASE_URL
        if (found := _listed(str(url), str(endpoint.get("model")))) is not None:
            prices[name] = found
            sources[name] = f"{_PACKAGE} {metadata.version(_PACKAGE)}"
    return prices, sources


def _listed(url: str, model: str) -> dict[str, float] | None:
    """US dollars per million tokens, or None where the package knows no such endpoint or model."""
    from genai_prices import Usage, calc_price  # noqa: PLC0415 - half a second of CPU, where a price is looked for

    def per_million(usage: Usage) -> float:
        return float(calc_price(usage, model, provider_api_url=url).total_price) * 1e6 / _TOKENS

    try:
        return {
            "prompt": per_million(Usage(input_tokens=_TOKENS, output_tokens=0)),
            "completion": per_million(Usage(input_tokens=0, output_tokens=_TOKENS)),
        }
    except LookupError:
        return None
