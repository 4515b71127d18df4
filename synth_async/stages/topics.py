"""Seed topics: what is asked of the model, what is read from its answer, and when it has nothing new to say."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from synth_async.config.models import Config
from synth_async.records import ChatRequest, Message, Stage, Topic
from synth_async.stages.dedup import Deduplicator, Sketch
from synth_async.stages.filters.refusals import refusal_in_opening
from synth_async.stages.keys import request_key
from synth_async.stages.templates import CATEGORIES_PROMPT, TOPICS_PROMPT, render

__all__ = [
    "DRY_BATCHES",
    "PARALLEL_BATCHES",
    "TopicBatch",
    "TopicPool",
    "categories_request",
    "planned_topics_request",
    "read_topic_lines",
    "topics_request",
]

PARALLEL_BATCHES = 8
"""Batches in flight at once."""

DRY_BATCHES = 3

_ANGLES = (
    "everyday cases that come up all the time",
    "edge cases that are rare but real",
    "tricky cases in which the obvious answer is wrong",
    "people who are new to it and use their own words",
    "experts who ask about details",
    "people who are upset, worried or in a hurry",
    "several problems at once",
    "cases in which money, deadlines or risk are at stake",
)
"""What a batch leans towards, in turn: batches that do not see one another still bring different topics."""

_EVOLUTIONS = (
    "go deeper: the same situation with a complication, a constraint or a detail that changes the right answer",
    "go broader: a neighbouring situation that another kind of person runs into",
    "are trickier: the obvious answer would be wrong, or two wishes conflict",
)
"""How topics grow out of existing ones (after the in-depth and in-breadth evolving of WizardLM, Xu et al. 2023)."""

_DRY_SHARE = 0.10
_KNOWN_SHOWN = 40
_EVOLVED_SHOWN = 10
_CATEGORIES_SAMPLE = -1
"""Stands where batches have their number, so that no batch has the key of the request for categories."""

_LONGEST = 400
_SIMILARITY = 0.90
_SHINGLE = 3
# A mark needs the space behind it: "3D printer", "24-hour refund" and "1.5 kg parcel" begin with what they are about.
_LEADING_MARK = re.compile(r"(?:[-*+•‣–—>]+|[(\[]?\d{1,5}[.):\]]|\(?[a-zA-Z]\)|topic(?: \d{1,5})?:)\s+", re.IGNORECASE)
_HEADING = re.compile(r"#{1,6}\s|here (?:are|is)\b|(?:sure|certainly|of course)[,!.]|```", re.IGNORECASE)
_EMPHASIS = re.compile(r"\*\*|__|`")
_QUOTES = (('"', '"'), ("“", "”"), ("'", "'"), ("‘", "’"), ("*", "*"), ("_", "_"))
_THOUGHTS = re.compile(r"<(think|thinking|thought)>.*?(?:</\1>|\Z)", re.IGNORECASE | re.DOTALL)
_THOUGHTS_END = re.compile(r".*</(?:think|thinking|thought)>", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class TopicBatch:
    """One batch to ask for; `number` counts from 0 in the run. Where it `evolves`, it grows out of the topics shown."""

    number: int
    count: int
    category: str | None = None
    evolves: bool = False


def topics_request(config: Config, context: str, batch: TopicBatch, known: Sequence[str]) -> ChatRequest:
    """The request for a batch: so many topics, none of them like the `known` ones shown to it, or grown out of them."""
    chance = random.Random(f"{config.seed}/topics/{batch.number}")
    most_shown = _EVOLVED_SHOWN if batch.evolves else _KNOWN_SHOWN
    prompt = render(
        config.topics.prompt or TOPICS_PROMPT,
        domain=config.domain,
        system_prompt=config.system_prompt,
        context=context,
        count=batch.count,
        known=chance.sample(list(known), min(most_shown, len(known))),
        angle=_ANGLES[batch.number % len(_ANGLES)],
        category=batch.category,
        evolve=_EVOLUTIONS[batch.number % len(_EVOLUTIONS)] if batch.evolves else "",
    )
    return planned_topics_request(config, batch.number, ({"role": "user", "content": prompt},))


def planned_topics_request(config: Config, number: int, messages: tuple[Message, ...]) -> ChatRequest:
    """The request for a batch whose messages were rendered when it was planned, here or by an earlier process."""
    settings, endpoint = config.topics, config.endpoints[config.endpoint_of("topics")]
    key = request_key(
        Stage.TOPICS,
        messages,
        system_prompt=config.system_prompt,
        model=endpoint.model,
        temperature=settings.temperature,
        max_tokens=settings.max_tokens,
        response_format="text",
        sample=number,
        extra_body=endpoint.extra_body,
    )
    return ChatRequest(key, Stage.TOPICS, messages, settings.temperature, settings.max_tokens, "text")


def categories_request(config: Config, count: int) -> ChatRequest:
    """The request for the names of `count` categories of the domain."""
    prompt = render(CATEGORIES_PROMPT, domain=config.domain, system_prompt=config.system_prompt, count=count)
    return planned_topics_request(config, _CATEGORIES_SAMPLE, ({"role": "user", "content": prompt},))


def read_topic_lines(content: str, *, is_cut: bool = False) -> list[str]:
    """One topic a line, with numbering, bullets, quotes and emphasis taken off, headings and fences left out.

    Reasoning before the topics is not read. The last line of an answer that was cut (`is_cut`) is no whole topic. An
    answer of one line that declines the request holds none.
    """
    lines = _THOUGHTS_END.sub("", _THOUGHTS.sub("", content)).strip().splitlines()
    if len(lines) == 1 and refusal_in_opening(lines[0]) is not None:
        return []
    topics = []
    for line in lines[:-1] if is_cut else lines:
        text = _bare(line)
        if 3 <= len(text) <= _LONGEST and not _HEADING.match(line.strip()) and not text.endswith(":"):
            topics.append(text)
    return topics


def _bare(line: str) -> str:
    """A line without what stands around its topic: marks at its head, emphasis, a pair of quotes."""
    text = " ".join(_EMPHASIS.sub("", line).split())
    while text != (bare := _unquoted(_LEADING_MARK.sub("", text, count=1))):
        text = bare
    return text


def _unquoted(text: str) -> str:
    listed = text.removesuffix(",")
    for opening, closing in _QUOTES:
        if len(listed) > 2 and listed.startswith(opening) and listed.endswith(closing):
            inner = listed[1:-1].strip()
            return text if opening in inner or closing in inner else inner
    return text


class TopicPool:
    """The topics of a run: refuses repeats, and knows when its source has run dry, category by category.

    Near-repeats are refused as well when a model is the source (`near`); a user's file is taken at its word. A source
    that `evolves` is dry when neither new topics nor ones grown out of the others come any more.
    """

    def __init__(self, *, near: bool, evolves: bool = False) -> None:
        self.topics: list[Topic] = []
        self.refused = 0
        self._evolves = evolves
        self._of_category: dict[str | None, list[Topic]] = {}
        self._seen: set[bytes] = set()
        self._index = Deduplicator(_SIMILARITY, shingle=_SHINGLE) if near else None
        self._restored: list[Topic] = []
        self._poor_batches: Counter[tuple[str | None, bool]] = Counter()

    def __len__(self) -> int:
        return len(self.topics)

    def __repr__(self) -> str:
        return f"<TopicPool topics={len(self)} refused={self.refused}>"

    def of_category(self, category: str | None) -> Sequence[Topic]:
        """The topics of a category, in the order in which they came."""
        return self._of_category.get(category, ())

    def is_dry(self, category: str | None = None) -> bool:
        """Three batches in a row brought less than a tenth of new topics, by every way that there is to ask."""
        plain_is_dry = self._poor_batches[category, False] >= DRY_BATCHES
        return plain_is_dry and (not self._evolves or self._poor_batches[category, True] >= DRY_BATCHES)

    def next_evolves(self, category: str | None = None) -> bool:
        """Whether the next batch shall grow out of what is there, as nothing new comes otherwise."""
        return self._evolves and self._poor_batches[category, False] >= DRY_BATCHES

    def new_among(self, texts: Iterable[tuple[str, str | None]], *, most: int) -> tuple[list[Topic], int]:
        """(the first `most` topics among `texts` that are new, added to the pool; how many were new in all)."""
        self._index_restored()
        taken: list[Topic] = []
        fresh = 0
        for text, category in texts:
            sketch = self._sketch(text)
            if _digest(text) in self._seen or self._is_near_repeat(sketch):
                self.refused += 1
                continue
            fresh += 1
            if len(taken) < most:
                taken.append(self._add(text, category, sketch))
        return taken, fresh

    def restore(self, texts: Iterable[tuple[str, str | None]]) -> list[Topic]:
        """Topics that an earlier process decided on: added as they are."""
        topics = [self._add(text, category, None) for text, category in texts]
        self._restored += topics
        return topics

    def note_batch(self, asked: int, fresh: int, category: str | None = None, *, evolves: bool = False) -> None:
        """Keep count of poor batches: `fresh` of `asked` topics were new."""
        way = (category, evolves)
        self._poor_batches[way] = self._poor_batches[way] + 1 if fresh < _DRY_SHARE * asked else 0

    def _index_restored(self) -> None:
        """Index what was restored, when it is compared for the first time: a run that wants no topics does not pay."""
        for topic in self._restored:
            if self._index is not None and (sketch := self._sketch(topic.text)) is not None:
                self._index.add(str(topic.index), sketch)
        self._restored.clear()

    # An index without entries is false, so it has to be asked whether it is there.

    def _sketch(self, text: str) -> Sketch | None:
        return self._index.sketch([text]) if self._index is not None else None

    def _is_near_repeat(self, sketch: Sketch | None) -> bool:
        return self._index is not None and sketch is not None and self._index.find(sketch) is not None

    def _add(self, text: str, category: str | None, sketch: Sketch | None) -> Topic:
        topic = Topic(len(self.topics), text, category)
        self.topics.append(topic)
        self._of_category.setdefault(category, []).append(topic)
        self._seen.add(_digest(text))
        if self._index is not None and sketch is not None:
            self._index.add(str(topic.index), sketch)
        return topic


def _digest(text: str) -> bytes:
    """Sixteen bytes that stand for a topic, whatever its case and white space."""
    return blake2b(" ".join(text.casefold().split()).encode("utf-8", "surrogatepass"), digest_size=16).digest()
