"""The dataset card: a README.md with the front matter that the Hugging Face hub reads.

Front matter keys: github.com/huggingface/hub-docs, datasetcard.md. The card says that the data is synthetic, which
models wrote and judged it, from which prompts, what was filtered out, and in capitals when it was only simulated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from synth_async import __version__
from synth_async.stages.conversations import Conversation

__all__ = ["CARD_MARK", "CardFacts", "card_text"]

CARD_MARK = "<!-- dataset card written by synth-async export of {name} -->"
"""Stands in a card: only a card with it is written over."""

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_SIMULATED = (
    "> **SIMULATED DATA.** The embedded endpoint wrote these examples by rule; no language model did. They serve to try"
    " a pipeline, not to train a model."
)


@dataclass(slots=True)
class CardFacts:
    """What a card tells. `splits`: name -> (file, rows); `manifest` and `metrics`: of the run, where there is one."""

    name: str
    format: str
    license: str
    splits: dict[str, tuple[str, int]] = field(default_factory=dict)
    manifest: Mapping[str, Any] | None = None
    metrics: Mapping[str, Any] | None = None
    models: Counter[str] = field(default_factory=Counter)
    judges: Counter[str] = field(default_factory=Counter)
    simulated: int = 0
    real: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def note(self, conversation: Conversation) -> None:
        """Take the models of one synthetic example from its metadata."""
        for key, counts in (("model", self.models), ("judge_model", self.judges)):
            name = conversation.metadata.get(key)
            if isinstance(name, str):
                counts[name] += 1
        self.simulated += conversation.metadata.get("simulated") is True

    @property
    def is_simulated(self) -> bool:
        return self.simulated > 0 or bool(self.manifest and self.manifest.get("simulated"))

    @property
    def file(self) -> str:
        """The file of the examples for training."""
        return self.splits["train"][0]

    @property
    def rows(self) -> int:
        return sum(rows for _, rows in self.splits.values())


def card_text(facts: CardFacts) -> str:
    """The card, front matter included."""
    front = yaml.safe_dump(_front_matter(facts), sort_keys=False, allow_unicode=True, width=120)
    return f"---\n{front}---\n{CARD_MARK.format(name=facts.file)}\n\n" + "\n".join(_body(facts)) + "\n"


def _front_matter(facts: CardFacts) -> dict[str, Any]:
    tags = ["synthetic", "synth-async", *(["simulated"] if facts.is_simulated else [])]
    files = [{"split": name, "path": file} for name, (file, _) in facts.splits.items()]
    return {
        "pretty_name": facts.name,
        "license": facts.license,
        "task_categories": ["text-generation"],
        "size_categories": [next((name for bound, name in _SIZES if facts.rows < bound), "n>1M")],
        "annotations_creators": ["machine-generated"],
        "language_creators": ["machine-generated", *(["found"] if facts.real else [])],
        "tags": tags,
        "configs": [{"config_name": "default", "data_files": files}],
    }


def _body(facts: CardFacts) -> Iterator[str]:
    yield f"# {facts.name}\n"
    if facts.is_simulated:
        yield f"{_SIMULATED}\n"
    kind = "Synthetic" if not facts.real else "Synthetic and real"
    yield f"{kind} examples for fine-tuning, in the format `{facts.format}`, made with synth-async {__version__}.\n"
    yield "| split | file | examples |\n|---|---|---|"
    yield from (f"| {name} | `{file}` | {rows:,} |" for name, (file, rows) in facts.splits.items())
    if facts.real:
        yield f"\n{facts.real:,} of the examples for training are real; the others were written by a model."
    yield from _models(facts)
    yield from _made_from(facts.manifest or {})
    yield from _funnel(facts)
    yield "\n## Licence\n"
    if facts.license == "unknown":
        yield "Not stated yet. The terms of the models that wrote the data bind what it may be used for."
    else:
        yield f"`{facts.license}`, as the exporter states. The terms of the models that wrote the data apply as well."


def _models(facts: CardFacts) -> Iterator[str]:
    if facts.models or facts.judges:
        yield "\n## Models\n"
    for title, counts in (("written by", facts.models), ("judged by", facts.judges)):
        yield from (f"* {title} `{name}`: {count:,} examples" for name, count in counts.most_common())


def _made_from(manifest: Mapping[str, Any]) -> Iterator[str]:
    """What was asked, and what had to hold: the parts of the run's manifest, key by key."""
    parts = manifest.get("parts") or {}
    for title, names in (
        ("Prompts", ("topics", "generate")),
        ("Filters, judge and dedup", ("filter", "judge", "dedup")),
    ):
        settings = {key: value for name in names for key, value in (parts.get(name) or {}).items() if value is not None}
        if settings:
            yield f"\n## {title}\n\n```yaml\n{_yaml(settings)}\n```"


def _yaml(settings: Mapping[str, Any]) -> str:
    # no text of a prompt may end the block that it is shown in
    return yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True, width=110).rstrip().replace("```", "'''")


def _funnel(facts: CardFacts) -> Iterator[str]:
    metrics = facts.metrics or {}
    rejected = metrics.get("rejected") or {}
    if metrics.get("asked"):
        counts = f"Of {metrics['asked']:,} examples asked for, {metrics.get('accepted', 0):,} were accepted by the run."
        yield f"\n## What was left out\n\n{counts} Rejected:\n"
        yield from (f"* {reason}: {count:,}" for reason, count in rejected.items())
    if facts.dropped:
        yield "\nLeft out by the export:\n" if metrics.get("asked") else "\n## What was left out\n"
        yield from (f"* {reason}: {count:,}" for reason, count in facts.dropped.most_common())
