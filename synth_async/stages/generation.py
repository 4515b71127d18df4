"""Generation tasks: one completion per (topic, sample index, facets), its prompt rendered when it is planned."""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from collections.abc import Mapping

from synth_async.config.models import Config
from synth_async.records import AnswerSchema, ChatRequest, Message, Stage, Task, Topic
from synth_async.stages.keys import request_key
from synth_async.stages.templates import GENERATION_FORMAT, GENERATION_FORMAT_TURNS, GENERATION_PROMPT, render

__all__ = ["FacetPlan", "generation_request", "is_conversation", "plan_task"]

# Nothing but what every kind of server compiles: types, all keys required, no others, no bounds.
_EXCHANGE = AnswerSchema(
    "exchange",
    {
        "type": "object",
        "properties": {"user_message": {"type": "string"}, "assistant_response": {"type": "string"}},
        "required": ["user_message", "assistant_response"],
        "additionalProperties": False,
    },
)
_CONVERSATION = AnswerSchema(
    "conversation",
    {
        "type": "object",
        "properties": {
            "messages": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "role": {"type": "string", "enum": ["user", "assistant"]},
                        "content": {"type": "string"},
                    },
                    "required": ["role", "content"],
                    "additionalProperties": False,
                },
            }
        },
        "required": ["messages"],
        "additionalProperties": False,
    },
)

_ROUNDING = 1e-9
"""Shares are floats: a bound that is met to this degree is met."""


class FacetPlan:
    """A balanced draw of one value per axis: after any number of draws each value's count is within 1 of its share.

    So variety is designed and not left to chance. Within that bound the draw is random by the seed, because axes that
    each followed a fixed pattern would always bring the same values together. The counts are restored from the
    journaled tasks with `restore`.
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
            values = _drawable(shares, self._counts[axis], self._drawn + 1)
            drawn[axis] = chance.choices(values, weights=[shares[value] for value in values])[0]
        self.restore(1, dict.fromkeys(drawn.items(), 1))
        return drawn

    def restore(self, draws: int, drawn: Mapping[tuple[str, str], int]) -> None:
        """Count what was drawn: in how many draws, and how often each (axis, value)."""
        self._drawn += draws
        for (axis, value), times in drawn.items():
            if axis in self._counts:
                self._counts[axis][value] += times


def _shares(values: tuple[str, ...] | Mapping[str, float]) -> dict[str, float]:
    weights = dict(values) if isinstance(values, Mapping) else dict.fromkeys(values, 1.0)
    total = sum(weights.values())
    return {value: weight / total for value, weight in weights.items()}


def _drawable(shares: Mapping[str, float], counts: Mapping[str, int], number: int) -> list[str]:
    """Values that draw `number` (from 1) may bring, so that all counts can stay within 1 of their shares for ever.

    This is scheduling of unit jobs on one machine: a value's next unit may not come before its count would exceed
    share + 1, and has to come before it falls short of share - 1. Schedules exist (Tijdeman, "The chairman assignment
    problem", 1980), so only the units due soonest matter: as soon as more of them are due by some draw than there are
    draws left until then, this draw has to be one of those.
    """
    due = {value: _due(share, counts[value] + 1) for value, share in shares.items()}
    free = [value for value, share in shares.items() if counts[value] <= share * number + _ROUNDING]
    tight = _first_tight_draw(shares, counts, due, number)
    return [value for value in free if due[value] <= tight] or [min(due, key=due.__getitem__)]


def _due(share: float, unit: int) -> int:
    """The last draw at which unit `unit` of a value (from 1) may come: without it the value is short by more than 1."""
    return math.floor(unit / share + _ROUNDING) + 1


def _first_tight_draw(
    shares: Mapping[str, float], counts: Mapping[str, int], due: Mapping[str, int], number: int
) -> float:
    """The first draw by which more units are due than come after this one; infinity when there is none."""
    upcoming = [(draw, value, counts[value] + 1) for value, draw in due.items()]
    heapq.heapify(upcoming)
    units, waiting = 0, len(upcoming)
    while waiting:  # once a unit of every value has been counted, the rest fits
        draw, value, unit = upcoming[0]
        units += 1
        waiting -= unit == counts[value] + 1
        if units > draw - number:
            return draw
        heapq.heapreplace(upcoming, (_due(shares[value], unit + 1), value, unit + 1))
    return math.inf


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
        # A prompt of the user's may leave the topic out; its examples must have names of their own all the same.
        topic=topic.text,
    )
    return Task(key, topic, sample, messages, dict(facets))


def generation_request(config: Config, task: Task) -> ChatRequest:
    """What is asked of the endpoint for a task."""
    settings = config.generation
    schema = _CONVERSATION if is_conversation(task) else _EXCHANGE
    return ChatRequest(
        task.key, Stage.GENERATE, task.messages, settings.temperature, settings.max_tokens, "json_object", schema
    )


def is_conversation(task: Task) -> bool:
    """Whether the task asked for `messages`: an answer is read as it was asked for, whatever the config says by now."""
    return task.messages[0]["content"] == GENERATION_FORMAT_TURNS
