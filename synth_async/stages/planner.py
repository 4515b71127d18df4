"""The planner: which task is worth issuing next, so that the run ends with exactly its target of accepted examples.

The planner is asked, it never pushes. It issues while what is accepted, plus what the tasks under way are expected to
bring at the present yield, is short of the target; so little is paid for beyond it. Topics are used in turn, one sample
each, so a run that ends early has seen many topics once rather than few topics often. Where categories are wished for,
each has a turn of its own, and the next sample comes from the category that is furthest behind its share. When the
first round of a category is used up it wants more topics; when there are none to be had, its topics are sampled again
up to `max_examples_per_topic`.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from synth_async.config.models import Config
from synth_async.records import Task, Topic
from synth_async.stages.balance import shares_of
from synth_async.stages.coverage import CATEGORY, Coverage

__all__ = ["Planner", "StopReason", "labels_of"]

YIELD_WINDOW = 2000
YIELD_FLOOR = 0.02


class StopReason(StrEnum):
    """Why no further task is issued."""

    TARGET = "target"
    YIELD = "yield"
    TOPICS = "topics"


def labels_of(task: Task) -> dict[str, str | None]:
    """What a task asks for: its category and its facets."""
    return {CATEGORY: task.topic.category, **task.facets}


@dataclass(slots=True)
class _Shelf:
    """The topics of one category (or all of them, where none is wished for), in turn."""

    share: float
    allowed: int
    topics: list[int] = field(default_factory=list)
    turn: deque[int] = field(default_factory=deque)
    turn_is_sorted: bool = True
    is_dry: bool = False
    issued: int = 0


class Planner:
    """Counts what is accepted and under way, and decides which (topic, sample index) comes next."""

    def __init__(self, config: Config) -> None:
        self.accepted = 0
        self.decided = 0
        self.outstanding = 0
        self.undecided = 0
        self.backlog = 0
        self.passed = 0
        self.coverage = Coverage(config)
        self._target = config.target
        self._per_round = config.generation.examples_per_topic
        self._most = config.generation.max_examples_per_topic
        self._first_count = config.topic_count
        self._topics: list[Topic] = []
        self._used = array("L")
        self._shelves: dict[str | None, _Shelf] = {}
        self._recent: deque[bool] = deque(maxlen=YIELD_WINDOW)
        self._recent_accepted = 0
        self.use_categories(config.topics.category_weights)

    def __repr__(self) -> str:
        return (
            f"<Planner accepted={self.accepted}/{self._target} outstanding={self.outstanding} decided={self.decided}"
            f" topics={len(self._topics)} yield={self.expected_yield:.2f}>"
        )

    # --- what happened ---------------------------------------------------------------------------

    def use_categories(self, weights: Mapping[str, float]) -> None:
        """Keep the topics of each category apart; before any topic is added. Without weights there is one shelf."""
        shares = shares_of(weights) if weights else {"": 1.0}
        self._shelves = {category or None: _Shelf(share, self._per_round) for category, share in shares.items()}
        self.coverage.wish_categories(weights)

    def add_topics(self, topics: Iterable[Topic]) -> None:
        """More topics to draw from, in order."""
        for topic in topics:
            self._topics.append(topic)
            self._used.append(0)
            if (shelf := self._shelf_of(topic)) is not None:
                shelf.topics.append(topic.index)
                shelf.turn.append(topic.index)

    def restore(self, topic: int, sample: int) -> None:
        """An earlier process planned this sample of this topic: it is not issued again."""
        if topic < len(self._used):  # the frame that brought it may be damaged
            self._used[topic] = max(self._used[topic], sample + 1)
            if (shelf := self._shelf_of(self._topics[topic])) is not None:
                shelf.turn_is_sorted = False
                shelf.issued += 1

    def note_dry(self, category: str | None = None) -> None:
        """No new topics of this category are to be had."""
        self._shelves[category].is_dry = True

    def note_all_dry(self) -> None:
        """No new topics are to be had at all."""
        for shelf in self._shelves.values():
            shelf.is_dry = True

    def note_issued(self, task: Task) -> None:
        """A task goes under way."""
        self.outstanding += 1
        self.coverage.note_issued(labels_of(task))

    def note_decided(
        self, task: Task, observed: Mapping[str, str] | None = None, *, accepted: bool, live: bool = True
    ) -> None:
        """A task ended in a decision; `live` when it was under way in this process. `observed`: the judge's labels."""
        asked = labels_of(task)
        if live:
            self.outstanding -= 1
            self.coverage.note_ended(asked)
        self.coverage.note_decided(asked, observed or {}, accepted=accepted)
        self.decided += 1
        self.accepted += accepted
        if len(self._recent) == YIELD_WINDOW:
            self._recent_accepted -= self._recent[0]
        self._recent.append(accepted)
        self._recent_accepted += accepted

    def note_undecided(self, task: Task) -> None:
        """A task under way ended without a decision (its request found no answer): the next run tries it again."""
        self.outstanding -= 1
        self.undecided += 1
        self.coverage.note_ended(labels_of(task))

    def forget_yield(self) -> None:
        """Earlier decisions say nothing about what comes next: the yield is counted from here."""
        self._recent.clear()
        self._recent_accepted = 0

    # --- what to do ------------------------------------------------------------------------------

    @property
    def expected_yield(self) -> float:
        """Share of tasks that are expected to be accepted, from the last 2,000 decisions, hopeful at the start.

        In batches all that the filters drop is known a day before the first verdict, so hope lasts for what `passed`.
        """
        return (self._recent_accepted + self.passed + 1) / (len(self._recent) + self.passed + 1)

    @property
    def target_is_met(self) -> bool:
        return self.accepted >= self._target

    @property
    def wants_task(self) -> bool:
        """Whether what is under way will probably not do."""
        return self.accepted + self.outstanding * self.expected_yield < self._target

    @property
    def source_is_dry(self) -> bool:
        """Whether no category has new topics to come."""
        return all(shelf.is_dry for shelf in self._shelves.values())

    @property
    def has_categories(self) -> bool:
        """Whether topics are kept apart by category."""
        return None not in self._shelves

    def wanted_facets(self) -> dict[str, frozenset[str]]:
        """Per axis, the values that are short of their share."""
        return self.coverage.wanted(self.expected_yield)

    def next_sample(self) -> tuple[Topic, int] | None:
        """The next (topic, sample index), or None while there is no topic to draw from."""
        shelf = self._next_shelf()
        if shelf is None:
            return None
        index = shelf.turn.popleft()
        sample = self._used[index]
        self._used[index] += 1
        shelf.issued += 1
        if sample + 1 < shelf.allowed:
            shelf.turn.append(index)
        return self._topics[index], sample

    def topics_wanted(self) -> dict[str | None, int]:
        """How many topics the source should have brought of each category, for the target to be met without resampling.

        A category that is dry or has had enough wants no more than it has.
        """
        missing = self._target - self.accepted
        short = missing / max(self.expected_yield, YIELD_FLOOR) - self.outstanding
        return {category: self._topics_wanted(category, shelf, short) for category, shelf in self._shelves.items()}

    def _topics_wanted(self, category: str | None, shelf: _Shelf, short: float) -> int:
        first_count = math.ceil(self._first_count * shelf.share)
        if shelf.is_dry:
            return len(shelf.topics)
        if self.target_is_met or len(shelf.topics) < first_count or self._has_turn(shelf):
            return first_count
        if self.has_categories:
            short = min(short, self._category_short(category))
        return max(first_count, len(shelf.topics) + math.ceil(max(0.0, short) / self._per_round))

    def _category_short(self, category: str | None) -> float:
        """Tasks that a category still needs, at the present yield."""
        return self.coverage.missing(CATEGORY, category or "") / max(self.expected_yield, YIELD_FLOOR)

    def stop_reason(self) -> StopReason | None:
        """Why nothing more shall be issued, or None. What is under way may still change the answer for `TOPICS`."""
        if self.target_is_met:
            return StopReason.TARGET
        if len(self._recent) == YIELD_WINDOW and self._recent_accepted < YIELD_FLOOR * YIELD_WINDOW:
            return StopReason.YIELD
        if self._has_nothing_to_issue and not self.outstanding:
            return StopReason.TOPICS
        return None

    @property
    def _has_nothing_to_issue(self) -> bool:
        return self.source_is_dry and not self.backlog and self._next_shelf() is None

    def _shelf_of(self, topic: Topic) -> _Shelf | None:
        return self._shelves.get(topic.category if self.has_categories else None)

    def _next_shelf(self) -> _Shelf | None:
        """The shelf that is furthest behind, among those whose category is short of its share while there are any."""
        ready = {category: shelf for category, shelf in self._shelves.items() if self._has_turn(shelf)}
        if self.has_categories:
            self._give_up_empty_categories()
            wanted = self.coverage.open_values(CATEGORY, self.expected_yield)
            if wanted is not None:
                waits = any(not shelf.is_dry for category, shelf in self._shelves.items() if category in wanted)
                # While a category that is short may still get topics, nothing is paid for in its place.
                ready = {c: shelf for c, shelf in ready.items() if c in wanted} or ({} if waits else ready)
        return min(ready.values(), key=lambda shelf: (shelf.issued + 1) / shelf.share, default=None)

    def _give_up_empty_categories(self) -> None:
        for category, shelf in self._shelves.items():
            if shelf.is_dry and not self._has_turn(shelf):
                self.coverage.give_up(CATEGORY, category or "")

    def _has_turn(self, shelf: _Shelf) -> bool:
        """Whether a topic may be sampled now. Those used up are passed over, and a round is opened when it is due."""
        if not shelf.turn_is_sorted:
            shelf.turn = deque(sorted(shelf.turn, key=self._used.__getitem__))
            shelf.turn_is_sorted = True
        while shelf.turn and self._used[shelf.turn[0]] >= shelf.allowed:
            shelf.turn.popleft()
        # Once the source brings no new topics, every topic is allowed more samples.
        while not shelf.turn and shelf.is_dry and shelf.topics and shelf.allowed < self._most:
            shelf.allowed = min(self._most, shelf.allowed + self._per_round)
            open_again = [index for index in shelf.topics if self._used[index] < shelf.allowed]
            shelf.turn.extend(sorted(open_again, key=self._used.__getitem__))
        return bool(shelf.turn)
