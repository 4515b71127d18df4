"""Generation tasks: one completion per (topic, sample index, facets), its prompt rendered when it is planned."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping

from synth_async.config.models import Config
from synth_async.records import ChatRequest, Message, Stage, Task, Topic
from synth_async.stages.keys import request_key
from synth_async.stages.templates import GENERATION_FORMAT, GENERATION_FORMAT_TURNS, GENERATION_PROMPT, render

__all__ = ["FacetPlan", "generation_request", "plan_task"]


class FacetPlan:
    """A balanced draw of one value per axis: always a value that is furthest behind its share, ties by the seed.

    Every value's count stays close to its share at any length, so variety is designed and not left to chance. The counts
    are restored from the journaled tasks with `note`.
    """

    def __init__(self, config: Config) -> None:
        self._shares = {axis: _shares(values) for axis, values in config.facets.items()}
        self._counts: dict[str, Counter[str]] = {axis: Counter() for axis in self._shares}
        self._drawn = 0
        self._seed = config.seed

    def draw(self) -> dict[str, str]:
        """The next value of every axis."""
        chance = random.Random(f"{self._seed}/facets/{self._drawn}")
        drawn = {}
        for axis, shares in self._shares.items():
            counts = self._counts[axis]
            behind = {value: share * (self._drawn + 1) - counts[value] for value, share in shares.items()}
            most = max(behind.values())
            drawn[axis] = chance.choice([value for value, gap in behind.items() if gap > most - 0.5])
        self.note(drawn)
        return drawn

    def note(self, drawn: Mapping[str, str]) -> None:
        """Count values that were drawn, here or by an earlier process."""
        self._drawn += 1
        for axis, value in drawn.items():
            if axis in self._counts:
                self._counts[axis][value] += 1


def _shares(values: tuple[str, ...] | Mapping[str, float]) -> dict[str, float]:
    weights = dict(values) if isinstance(values, Mapping) else dict.fromkeys(values, 1.0)
    total = sum(weights.values())
    return {value: weight / total for value, weight in weights.items()}


def plan_task(config: Config, context: str, topic: Topic, sample: int, facets: Mapping[str, str]) -> Task:
    """The task for one completion, its prompt rendered and its key made from it."""
    settings = config.generation
    prompt = render(
        settings.prompt or GENERATION_PROMPT,
        domain=config.domain,
        system_prompt=config.system_prompt,
        context=context,
        topic=topic.text,
        category=topic.category,
        facets=facets,
        turns=settings.turns,
        variation=sample + 1,
    )
    messages: tuple[Message, ...] = (
        {"role": "system", "content": GENERATION_FORMAT if settings.turns == 1 else GENERATION_FORMAT_TURNS},
        {"role": "user", "content": prompt},
    )
    endpoint = config.endpoints[config.endpoint_of("generation")]
    key = request_key(
        Stage.GENERATE,
        messages,
        system_prompt=config.system_prompt,
        model=endpoint.model,
        temperature=settings.temperature,
        max_tokens=settings.max_tokens,
        response_format="json_object",
        sample=sample,
        extra_body=endpoint.extra_body,
    )
    return Task(key, topic, sample, messages, dict(facets))


def generation_request(config: Config, task: Task) -> ChatRequest:
    """What is asked of the endpoint for a task."""
    settings = config.generation
    return ChatRequest(
        task.key, Stage.GENERATE, task.messages, settings.temperature, settings.max_tokens, "json_object"
    )
