"""The kinds of journal frames that a run writes, and the records that are read back from them.

task              a planned task, before its first request (topic, sample, facets, rendered prompt)
answer-STAGE      a raw answer, before anything looks at it (stage: topics, generate, judge)
categories        the categories that the model named
topic-batch       a planned batch of topics, before its request
topics            the topics that a batch brought
lease, release    what a request may take of the budget, before it is sent; what one without an answer took
accept, reject    a decision, with the fingerprint of the config that made it
reopen            takes back a decision: the task is open again
manifest          what `run.json` held, so that it can be made again
fork              first of its journal: the run that the frames after it were taken over from
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from synth_async.endpoint.purse import Lease
from synth_async.records import (
    ChatRequest,
    Drop,
    Example,
    Message,
    Preference,
    Revision,
    Stage,
    Task,
    Topic,
    Verdict,
)
from synth_async.stages.topics import TopicBatch
from synth_async.store.frames import NO_KEY, Frame

__all__ = [
    "ACCEPT",
    "ANSWER",
    "CATEGORIES",
    "FORK",
    "LEASE",
    "MANIFEST",
    "REJECT",
    "RELEASE",
    "REOPEN",
    "TASK",
    "TOPICS",
    "TOPIC_BATCH",
    "answer_frame",
    "batch_frame",
    "batch_of",
    "batched_answer_frame",
    "decision_frame",
    "drop_of",
    "lease_frame",
    "manifest_frame",
    "preference_of",
    "release_frame",
    "revision_of",
    "task_frame",
    "task_of",
    "verdict_of",
]

TASK = "task"
CATEGORIES = "categories"
TOPIC_BATCH = "topic-batch"
TOPICS = "topics"
LEASE = "lease"
RELEASE = "release"
ACCEPT = "accept"
REJECT = "reject"
REOPEN = "reopen"
MANIFEST = "manifest"
FORK = "fork"
ANSWER: Mapping[Stage, str] = {
    stage: f"answer-{stage}" for stage in (Stage.TOPICS, Stage.GENERATE, Stage.JUDGE, Stage.REVISE, Stage.REPLY)
}


def task_frame(task: Task) -> Frame:
    """The frame of a planned task."""
    topic = {"i": task.topic.index, "text": task.topic.text, "category": task.topic.category}
    fields: dict[str, Any] = {"topic": topic, "sample": task.sample, "facets": task.facets}
    if task.shown:
        fields["shown"] = task.shown
    if task.missing:
        fields["missing"] = task.missing
    return Frame(task.key, TASK, {**fields, "messages": task.messages})


def task_of(frame: Frame) -> Task:
    """The task in a frame."""
    topic = frame.fields["topic"]
    return Task(
        frame.key,
        Topic(topic["i"], topic["text"], topic["category"]),
        frame.fields["sample"],
        tuple(frame.fields["messages"]),
        frame.fields["facets"],
        tuple(frame.fields.get("shown", ())),
        tuple(frame.fields.get("missing", ())),
    )


def batch_frame(request: ChatRequest, batch: TopicBatch) -> Frame:
    """The frame of a planned batch of topics."""
    return Frame(request.key, TOPIC_BATCH, {**asdict(batch), "messages": request.messages})


def batch_of(frame: Frame) -> tuple[TopicBatch, tuple[Message, ...]]:
    """The batch in a frame, and its messages."""
    fields = frame.fields
    batch = TopicBatch(fields["number"], fields["count"], fields["category"], fields["evolves"])
    return batch, tuple(fields["messages"])


def answer_frame(request: ChatRequest, attempt: int, endpoint: str, body: bytes, lease: int | None = None) -> Frame:
    """The frame of a raw answer. `attempt` counts how often this answer was asked for, from 1; `lease` is closed."""
    fields: dict[str, Any] = {"attempt": attempt, "endpoint": endpoint}
    if lease is not None:
        fields["lease"] = lease
    return Frame(request.key, ANSWER[request.stage], fields, body)


def batched_answer_frame(key: str, stage: Stage, attempt: int, endpoint: str, batch: str, body: bytes) -> Frame:
    """The frame of a raw answer that one line of a batch brought; `batch` is our own id."""
    return Frame(key, ANSWER[stage], {"attempt": attempt, "endpoint": endpoint, "batch": batch}, body)


def lease_frame(key: str, lease: Lease) -> Frame:
    """The frame of what a request, or a batch of them, may take."""
    fields: dict[str, Any] = {"n": lease.number, "tokens": lease.tokens, "usd": lease.usd}
    if lease.is_batch:
        fields |= {"requests": lease.requests, "batch": True}
    return Frame(key, LEASE, fields)


def release_frame(lease: Lease, *, requests: int, tokens: int, usd: float) -> Frame:
    """The frame of what a request without an answer took."""
    return Frame(NO_KEY, RELEASE, {"n": lease.number, "requests": requests, "tokens": tokens, "usd": usd})


def decision_frame(
    key: str,
    fingerprint: str,
    drop: Drop | None,
    verdict: Verdict | None,
    *,
    example: Example | None = None,
    in_place: bool,
) -> Frame:
    """The frame of a decision. `in_place`: it stands for an earlier one, at that one's position in the order.

    Of the example only what its answers do not tell: which they are, and how they were judged on the way.
    """
    fields: dict[str, Any] = {"fp": fingerprint}
    if in_place:
        fields["in_place"] = True
    if drop is not None:
        fields |= {"stage": drop.stage, "reason": drop.reason, "detail": drop.detail}
    fields |= _verdict_fields(verdict)
    if example is not None and example.revision is not None:
        revision = example.revision
        fields["revision"] = {
            "key": revision.key,
            "tokens": revision.tokens,
            **_verdict_fields(revision.draft),
        }
    if example is not None and example.preference is not None:
        preference = example.preference
        fields["preference"] = {
            "chosen": preference.chosen_key,
            "rejected": preference.rejected_key,
            "margin": preference.margin,
            **_verdict_fields(preference.verdict),
        }
    return Frame(key, ACCEPT if drop is None else REJECT, fields)


def _verdict_fields(verdict: Verdict | None) -> dict[str, Any]:
    if verdict is None:
        return {}
    rare = {"labels": verdict.labels, "safety": verdict.safety, "disagreement": verdict.disagreement}
    return {
        "scores": verdict.scores,
        "score": verdict.score,
        "judge_reason": verdict.reason,
        "judge_model": verdict.model,
    } | {name: found for name, found in rare.items() if found}


def manifest_frame(manifest: Mapping[str, Any]) -> Frame:
    """The frame of a manifest."""
    return Frame(NO_KEY, MANIFEST, {"manifest": manifest})


def drop_of(frame: Frame) -> Drop:
    """The drop in a reject frame."""
    return Drop(Stage(frame.fields["stage"]), frame.fields["reason"], frame.fields["detail"])


def verdict_of(frame: Frame) -> Verdict | None:
    """The verdict in a decision frame, or None when it was made without one."""
    return _verdict_in(frame.fields)


def revision_of(frame: Frame) -> Revision | None:
    """How the example of a decision frame was revised, or None when it was not."""
    fields = frame.fields.get("revision")
    draft = None if fields is None else _verdict_in(fields)
    return None if fields is None or draft is None else Revision(fields["key"], draft, fields["tokens"])


def preference_of(frame: Frame) -> Preference | None:
    """The preference in a decision frame, without the rejected reply's text and model, which its answer has."""
    fields = frame.fields.get("preference")
    if fields is None:
        return None
    return Preference(fields["chosen"], fields["rejected"], "", "", _verdict_in(fields), fields["margin"])


def _verdict_in(fields: Mapping[str, Any]) -> Verdict | None:
    if "scores" not in fields:
        return None
    rare = (fields.get(name, {}) for name in ("labels", "safety", "disagreement"))
    return Verdict(fields["scores"], fields["score"], fields["judge_reason"], fields["judge_model"], *rare)
