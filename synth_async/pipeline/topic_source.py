"""Where topics come from while a run goes on: batches asked of the model, or a file.

What a batch asks for depends on what is there and what is short at that moment, so it is journaled before it is sent: a
run taken up again asks the same, and finds the answer if there was one. What is taken from an answer is journaled too.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import anyio
import anyio.lowlevel

from synth_async.config.models import Config
from synth_async.errors import RequestRejected, TransientFailure
from synth_async.pipeline.ledger import Ledger
from synth_async.records import ChatRequest, Completion, Message, Topic
from synth_async.stages.planner import Planner
from synth_async.stages.topics import (
    DRY_BATCHES,
    PARALLEL_BATCHES,
    TopicBatch,
    TopicPool,
    categories_request,
    planned_topics_request,
    read_topic_lines,
    topics_request,
)
from synth_async.store.frames import NO_KEY

__all__ = ["PlannedBatch", "TopicSource"]

PlannedBatch = tuple[TopicBatch, tuple[Message, ...]]
"""A batch and its messages as they were rendered."""

_FILE_BATCH = 500
_LEAST_BATCH = 5


class TopicSource:
    """Keeps the planner in topics: `run` until the source is dry, `wake` when the planner may want more."""

    def __init__(
        self,
        config: Config,
        context: str,
        *,
        listed: Sequence[Topic],
        pool: TopicPool,
        batches: int,
        unread: Sequence[PlannedBatch],
        planner: Planner,
        ledger: Ledger,
        ask: Callable[[ChatRequest], Awaitable[Completion]],
        on_topics: Callable[[], None],
    ) -> None:
        self.last_failure = ""
        self._config = config
        self._context = context
        self._listed = listed
        self._pool = pool
        self._next_number = batches
        self._unread = list(reversed(unread))
        self._planner = planner
        self._ledger = ledger
        self._ask = ask
        self._on_topics = on_topics
        self._may_want = asyncio.Event()
        self._under_way: Counter[str | None] = Counter()
        self._most_wanted: Counter[str | None] = Counter()
        self._unanswered_in_a_row = 0
        self._batch_size = min(config.topics.batch_size, config.topic_count)
        self._parallel = max(1, min(PARALLEL_BATCHES, -(-config.topic_count // self._batch_size) // 2))

    def __repr__(self) -> str:
        return f"<TopicSource {self._pool!r} batches={self._next_number} under_way={self._under_way.total()}>"

    def wake(self) -> None:
        """Something was decided: look again whether more topics are wanted."""
        self._may_want.set()

    async def run(self) -> None:
        """Bring topics until the source is dry."""
        if self._config.topics.file is not None:
            await self._take_listed()
        else:
            await self._find_categories()
            await self._ask_model()
        self._planner.note_all_dry()
        self._on_topics()

    # --- a file ----------------------------------------------------------------------------------

    async def _take_listed(self) -> None:
        rows = [(topic.text, topic.category) for topic in self._listed]
        for start in range(0, len(rows), _FILE_BATCH):
            topics, _ = self._pool.new_among(rows[start : start + _FILE_BATCH], most=_FILE_BATCH)
            if topics:
                batch = TopicBatch(self._next_number, 0)
                self._next_number += 1
                self._take(NO_KEY, batch, topics, fresh=len(topics))
            await anyio.lowlevel.checkpoint()

    # --- the model -------------------------------------------------------------------------------

    async def _find_categories(self) -> None:
        """Ask for the names of the categories, where the config wants a number of them and none are known yet."""
        count = self._config.topics.categories
        if not isinstance(count, int) or self._planner.has_categories or len(self._pool):
            return
        request = categories_request(self._config, count)
        try:
            completion = await self._ask(request)
        except (RequestRejected, TransientFailure) as failure:
            self.last_failure = str(failure)
            return
        is_cut = completion.finish_reason == "length"
        names = list(dict.fromkeys(read_topic_lines(completion.content or "", is_cut=is_cut)))[:count]
        self._ledger.found_categories(request.key, names)
        self._planner.use_categories(dict.fromkeys(names, 1.0))

    async def _ask_model(self) -> None:
        async with anyio.create_task_group() as batches:
            while self._has_more_to_come() and self._unanswered_in_a_row < DRY_BATCHES:
                self._may_want.clear()
                if self._under_way.total() < self._parallel and (planned := self._next_batch()) is not None:
                    self._under_way[planned[0].category] += planned[0].count
                    batches.start_soon(self._ask_batch, *planned)
                else:
                    await self._may_want.wait()
            batches.cancel_scope.cancel()

    def _has_more_to_come(self) -> bool:
        return bool(self._unread) or not self._planner.source_is_dry

    def _next_batch(self) -> PlannedBatch | None:
        """What an earlier process planned and did not read, then a batch for the category that is most in want."""
        if self._unread:
            return self._unread.pop()
        wanted = self._wanted()
        short = {
            category: count - len(self._pool.of_category(category)) - self._under_way[category]
            for category, count in wanted.items()
            if not self._pool.is_dry(category)
        }
        category = max(short, key=short.__getitem__, default=None)
        if not short or short[category] <= 0:
            return None
        evolves = self._pool.next_evolves(category) and bool(self._pool.of_category(category))
        count = min(self._batch_size, max(_LEAST_BATCH, 2 * short[category]))
        batch = TopicBatch(self._next_number, count, category, evolves)
        self._next_number += 1
        known = [topic.text for topic in self._pool.of_category(category)]
        request = topics_request(self._config, self._context, batch, known)
        self._ledger.planned_topics(request, batch)
        return batch, request.messages

    def _wanted(self) -> dict[str | None, int]:
        """Topics that the source should have brought of each category."""
        wanted = self._planner.topics_wanted()
        for category, count in wanted.items():
            self._most_wanted[category] = max(self._most_wanted[category], count)
        return wanted

    async def _ask_batch(self, batch: TopicBatch, messages: tuple[Message, ...]) -> None:
        request = planned_topics_request(self._config, batch.number, messages)
        try:
            completion = await self._ask(request)
        except (RequestRejected, TransientFailure) as failure:
            # No answer says nothing about the topics that are left. Nothing is journaled: the next run asks again.
            self.last_failure = str(failure)
            self._unanswered_in_a_row += 1
        else:
            self._unanswered_in_a_row = 0
            texts = read_topic_lines(completion.content or "", is_cut=completion.finish_reason == "length")
            # What was wanted when the batch was asked for is paid for, so it is taken even if fewer would do by now.
            self._wanted()
            most = max(0, self._most_wanted[batch.category] - len(self._pool.of_category(batch.category)))
            topics, fresh = self._pool.new_among([(text, batch.category) for text in texts], most=most)
            self._pool.note_batch(batch.count, fresh, batch.category, evolves=batch.evolves)
            self._take(request.key, batch, topics, fresh=fresh)
        self._under_way[batch.category] -= batch.count
        if self._pool.is_dry(batch.category):
            self._planner.note_dry(batch.category)
        self._may_want.set()

    def _take(self, key: str, batch: TopicBatch, topics: list[Topic], *, fresh: int) -> None:
        self._ledger.found_topics(key, batch, topics, fresh=fresh)
        self._ledger.tally.topics = len(self._pool)
        self._planner.add_topics(topics)
        self._on_topics()
