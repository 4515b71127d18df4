"""Where topics come from while a run goes on: batches asked of the model, or a file. What is taken is journaled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import anyio
import anyio.lowlevel

from synth_async.config.models import Config
from synth_async.errors import RequestRejected, TransientFailure
from synth_async.pipeline.ledger import Ledger
from synth_async.records import ChatRequest, Completion, Topic
from synth_async.stages.coverage import Planner
from synth_async.stages.topics import DRY_BATCHES, PARALLEL_BATCHES, TopicPool, read_topic_lines, topics_request
from synth_async.store.frames import NO_KEY

__all__ = ["TopicSource"]

_FILE_BATCH = 500


class TopicSource:
    """Keeps the planner in topics: `run` until the source is dry, `wake` when the planner may want more."""

    def __init__(
        self,
        config: Config,
        context: str,
        *,
        listed: Sequence[Topic],
        pool: TopicPool,
        ends: list[int],
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
        self._ends = ends
        self._planner = planner
        self._ledger = ledger
        self._ask = ask
        self._on_topics = on_topics
        self._may_want = asyncio.Event()
        self._next_batch = len(ends)
        self._read: dict[int, tuple[str, list[str] | None]] = {}
        self._unanswered_in_a_row = 0
        self._most_wanted = 0
        self._batch_size = min(config.topics.batch_size, config.topic_count)
        batches = -(-config.topic_count // self._batch_size)
        self._parallel = max(1, min(PARALLEL_BATCHES, batches // 2))

    def __repr__(self) -> str:
        return f"<TopicSource {self._pool!r} batches={len(self._ends)}+{self._next_batch - len(self._ends)}>"

    def wake(self) -> None:
        """Something was decided: look again whether more topics are wanted."""
        self._may_want.set()

    async def run(self) -> None:
        """Bring topics until the source is dry."""
        if self._config.topics.file is not None:
            await self._take_listed()
        else:
            await self._ask_model()
        self._planner.source_is_dry = True
        self._on_topics()

    # --- a file ----------------------------------------------------------------------------------

    async def _take_listed(self) -> None:
        rows = [(topic.text, topic.category) for topic in self._listed]
        for start in range(0, len(rows), _FILE_BATCH):
            self._take(NO_KEY, len(self._ends), rows[start : start + _FILE_BATCH], asked=0, most=_FILE_BATCH)
            await anyio.lowlevel.checkpoint()

    # --- the model -------------------------------------------------------------------------------

    async def _ask_model(self) -> None:
        async with anyio.create_task_group() as batches:
            while not self._pool.is_dry and self._unanswered_in_a_row < DRY_BATCHES:
                self._may_want.clear()
                if self._wants_batch():
                    batches.start_soon(self._ask_batch, self._next_batch)
                    self._next_batch += 1
                else:
                    await self._may_want.wait()
            batches.cancel_scope.cancel()

    def _wants_batch(self) -> bool:
        under_way = self._next_batch - len(self._ends)
        expected = len(self._pool) + under_way * self._batch_size
        wanted = self._planner.topics_wanted()
        self._most_wanted = max(self._most_wanted, wanted)
        return under_way < self._parallel and expected < wanted

    async def _ask_batch(self, batch: int) -> None:
        # What a batch is told depends on its number only, so that a resumed run asks the same and finds the answer.
        known_batches = batch + 1 - self._parallel
        known = [topic.text for topic in self._pool.topics[: self._ends[known_batches - 1] if known_batches > 0 else 0]]
        model = self._config.endpoints[self._config.endpoint_of("topics")].model
        request = topics_request(self._config, self._context, batch, self._batch_size, known, model)
        try:
            completion = await self._ask(request)
        except (RequestRejected, TransientFailure) as failure:
            self.last_failure = str(failure)
            self._read[batch] = (request.key, None)
        else:
            texts = read_topic_lines(completion.content or "", is_cut=completion.finish_reason == "length")
            self._read[batch] = (request.key, texts)
        self._merge()

    def _merge(self) -> None:
        """Take what was read in the order of the batches, whichever answer came first."""
        while (batch := len(self._ends)) in self._read:
            key, texts = self._read.pop(batch)
            if texts is None:
                # No answer says nothing about the topics that are left. It is not journaled: the next run asks again.
                self._unanswered_in_a_row += 1
                self._ends.append(len(self._pool))
                continue
            self._unanswered_in_a_row = 0
            # What was wanted when the batch was asked for is paid for, so it is taken even if fewer would do by now.
            most = max(0, self._most_wanted - len(self._pool))
            self._take(key, batch, [(text, None) for text in texts], asked=self._batch_size, most=most)
        self._may_want.set()

    def _take(self, key: str, batch: int, rows: list[tuple[str, str | None]], *, asked: int, most: int) -> None:
        topics, fresh = self._pool.new_among(rows, most=most)
        if asked:
            self._pool.note_batch(asked, fresh)
        if asked or topics:
            self._ledger.found_topics(key, batch, topics, asked=asked, fresh=fresh)
            self._ends.append(len(self._pool))
        self._ledger.tally.topics = len(self._pool)
        self._planner.add_topics(topics)
        self._on_topics()
