"""What `revise`, `mode: preference` and `judge.mode: pairwise` need, and with what they make no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_config import small_config

from synth_async.config.fingerprint import fingerprints
from synth_async.config.loading import load_config
from synth_async.config.models import Config, Revise
from synth_async.errors import ConfigError
from synth_async.pipeline.manifest import decision_fingerprint

_BASE = "name: a\ndomain: d\nsystem_prompt: s\ntarget: 10\nendpoints: {main: {model: m}}\n"
_PREFERENCE = "mode: preference\n"


def _problem(folder: Path, text: str) -> tuple[str, str]:
    """Key and message of the only mistake that a text holds."""
    path = folder / "c.yaml"
    path.write_text(_BASE + text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    (problem,) = caught.value.problems
    return problem.key, problem.message


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("judge: null\nrevise: 1\n", "revise", "judge is null"),
        (f"{_PREFERENCE}judge: null\n", "mode", "judge is null"),
        (f"{_PREFERENCE}revise: 1\n", "revise", "is the rejected side"),
        ("judge: {mode: pairwise}\n", "judge.mode", "of mode: preference"),
        ("preference: {samples: 4}\n", "preference", "is for mode: preference"),
        (f"{_PREFERENCE}preference: {{samples: 1}}\n", "preference.samples", "name a rejected_endpoint"),
        (f"{_PREFERENCE}preference: {{rejected_endpoint: other}}\n", "preference.rejected_endpoint", "there is main"),
        (f"{_PREFERENCE}judge: {{mode: pairwise}}\npreference: {{margin: 1}}\n", "preference.margin", "no scores"),
        (f"{_PREFERENCE}dedup: {{fields: both}}\n", "dedup.fields", "the prompts are compared"),
        ("revise: 4\n", "revise", "must be at most 3, got 4"),
        ("revise: {times: 4}\n", "revise.times", "must be at most 3"),
        ("revise: {band: 0}\n", "revise.band", "must be above 0"),
        (f"{_PREFERENCE}preference: {{margin: 0}}\n", "preference.margin", "must be above 0"),
        ("mode: dpo\n", "mode", "must be one of chat, preference"),
    ],
)
def test_what_cannot_be_is_told_at_its_key(tmp_path: Path, text: str, key: str, words: str) -> None:
    """One mistake, at the key that has to change, in words that say why."""
    found = _problem(tmp_path, text)
    assert found[0] == key
    assert words in found[1]


def test_a_number_is_short_for_how_often() -> None:
    """0 and false are none; a section can set the band alone."""
    assert small_config(revise=1).revise == Revise(times=1, band=1.0)
    assert small_config(revise=0).revise is small_config(revise=False).revise is None
    assert small_config(revise={"band": 0.5}).revise == Revise(times=1, band=0.5)


def test_a_dataset_of_preferences_compares_prompts() -> None:
    """`dedup.fields` is what tells duplicates of chats; of preferences it is the user's side."""
    assert small_config().compared_fields == "both"
    assert small_config(dedup={"fields": "assistant"}).compared_fields == "assistant"
    assert small_config(mode="preference").compared_fields == "user"


def _with_weaker(**weaker: Any) -> Config:
    main = {"base_url": "http://localhost/v1", "model": "m"}
    changes = {stage: {"endpoint": "only"} for stage in ("topics", "generation", "judge")}
    endpoints = {"only": main, "weak": {**main, "model": "w", **weaker}}
    return small_config(mode="preference", endpoints=endpoints, preference={"rejected_endpoint": "weak"}, **changes)


def test_the_weaker_endpoint_is_used_and_needs_its_price() -> None:
    """It is opened, forecast and budgeted like the others."""
    assert _with_weaker().used_endpoints == ["only", "weak"]
    unpriced = _with_weaker().model_dump(mode="json", exclude_unset=True) | {"budget": {"usd": 1}}
    unpriced["endpoints"]["only"]["price"] = {"prompt": 1, "completion": 1}
    with pytest.raises(ValueError, match="weak has no price"):
        Config.model_validate(unpriced)


def test_what_decides_is_part_of_the_decisions_fingerprint() -> None:
    """Revision, mode, margin and the weaker model change it; a config without them has the one that it always had."""
    plain = small_config()
    changed = [
        small_config(revise=1),
        small_config(revise=2),
        small_config(mode="preference"),
        small_config(mode="preference", judge={"mode": "pairwise"}),
        small_config(mode="preference", preference={"margin": 2}),
        _with_weaker(),
        _with_weaker(model="other"),
    ]
    found = {decision_fingerprint(config) for config in (plain, *changed)}
    assert len(found) == 1 + len(changed)
    assert fingerprints(plain)["generate"] == fingerprints(small_config(revise=1))["generate"]
