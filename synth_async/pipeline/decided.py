"""The example that a decision was made about, read again from the answers that the decision names."""

from __future__ import annotations

from dataclasses import replace

from synth_async.pipeline.asking import FindAnswer
from synth_async.pipeline.frames import preference_of, revision_of
from synth_async.records import Example, Preference, Task
from synth_async.stages.curation import Curation, Rejected
from synth_async.store.frames import Frame

__all__ = ["example_as_decided"]


def example_as_decided(curation: Curation, find: FindAnswer, task: Task, frame: Frame) -> Example | None:
    """The example as it stood when it was decided on; None where an answer that it is made of can no longer be read."""
    example = _example(curation, find, task, task.key)
    revision, preference = revision_of(frame), preference_of(frame)
    if example is not None and revision is not None:
        revised = example if revision.key is None else _example(curation, find, task, revision.key)
        return None if revised is None else replace(revised, revision=revision)
    if example is not None and preference is not None:
        return _preferred(curation, find, example, preference)
    return example


def _example(curation: Curation, find: FindAnswer, task: Task, key: str) -> Example | None:
    found = find(key)
    if found is None:
        return None
    example = curation.read(task, found[1])
    return None if isinstance(example, Rejected) else example


def _preferred(curation: Curation, find: FindAnswer, example: Example, preference: Preference) -> Example | None:
    """The example with the chosen reply as its last, and the rejected one beside it."""
    chosen = _with_reply(curation, find, example, preference.chosen_key)
    rejected = _with_reply(curation, find, example, preference.rejected_key)
    if chosen is None or rejected is None:
        return None
    whole = replace(preference, reply=rejected.messages[-1]["content"], model=rejected.model)
    return replace(chosen, preference=whole)


def _with_reply(curation: Curation, find: FindAnswer, example: Example, key: str) -> Example | None:
    if key == example.task.key:
        return example
    found = find(key)
    answered = None if found is None else curation.read_reply(example, found[1])
    return answered if isinstance(answered, Example) else None
