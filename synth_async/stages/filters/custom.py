"""The user's own functions as filters. Their code runs in the process of the run, with all its rights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from synth_async.config.extensions import load_function
from synth_async.errors import UsageError
from synth_async.records import Example
from synth_async.stages.lines import task_metadata

__all__ = ["build_custom"]

_LONGEST_DETAIL = 100


def build_custom(name: str) -> Callable[[Example], str | None]:
    """The rule for `package.module:function`, or for an entry point. Raises `UsageError` where it cannot be loaded."""
    return partial(_breach, name=name, function=load_function(name))


def _breach(example: Example, *, name: str, function: Callable[[dict[str, Any]], object]) -> str | None:
    """What the function says about an example; it gets a copy, in the form of a line of the dataset."""
    line = {
        "id": example.id,
        "messages": [dict(message) for message in example.messages],
        "metadata": task_metadata(example.task, example.model),
    }
    try:
        found = function(line)
    except Exception as error:
        message = f"filters.custom: {name} failed on example {example.id}: {type(error).__name__}: {error}"
        raise UsageError(f"{message}; mend it, and the same command goes on") from error
    if found is None:
        return None
    if not isinstance(found, str):
        raise UsageError(
            f"filters.custom: {name} answered with a {type(found).__name__} for example {example.id}: "
            "it has to be None, or a text that says what is wrong"
        )
    return " ".join(found.split())[:_LONGEST_DETAIL] or "(no detail)"
