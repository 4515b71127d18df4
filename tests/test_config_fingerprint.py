from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from synth_async.config.fingerprint import STAGES, describe_parts, diff_parts, fingerprints
from synth_async.config.loading import load_config
from synth_async.config.models import Config

BASE = """\
name: a
domain: d
system_prompt: s
target: 10
endpoints:
  main: {model: m}
  other: {model: m}
context: {file: policy.md}
topics: {endpoint: main}
generation: {endpoint: main}
judge: {endpoint: main}
facets: {tone: [dry, warm]}
filters: {patterns: [{name: a, regex: x}]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the base config and the files that its variants name."""
    (tmp_path / "policy.md").write_text("policy", encoding="utf-8")
    (tmp_path / "other.md").write_text("other policy", encoding="utf-8")
    (tmp_path / "same.md").write_text("policy", encoding="utf-8")
    (tmp_path / "topics.txt").write_text("one\n", encoding="utf-8")
    (tmp_path / "c.yaml").write_text(BASE, encoding="utf-8")
    return tmp_path


def config(folder: Path, *overrides: str) -> Config:
    """The base config with some fields set."""
    return load_config(folder / "c.yaml", overrides).config


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("domain=x", "topics generate judge"),
        ("system_prompt=x", "topics generate judge output"),
        ("context.file=other.md", "topics generate judge"),
        ("seed=1", "topics generate"),
        ("topics.temperature=0.5", "topics"),
        ("topics.prompt='{{ domain }}'", "topics"),
        ("topics.file=topics.txt", "topics"),
        ("generation.temperature=0.5", "generate"),
        ("generation.turns=2", "generate"),
        ("facets.tone=[warm, dry]", "generate"),
        ("facets.tone={dry: 2, warm: 1}", "generate"),
        ("filters.echo=null", "filter"),
        ("filters.pii=redact", "filter"),
        ("filters.repetition.gopher=false", "filter"),
        ("filters.profanity=[darn]", "filter"),
        ("filters.language=en", "filter"),
        ("filters.patterns.0.regex=y", "filter"),
        ("judge.criteria.0.weight=2", "judge"),
        ("judge.min_score=3", "judge"),
        ("judge=null", "judge"),
        ("dedup.threshold=0.9", "dedup"),
        ("dedup=null", "dedup"),
        ("output.system_message=false", "output"),
        ("endpoints.main.model=x", "topics generate judge"),
        ("endpoints.main.extra_body={top_k: 5}", "topics generate judge"),
    ],
)
def test_a_change_moves_the_fingerprints_of_its_stages(folder: Path, override: str, changed: str) -> None:
    """A field that changes what a stage produces changes that stage's fingerprint, and no other's."""
    before, after = fingerprints(config(folder)), fingerprints(config(folder, override))
    assert [stage for stage in STAGES if before[stage] != after[stage]] == changed.split()


@pytest.mark.parametrize(
    "override",
    [
        "name=b",
        "target=99",
        "fsync=never",
        "give_up_after_s=1",
        "on_finish=true.sh",
        "context.file=same.md",
        "output.dir=elsewhere",
        "topics.count=3",
        "topics.endpoint=other",
        "generation.endpoint=other",
        "judge.endpoint=other",
        "generation.examples_per_topic=4",
        "generation.max_examples_per_topic=40",
        "endpoints.main.base_url=http://h/v1",
        "endpoints.main.api_key_env=OWN",
        "endpoints.main.rpm=5",
        "endpoints.main.tpm=5",
        "endpoints.main.max_in_flight=5",
        "endpoints.main.timeout_s=5",
        "endpoints.main.headers={a: b}",
        "endpoints.main.price={prompt: 1, completion: 2}",
    ],
)
def test_speed_place_and_amount_move_nothing(folder: Path, override: str) -> None:
    """Who answers, how fast and how many examples are wanted is no change of what is asked."""
    assert fingerprints(config(folder)) == fingerprints(config(folder, override))


def test_a_topics_file_counts_by_its_content(folder: Path) -> None:
    """With a topics file, its content alone makes the topics: not its name, the domain or a model."""
    (folder / "again.txt").write_text("one\n", encoding="utf-8")
    first = fingerprints(config(folder, "topics.file=topics.txt"))["topics"]
    assert (
        first == fingerprints(config(folder, "topics.file=again.txt", "domain=x", "endpoints.main.model=y"))["topics"]
    )
    (folder / "again.txt").write_text("two\n", encoding="utf-8")
    assert first != fingerprints(config(folder, "topics.file=again.txt"))["topics"]


def test_fingerprints_survive_a_new_process_and_a_manifest(folder: Path) -> None:
    """The value is pinned: a change of it would make every run folder look changed. Parts are plain JSON."""
    parts = describe_parts(config(folder))
    assert orjson.loads(orjson.dumps(parts)) == parts
    assert fingerprints(config(folder))["dedup"] == "8027525926148ed8d7adb37dfbd08c61"
    assert list(parts) == list(STAGES)


def test_a_diff_names_each_field_with_both_values(folder: Path) -> None:
    """A change is shown field by field, once, with the stages that it touches; long texts are cut."""
    overrides = (
        "domain=x",
        "generation.temperature=0.9",
        "judge.criteria.0.weight=2",
        f"system_prompt={'y' * 99}",
        "dedup=null",
    )
    lines = diff_parts(describe_parts(config(folder)), describe_parts(config(folder, *overrides)))
    assert lines == [
        'domain: "d" -> "x" (topics, generate, judge)',
        f'system_prompt: "s" -> "{"y" * 58}… (topics, generate, judge, output)',
        "generation.temperature: 0.8 -> 0.9 (generate)",
        "judge.criteria.helpfulness.weight: 1.0 -> 2.0 (judge)",
        "dedup.threshold: 0.8 -> (not there) (dedup)",
        'dedup.verify: "indel" -> (not there) (dedup)',
        'dedup.fields: "both" -> (not there) (dedup)',
        "dedup: (not there) -> null (dedup)",
    ]


def test_equal_configs_have_no_diff(folder: Path) -> None:
    """Nothing changed, nothing shown."""
    assert diff_parts(describe_parts(config(folder)), describe_parts(config(folder))) == []
