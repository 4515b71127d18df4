"""What becomes of an answer: the decisions between a completion and an accepted example, in their order.

`examine` (parse, redact, filter, screen) runs before the judge is paid; `admit` (score, dedup, target) after. Both are
plain functions of their input and of what has been accepted so far, so that a run taken up again decides the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from synth_async.config.models import Config
from synth_async.records import Completion, Drop, DropReason, Example, Message, Stage, Task, Verdict
from synth_async.stages.dedup import PACKED_BYTES, Deduplicator, Sketch, TextOf, unpack
from synth_async.stages.few_shot import CopyCheck
from synth_async.stages.filters import build_filters, build_redaction, first_breach, marks_in, prompt_texts
from synth_async.stages.generation import is_conversation
from synth_async.stages.parsing import read_example
from synth_async.stages.planner import Planner, labels_of
from synth_async.stages.replies import read_reply, with_reply

__all__ = ["OVER_TARGET", "Candidate", "Curation", "Rejected", "Settled"]

OVER_TARGET = Drop(Stage.TARGET, DropReason.OVER_TARGET, "beyond the target; used first when it is raised")
"""What becomes of an answer that was paid for and is not needed."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An example that has passed all that costs nothing. `screened` is the size of the index it was looked up in."""

    example: Example
    sketch: Sketch | None
    screened: int = 0


@dataclass(frozen=True, slots=True)
class Settled:
    """A candidate about which all has been asked: its verdict, and why it is dropped where that is known by now."""

    candidate: Candidate
    verdict: Verdict | None
    drop: Drop | None = None

    def with_example(self, example: Example) -> Settled:
        """The same about another form of the example."""
        return replace(self, candidate=replace(self.candidate, example=example))


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
        fields = config.compared_fields
        self._index = Deduplicator(settings.threshold, settings.verify, fields) if settings else None

    def __repr__(self) -> str:
        return f"<Curation filters={len(self._filters)} index={self._index!r}>"

    def read(self, task: Task, completion: Completion) -> Example | Rejected:
        """The example in an answer, redacted where the config wants it, or why there is none."""
        example = read_example(task, completion, turns=self._config.generation.turns if is_conversation(task) else 1)
        return Rejected(example, None) if isinstance(example, Drop) else self._redact(example)

    def read_reply(self, example: Example, completion: Completion) -> Example | Drop:
        """The example with the reply in an answer as its last one, redacted as the rest of it is."""
        reply = read_reply(completion)
        if isinstance(reply, Drop):
            return reply
        answered = self._redact(with_reply(example, reply, completion.model))
        kept = marks_in(example.messages[:-1], example.redacted)
        return replace(answered, redacted=dict(sorted((Counter(kept) + Counter(answered.redacted)).items())))

    def examine_reply(self, example: Example, completion: Completion) -> Example | Drop:
        """The example with another last reply, or what is wrong with that: all rules but those on duplicates."""
        answered = self.read_reply(example, completion)
        return answered if isinstance(answered, Drop) else self._breach(answered) or answered

    def _breach(self, example: Example) -> Drop | None:
        if (breach := first_breach(example, self._filters)) is not None:
            return breach
        return self._copies.breach(example) if self._copies is not None else None

    def examine(self, task: Task, completion: Completion) -> Candidate | Rejected:
        """A candidate for the judge, or why it is none: the like of an accepted example can never get in."""
        example = self.read(task, completion)
        if isinstance(example, Rejected):
            return example
        if (breach := self._breach(example)) is not None:
            return Rejected(breach, example)
        candidate = Candidate(example, self.sketch(example))
        duplicate = self._duplicate(candidate, Stage.SCREEN)
        if duplicate is not None:
            return Rejected(duplicate, example)
        return replace(candidate, screened=len(self._index) if self._index is not None else 0)

    def admit(self, settled: Settled, planner: Planner) -> Drop | None:
        """A drop (its own, like one accepted meanwhile, over the target or a share), or None: then `accept` it."""
        if settled.drop is not None:
            return settled.drop
        duplicate = self._duplicate(settled.candidate, Stage.DEDUP)
        if duplicate is not None or planner.target_is_met:
            return duplicate or OVER_TARGET
        return _over_share(settled.candidate, settled.verdict, planner)

    def has_room_for(self, candidate: Candidate, verdict: Verdict, planner: Planner) -> bool:
        """Whether the target and the shares would let such an example in, were it good enough."""
        return not planner.target_is_met and _over_share(candidate, verdict, planner) is None

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


def _over_share(candidate: Candidate, verdict: Verdict | None, planner: Planner) -> Drop | None:
    labels = verdict.labels if verdict is not None else {}
    return planner.coverage.over_share(planner.coverage.counted(labels_of(candidate.example.task), labels))
