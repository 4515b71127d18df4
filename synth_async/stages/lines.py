"""The lines of `dataset.jsonl` and `rejects.jsonl`: from the same journal always the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from synth_async.config.models import Config
from synth_async.records import Drop, Example, Task, Verdict

__all__ = ["dataset_line", "judged", "rejects_line", "task_metadata"]


def dataset_line(config: Config, example: Example, verdict: Verdict | None) -> bytes:
    """`{"id", "messages", "metadata"}` and a LF."""
    messages: list[Mapping[str, Any]] = list(example.messages)
    if config.output.system_message:
        messages.insert(0, {"role": "system", "content": config.system_prompt})
    metadata = _origin(config, example.task, example.model) | _redacted(example) | judged(verdict)
    return orjson.dumps({"id": example.id, "messages": messages, "metadata": metadata}) + b"\n"


def rejects_line(config: Config, task: Task, drop: Drop, example: Example | None, verdict: Verdict | None) -> bytes:
    """`{"id", "stage", "reason", "detail", "messages"?, "metadata"}` and a LF; `messages` where they could be read."""
    line: dict[str, Any] = {"id": task.id, "stage": drop.stage, "reason": drop.reason, "detail": drop.detail}
    redacted: dict[str, Any] = {}
    if example is not None:
        line["messages"] = example.messages
        redacted = _redacted(example)
    line["metadata"] = _origin(config, task, example.model if example else None) | redacted | judged(verdict)
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


def _redacted(example: Example) -> dict[str, Any]:
    return {"redacted": example.redacted} if example.redacted else {}


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
