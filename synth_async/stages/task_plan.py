"""The plan of tasks: for each (topic, sample index) the facets, persona and examples that its prompt is made of."""

from __future__ import annotations

import random
from collections.abc import Container, Mapping, Sequence

from synth_async.config import Config, LoadedConfig
from synth_async.records import Message, Task, Topic
from synth_async.stages.facets import FacetPlan
from synth_async.stages.few_shot import choose_examples, example_text, read_examples
from synth_async.stages.generation import plan_task

__all__ = ["PERSONA", "TaskPlan", "task_plan"]

PERSONA = "persona"
"""The facet under which a persona of the user's file stands."""


def task_plan(loaded: LoadedConfig) -> TaskPlan:
    """The plan of a config, from its beginning; raises `ConfigError` for examples of the user's that hold none."""
    examples = read_examples(loaded)
    return TaskPlan(loaded.config, loaded.context or "", personas=loaded.personas, examples=examples)


class TaskPlan:
    """Writes tasks in balance. Restored from the journaled ones with `note`."""

    def __init__(
        self,
        config: Config,
        context: str,
        *,
        personas: Sequence[str] = (),
        examples: Sequence[Sequence[Message]] = (),
    ) -> None:
        self._config = config
        self._context = context
        self._facets = FacetPlan(config)
        self._personas = random.Random(f"{config.seed}/personas").sample(personas, len(personas))
        self._examples = [example_text(messages) for messages in examples]
        self._written = 0

    def write(
        self,
        topic: Topic,
        sample: int,
        *,
        wanted: Mapping[str, Container[str]] | None = None,
        missing: Sequence[str] = (),
    ) -> Task:
        """The next task. `wanted` are the values short of their share; `missing` of those, what is hard to get."""
        facets = self._facets.draw(topic.category, wanted)
        if self._personas:
            facets[PERSONA] = self._personas[self._written % len(self._personas)]
        shown = self._shown()
        said = [value for value in missing if value in facets.values()]
        task = plan_task(self._config, self._context, topic, sample, facets, examples=shown, missing=said)
        self._written += 1
        return task

    def note(self, category: str | None, facets: Mapping[str, str]) -> None:
        """Count a task that was planned by an earlier process."""
        self._facets.note(facets, category)
        self._written += 1

    def _shown(self) -> dict[int, str]:
        settings = self._config.examples
        if settings is None or not self._examples:
            return {}
        numbers = choose_examples(self._config.seed, self._written, settings.per_request, of=len(self._examples))
        return {number: self._examples[number] for number in numbers}
