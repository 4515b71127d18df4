"""The lines of `dataset.jsonl` and `rejects.jsonl`: from the same journal always the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from synth_async.config.models import Config
from synth_async.records import Drop, Example, Task, Verdict

__all__ = ["dataset_line", "judged", "rejects_line", "task_metadata"]


def dataset_line(config: Config, example: Example, verdict: Verdict | None) -> bytes:
    """`{"id", "messages", "metadata"}` and a LF; of a preference with `rejected`, the other last turn as messages."""
    messages: list[Mapping[str, Any]] = list(example.messages)
    if config.output.system_message:
        messages.insert(0, {"role": "system", "content": config.system_prompt})
    line: dict[str, Any] = {"id": example.id, "messages": messages}
    line |= _other_side(example)
    line["metadata"] = _origin(config, example.task, example.model) | _made(example) | judged(verdict)
    return orjson.dumps(line) + b"\n"


def rejects_line(config: Config, task: Task, drop: Drop, example: Example | None, verdict: Verdict | None) -> bytes:
    """`{"id", "stage", "reason", "detail", "messages"?, "metadata"}` and a LF; `messages` where they could be read."""
    line: dict[str, Any] = {"id": task.id, "stage": drop.stage, "reason": drop.reason, "detail": drop.detail}
    made: dict[str, Any] = {}
    if example is not None:
        line |= {"messages": example.messages} | _other_side(example)
        made = _made(example)
    line["metadata"] = _origin(config, task, example.model if example else None) | made | judged(verdict)
    return orjson.dumps(line) + b"\n"


def task_metadata(task: Task, model: str) -> dict[str, Any]:
    """What is known of an example before anything is decided about it."""
    return {
        "topic": task.topic.text,
        "category": task.topic.category,
        "facets": task.facets,
        "sample": task.sample,
        "model": model,
    }


def _origin(config: Config, task: Task, model: str | None) -> dict[str, Any]:
    endpoint = config.endpoints[config.endpoint_of("generation")]
    origin = task_metadata(task, model or endpoint.model)
    if endpoint.is_simulator:
        origin["simulated"] = True
    return origin


def _other_side(example: Example) -> dict[str, Any]:
    if example.preference is None:
        return {}
    return {"rejected": [{"role": "assistant", "content": example.preference.reply}]}


def _made(example: Example) -> dict[str, Any]:
    """How an example came to be what it is: what was redacted, revised, preferred."""
    made: dict[str, Any] = {"redacted": example.redacted} if example.redacted else {}
    if example.revision is not None and example.revision.key is not None:
        draft = example.revision.draft
        made["revised"] = True
        made["draft"] = {"scores": draft.scores, "score": draft.score, "judge_reason": draft.reason}
    if example.preference is not None:
        made["rejected"] = {"model": example.preference.model} | judged(example.preference.verdict)
        if example.preference.margin is not None:
            made["margin"] = example.preference.margin
    return made


def judged(verdict: Verdict | None) -> dict[str, Any]:
    """What a verdict puts into the metadata of a line."""
    if verdict is None:
        return {}
    rare = {"observed": verdict.labels, "safety": verdict.safety, "disagreement": verdict.disagreement}
    return {name: found for name, found in rare.items() if found} | {
        "scores": verdict.scores,
        "score": verdict.score,
        "judge_reason": verdict.reason,
        "judge_model": verdict.model,
    }
