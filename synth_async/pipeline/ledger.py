"""The ledger: every event of a run in one place, in one order: the journal first, then the files, then the counts."""

from __future__ import annotations

from synth_async.config.models import Config
from synth_async.pipeline.budget import Budget
from synth_async.pipeline.frames import CATEGORIES, TOPICS, answer_frame, batch_frame, decision_frame, task_frame
from synth_async.records import ChatRequest, Drop, Example, Task, Topic, Verdict
from synth_async.report.metrics import Tally
from synth_async.stages.lines import dataset_line, rejects_line
from synth_async.stages.topics import TopicBatch
from synth_async.store.frames import Frame
from synth_async.store.journal import Journal
from synth_async.store.jsonl import ShadowFile

__all__ = ["Ledger"]


class Ledger:
    """Writes what happens; decides nothing. One `fingerprint` marks every decision that it writes."""

    def __init__(
        self, config: Config, journal: Journal, dataset: ShadowFile, rejects: ShadowFile, *, fingerprint: str
    ) -> None:
        self.journal = journal
        self.dataset = dataset
        self.rejects = rejects
        self.fingerprint = fingerprint
        self.tally = Tally()
        self.budget: Budget | None = None
        self._config = config
        self._prices = {
            (name, in_batches): (price.prompt, price.completion)
            for name in config.endpoints
            for in_batches in (False, True)
            if (price := config.price_of(name, in_batches=in_batches)) is not None
        }

    def __repr__(self) -> str:
        return f"<Ledger accepted={self.tally.accepted} {self.journal!r}>"

    def planned(self, task: Task) -> None:
        """A task was planned; no request for it has been sent yet."""
        self.journal.append(task_frame(task))
        self.tally.asked += 1

    def answered(self, request: ChatRequest, attempt: int, endpoint: str, body: bytes) -> None:
        """A raw answer came in."""
        lease = self.budget.lease_of(request.key) if self.budget is not None else None
        self.journal.append(answer_frame(request, attempt, endpoint, body, lease))

    def note_spent(self, endpoint: str, prompt: int, completion: int, *, in_batches: bool = False) -> None:
        """Tokens that answers were charged; an endpoint that the config no longer names has no known price."""
        self.tally.note_usage(prompt, completion, self._prices.get((endpoint, in_batches)))

    def found_categories(self, key: str, names: list[str]) -> None:
        """The model named the categories."""
        self.journal.append(Frame(key, CATEGORIES, {"names": names}))

    def planned_topics(self, request: ChatRequest, batch: TopicBatch) -> None:
        """A batch of topics was planned; no request for it has been sent yet."""
        self.journal.append(batch_frame(request, batch))

    def found_topics(self, key: str, batch: TopicBatch, topics: list[Topic], *, fresh: int) -> None:
        """A batch of topics was read: `fresh` of them were new, `topics` are taken."""
        rows = [[topic.text, topic.category] for topic in topics]
        way = {"category": batch.category, "evolves": batch.evolves}
        fields = {"batch": batch.number, "asked": batch.count, **way, "fresh": fresh, "topics": rows}
        self.journal.append(Frame(key, TOPICS, fields))

    def accepted(self, example: Example, verdict: Verdict | None, *, in_place: bool = False) -> int:
        """An example was accepted; returns the place of that in the journal."""
        place = self.journal.append(
            decision_frame(example.task.key, self.fingerprint, None, verdict, example=example, in_place=in_place)
        )
        self.confirm_accepted(example, verdict)
        return place

    def rejected(
        self, task: Task, drop: Drop, example: Example | None, verdict: Verdict | None, *, in_place: bool = False
    ) -> None:
        """A task was dropped."""
        self.journal.append(
            decision_frame(task.key, self.fingerprint, drop, verdict, example=example, in_place=in_place)
        )
        self.confirm_rejected(task, drop, example, verdict)

    def confirm_accepted(self, example: Example, verdict: Verdict | None) -> None:
        """An acceptance that the journal holds: see that its line is there."""
        self.dataset.confirm(dataset_line(self._config, example, verdict))
        self.tally.note_accepted(judged=verdict is not None)
        self.tally.note_made(example, accepted=True)

    def confirm_rejected(self, task: Task, drop: Drop, example: Example | None, verdict: Verdict | None) -> None:
        """A drop that the journal holds: see that its line is there."""
        self.rejects.confirm(rejects_line(self._config, task, drop, example, verdict))
        self.tally.note_rejected(drop, judged=verdict is not None)
        if example is not None:
            self.tally.note_made(example, accepted=False)
