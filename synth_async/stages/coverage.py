"""The planner: which task is worth issuing next, so that the run ends with exactly its target of accepted examples.

The planner is asked, it never pushes. It issues while what is accepted, plus what the tasks under way are expected to
bring at the present yield, is short of the target; so little is paid for beyond it. Topics are used in turn, one sample
each, so a run that ends early has seen many topics once rather than few topics often. When the first round is used up
it wants more topics; when there are none to be had, topics are sampled again up to `max_examples_per_topic`.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Iterable
from enum import StrEnum

from synth_async.config.models import Config
from synth_async.records import Topic

__all__ = ["Planner", "StopReason"]

YIELD_WINDOW = 2000
YIELD_FLOOR = 0.02


class StopReason(StrEnum):
    """Why no further task is issued."""

    TARGET = "target"
    YIELD = "yield"
    TOPICS = "topics"


class Planner:
    """Counts what is accepted and under way, and decides which (topic, sample index) comes next."""

    def __init__(self, config: Config) -> None:
        self.accepted = 0
        self.decided = 0
        self.outstanding = 0
        self.undecided = 0
        self.backlog = 0
        self.source_is_dry = False
        self._target = config.target
        self._per_round = config.generation.examples_per_topic
        self._most = config.generation.max_examples_per_topic
        self._first_count = config.topic_count
        self._allowed = self._per_round
        self._topics: list[Topic] = []
        self._used = array("L")
        self._turn: deque[int] = deque()
        self._turn_is_sorted = True
        self._recent: deque[bool] = deque(maxlen=YIELD_WINDOW)
        self._recent_accepted = 0

    def __repr__(self) -> str:
        return (
            f"<Planner accepted={self.accepted}/{self._target} outstanding={self.outstanding} decided={self.decided}"
            f" topics={len(self._topics)} yield={self.expected_yield:.2f}>"
        )

    # --- what happened ---------------------------------------------------------------------------

    def add_topics(self, topics: Iterable[Topic]) -> None:
        """More topics to draw from, in order."""
        for topic in topics:
            self._topics.append(topic)
            self._used.append(0)
            self._turn.append(topic.index)

    def restore(self, topic: int, sample: int) -> None:
        """An earlier process planned this sample of this topic: it is not issued again."""
        if topic < len(self._used):  # the frame that brought it may be damaged
            self._used[topic] = max(self._used[topic], sample + 1)
            self._turn_is_sorted = False

    def note_issued(self) -> None:
        """A task goes under way."""
        self.outstanding += 1

    def note_decided(self, *, accepted: bool, live: bool = True) -> None:
        """A task ended in a decision; `live` when it was under way in this process."""
        self.outstanding -= live
        self.decided += 1
        self.accepted += accepted
        if len(self._recent) == YIELD_WINDOW:
            self._recent_accepted -= self._recent[0]
        self._recent.append(accepted)
        self._recent_accepted += accepted

    def note_undecided(self) -> None:
        """A task under way ended without a decision (its request found no answer): the next run tries it again."""
        self.outstanding -= 1
        self.undecided += 1

    def forget_yield(self) -> None:
        """Earlier decisions say nothing about what comes next: the yield is counted from here."""
        self._recent.clear()
        self._recent_accepted = 0

    # --- what to do ------------------------------------------------------------------------------

    @property
    def expected_yield(self) -> float:
        """Share of tasks that are expected to be accepted, from the last 2,000 decisions, hopeful at the start."""
        return (self._recent_accepted + 1) / (len(self._recent) + 1)

    @property
    def target_is_met(self) -> bool:
        return self.accepted >= self._target

    @property
    def wants_task(self) -> bool:
        """Whether what is under way will probably not do."""
        return self.accepted + self.outstanding * self.expected_yield < self._target

    def next_sample(self) -> tuple[Topic, int] | None:
        """The next (topic, sample index), or None while there is no topic to draw from."""
        if not self._has_turn():
            return None
        index = self._turn.popleft()
        sample = self._used[index]
        self._used[index] += 1
        if sample + 1 < self._allowed:
            self._turn.append(index)
        return self._topics[index], sample

    def topics_wanted(self) -> int:
        """How many topics the source should have brought in all, for the target to be met by first-round samples."""
        missing = self._target - self.accepted
        if missing <= 0 or self._has_turn() or len(self._topics) < self._first_count:
            return self._first_count
        short = missing / max(self.expected_yield, YIELD_FLOOR) - self.outstanding
        return max(self._first_count, len(self._topics) + math.ceil(max(0.0, short) / self._per_round))

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
        return self.source_is_dry and not self.backlog and not self._has_turn()

    def _has_turn(self) -> bool:
        """Whether a topic may be sampled now. Those used up are passed over, and a round is opened when it is due."""
        if not self._turn_is_sorted:
            self._turn = deque(sorted(self._turn, key=self._used.__getitem__))
            self._turn_is_sorted = True
        while self._turn and self._used[self._turn[0]] >= self._allowed:
            self._turn.popleft()
        # Once the source brings no new topics, every topic is allowed more samples.
        while not self._turn and self.source_is_dry and self._topics and self._allowed < self._most:
            self._allowed = min(self._most, self._allowed + self._per_round)
            open_again = [index for index, used in enumerate(self._used) if used < self._allowed]
            self._turn.extend(sorted(open_again, key=self._used.__getitem__))
        return bool(self._turn)
