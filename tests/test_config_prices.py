"""Prices that the config does not give."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from synth_async.config import load_config
from synth_async.config.loading import LoadedConfig
from synth_async.errors import ConfigError

pytest.importorskip("genai_prices", reason="wants the extra prices")

OPENAI = "https://api.openai.com/v1"


def loaded(folder: Path, endpoint: dict[str, Any], **more: Any) -> LoadedConfig:
    """A config with one endpoint."""
    path = folder / "c.yaml"
    tree = {"name": "n", "domain": "d", "system_prompt": "s", "target": 9, "endpoints": {"e": endpoint}, **more}
    path.write_bytes(orjson.dumps(tree))
    return load_config(path)


def test_a_known_model_at_a_known_address_has_its_listed_price(tmp_path: Path) -> None:
    """In dollars per million tokens, and it is said where it is from."""
    found = loaded(tmp_path, {"base_url": OPENAI, "model": "gpt-4o-mini"})
    price = found.config.endpoints["e"].price
    assert price is not None
    assert 0 < price.prompt < price.completion < 100
    assert found.price_sources["e"].startswith("genai-prices ")


def test_the_address_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`OPENAI_BASE_URL` decides whose price it is; without it, it is OpenAI's."""
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert loaded(tmp_path, {"model": "gpt-4o-mini"}).config.endpoints["e"].price is not None
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:8000/v1")
    assert loaded(tmp_path, {"model": "gpt-4o-mini"}).config.endpoints["e"].price is None


@pytest.mark.parametrize(
    "endpoint",
    [
        {"base_url": "http://localhost:8000/v1", "model": "gpt-4o-mini"},
        {"base_url": OPENAI, "model": "no-such-model"},
        {"base_url": "simulator", "model": "gpt-4o-mini"},
    ],
)
def test_what_is_not_listed_stays_unknown(tmp_path: Path, endpoint: dict[str, Any]) -> None:
    """A server of one's own, a model that nobody knows, the embedded endpoint: unknown, and not 0."""
    found = loaded(tmp_path, endpoint)
    assert found.config.endpoints["e"].price is None
    assert found.price_sources == {}


def test_the_price_in_the_config_goes_first(tmp_path: Path) -> None:
    """What the user says is not looked up."""
    found = loaded(tmp_path, {"base_url": OPENAI, "model": "gpt-4o-mini", "price": {"prompt": 7, "completion": 8}})
    price = found.config.endpoints["e"].price
    assert price is not None
    assert (price.prompt, price.completion, found.price_sources) == (7, 8, {})


def test_a_listed_price_is_enough_for_a_budget_of_dollars(tmp_path: Path) -> None:
    """For a model that is not listed, the mistake names both ways to a price."""
    assert loaded(tmp_path, {"base_url": OPENAI, "model": "gpt-4o-mini"}, budget={"usd": 1}).price_sources
    with pytest.raises(ConfigError, match=r"endpoints.e has no price; give it .*synth-async\[prices\]"):
        loaded(tmp_path, {"base_url": OPENAI, "model": "no-such-model"}, budget={"usd": 1})


def test_without_the_package_nothing_is_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A price is unknown then, and no import is tried."""
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    assert loaded(tmp_path, {"base_url": OPENAI, "model": "gpt-4o-mini"}).config.endpoints["e"].price is None
