"""What becomes of an answer: the decisions between a completion and an accepted example, in their order.

`examine` (parse, redact, filter, screen) runs before the judge is paid; `admit` (score, dedup, target) after. Both are
plain functions of their input and of what has been accepted so far, so that a run taken up again decides the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from synth_async.config.models import Config
from synth_async.records import Completion, Drop, DropReason, Example, Message, Stage, Task, Verdict
from synth_async.stages.dedup import PACKED_BYTES, Deduplicator, Sketch, TextOf, unpack
from synth_async.stages.few_shot import CopyCheck
from synth_async.stages.filters import build_filters, build_redaction, first_breach, prompt_texts
from synth_async.stages.generation import is_conversation
from synth_async.stages.judging import low_score
from synth_async.stages.parsing import read_example
from synth_async.stages.planner import Planner, labels_of

__all__ = ["OVER_TARGET", "Candidate", "Curation", "Rejected"]

OVER_TARGET = Drop(Stage.TARGET, DropReason.OVER_TARGET, "beyond the target; used first when it is raised")
"""What becomes of an answer that was paid for and is not needed."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An example that has passed all that costs nothing. `screened` is the size of the index it was looked up in."""

    example: Example
    sketch: Sketch | None
    screened: int = 0


@dataclass(frozen=True, slots=True)
class Rejected:
    """A drop, with the example where the answer could be read."""

    drop: Drop
    example: Example | None


class Curation:
    """The filters, and the index of what has been accepted. `examples` are those that no answer may copy."""

    def __init__(self, config: Config, examples: Sequence[Sequence[Message]] = ()) -> None:
        self._config = config
        self._copies = CopyCheck(examples) if examples else None
        self._filters = build_filters(config.filters, prompts=prompt_texts(config))
        self._redact = build_redaction(config.filters)
        settings = config.dedup
        self._index = Deduplicator(settings.threshold, settings.verify, settings.fields) if settings else None

    def __repr__(self) -> str:
        return f"<Curation filters={len(self._filters)} index={self._index!r}>"

    def read(self, task: Task, completion: Completion) -> Example | Rejected:
        """The example in an answer, redacted where the config wants it, or why there is none."""
        example = read_example(task, completion, turns=self._config.generation.turns if is_conversation(task) else 1)
        return Rejected(example, None) if isinstance(example, Drop) else self._redact(example)

    def examine(self, task: Task, completion: Completion) -> Candidate | Rejected:
        """A candidate for the judge, or why it is none: the like of an accepted example can never get in."""
        example = self.read(task, completion)
        if isinstance(example, Rejected):
            return example
        if (breach := first_breach(example, self._filters)) is not None:
            return Rejected(breach, example)
        if self._copies is not None and (copied := self._copies.breach(example)) is not None:
            return Rejected(copied, example)
        candidate = Candidate(example, self.sketch(example))
        duplicate = self._duplicate(candidate, Stage.SCREEN)
        if duplicate is not None:
            return Rejected(duplicate, example)
        return replace(candidate, screened=len(self._index) if self._index is not None else 0)

    def admit(self, candidate: Candidate, verdict: Verdict | None, planner: Planner) -> Drop | None:
        """A drop (low score, like one accepted meanwhile, over the target or a share), or None: then `accept` it."""
        if verdict is not None and self._config.judge is not None:
            drop = low_score(self._config.judge, verdict)
            if drop is not None:
                return drop
        duplicate = self._duplicate(candidate, Stage.DEDUP)
        if duplicate is not None or planner.target_is_met:
            return duplicate or OVER_TARGET
        labels = verdict.labels if verdict is not None else {}
        return planner.coverage.over_share(planner.coverage.counted(labels_of(candidate.example.task), labels))

    def accept(self, example: Example, sketch: Sketch | None) -> None:
        """Put an accepted example into the index."""
        if self._index is not None and sketch is not None:
            self._index.add(example.id, sketch)

    @property
    def stamp(self) -> str | None:
        """What packed examples depend on; None where dedup is off."""
        return None if self._index is None else self._index.stamp

    def packed(self, example: Example, sketch: Sketch) -> bytes:
        """An accepted example as a record for `restore`."""
        if self._index is None:
            raise AssertionError("there is no sketch where dedup is off")
        return self._index.packed(example.id, sketch)

    def restore(self, records: bytes | bytearray, count: int, text_of: TextOf) -> None:
        """Put the first `count` packed examples into the index; see `Deduplicator.restore`."""
        if self._index is not None and count:
            self._index.restore(unpack(memoryview(records)[: count * PACKED_BYTES]), text_of)

    def compared_text(self, example: Example) -> str:
        """The text by which an example is compared with others."""
        return "" if self._index is None else self._index.text_of_messages(example.messages)

    def sketch(self, example: Example) -> Sketch | None:
        """What the index compares; None where dedup is off."""
        return None if self._index is None else self._index.sketch_messages(example.messages)

    def _duplicate(self, candidate: Candidate, stage: Stage) -> Drop | None:
        if self._index is None or candidate.sketch is None:
            return None
        match = self._index.find(candidate.sketch, since=candidate.screened)
        if match is None:
            return None
        if match.exact:
            return Drop(stage, DropReason.EXACT_DUPLICATE, f"same text as {match.kept}")
        return Drop(stage, DropReason.NEAR_DUPLICATE, f"{match.similarity:.3f} like {match.kept}")
