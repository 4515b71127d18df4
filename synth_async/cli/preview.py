"""What `preview` shows: the prompts as they are sent, then each example with its verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import indent
from typing import Any

import orjson

from synth_async.config import Config, LoadedConfig
from synth_async.config.models import Judge
from synth_async.records import Example, Message, Topic, Verdict
from synth_async.stages.generation import plan_task
from synth_async.stages.judging import judge_request
from synth_async.stages.pairwise import comparison_requests
from synth_async.stages.replies import reply_request, with_reply
from synth_async.stages.revision import revision_request
from synth_async.stages.task_plan import task_plan
from synth_async.stages.topics import TopicBatch, topics_request
from synth_async.store.run_folder import RunFolder

__all__ = ["preview_text", "read_preview"]

_MOST_SHOWN = 20
"""Examples that the text shows; `--json` holds all."""

_NO_TOPIC = "(a topic)"
_NO_REPLY = "(another reply)"
_RULE = "─" * 78
_PROMPT_TITLES = {
    "topics": "TOPICS PROMPT",
    "generation": "GENERATION PROMPT",
    "judge": "JUDGE PROMPT",
    "revise": "REVISION PROMPT",
    "reply": "REPLY PROMPT",
    "compare": "COMPARISON PROMPT",
}


def read_preview(folder: RunFolder, loaded: LoadedConfig) -> dict[str, Any]:
    """`{"simulated", "prompts": {stage: messages}, "accepted": [line], "rejected": [line]}` of a run that has ended.

    The prompts are those of the first example. Topics from a file need no prompt, nor does a judge that is turned off.
    """
    accepted, rejected = list(_lines(folder.dataset)), list(_lines(folder.rejects))
    return {
        "simulated": any(loaded.config.endpoints[name].is_simulator for name in loaded.config.used_endpoints),
        "prompts": _prompts(loaded, [*accepted, *rejected]),
        "accepted": accepted,
        "rejected": rejected,
    }


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        with path.open("rb") as file:
            for line in file:
                yield orjson.loads(line)


def _prompts(loaded: LoadedConfig, lines: list[dict[str, Any]]) -> dict[str, list[Message]]:
    config, context = loaded.config, loaded.context or ""
    prompts: dict[str, list[Message]] = {}
    if config.topics.file is None:
        count = min(config.topics.batch_size, config.topic_count)
        category = next(iter(config.topics.category_weights), None)
        prompts["topics"] = list(topics_request(config, context, TopicBatch(0, count, category), []).messages)
    example = _first_example(loaded, context, lines)
    prompts["generation"] = list(example.task.messages)
    if config.judge is not None:
        prompts["judge"] = list(judge_request(config, config.judge, context, example).messages)
        prompts |= _further_prompts(config, config.judge, context, example, lines)
    return prompts


def _further_prompts(
    config: Config, judge: Judge, context: str, example: Example, lines: list[dict[str, Any]]
) -> dict[str, list[Message]]:
    """What is asked about examples besides their verdict: with the first verdict and the first two replies."""
    prompts: dict[str, list[Message]] = {}
    if config.revise is not None:
        origin: dict[str, Any] = next((line["metadata"] for line in lines if "scores" in line["metadata"]), {})
        verdict = Verdict(origin.get("scores", {}), origin.get("score", 0), origin.get("judge_reason", ""), "")
        prompts["revise"] = list(revision_request(config, context, example, verdict).messages)
    if config.mode == "preference" and example.messages:
        endpoint = config.preference.rejected_endpoint if config.preference.samples == 1 else None
        prompts["reply"] = list(reply_request(config, context, example, 1, endpoint).messages)
        if judge.mode == "pairwise":
            replies = (line["rejected"][0]["content"] for line in lines if "rejected" in line)
            other = with_reply(example, next(replies, _NO_REPLY), "")
            (request, *_), _ = comparison_requests(config, judge, context, example, other)
            prompts["compare"] = list(request.messages)
    return prompts


def _first_example(loaded: LoadedConfig, context: str, lines: list[dict[str, Any]]) -> Example:
    """The first example that could be read; where there is none, the first task with an empty conversation."""
    config = loaded.config
    line = next((line for line in lines if line.get("messages")), None) or (lines[0] if lines else None)
    if line is None:
        topic = loaded.topics[0] if loaded.topics else Topic(0, _NO_TOPIC)
        return Example(task_plan(loaded).write(topic, 0), (), "")
    origin = line["metadata"]
    topic = Topic(0, origin["topic"], origin["category"])
    task = plan_task(config, context, topic, origin["sample"], origin["facets"])
    return Example(task, _conversation(config, line), origin["model"])


def _conversation(config: Config, line: Mapping[str, Any]) -> tuple[Message, ...]:
    """The messages without the system message that the dataset lines begin with, which the judge does not see."""
    messages: list[Message] = line.get("messages", [])
    has_system = config.output.system_message and "stage" not in line
    return tuple(messages[1:] if has_system else messages)


# --- as text -------------------------------------------------------------------------------------


def preview_text(shown: Mapping[str, Any]) -> str:
    """The preview for a person, without a final line feed."""
    blocks = [_prompt_block(_PROMPT_TITLES[stage], messages) for stage, messages in shown["prompts"].items()]
    lines = _shown(shown["accepted"], shown["rejected"])
    blocks += [_example_block(number, line) for number, line in enumerate(lines, start=1)]
    found = len(shown["accepted"]) + len(shown["rejected"])
    counted = f"{len(shown['accepted'])} accepted, {len(shown['rejected'])} rejected; nothing was kept"
    more = f" ({len(lines)} of {found} examples shown; --json prints all)" if len(lines) < found else ""
    blocks.append(f"{_RULE}\n{counted}{more}")
    if shown["simulated"]:
        blocks[-1] += "\nsimulated data: the embedded endpoint wrote it, no model did"
    return "\n\n".join(blocks)


def _shown(accepted: list[dict[str, Any]], rejected: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All, or as many of each as fit: half of the places are for the rejected ones."""
    kept = accepted[: max(_MOST_SHOWN // 2, _MOST_SHOWN - len(rejected))]
    return [*kept, *rejected[: _MOST_SHOWN - len(kept)]]


def _prompt_block(title: str, messages: list[Message]) -> str:
    return "\n".join([f"{_RULE}\n{title}", *(_message(message) for message in messages)])


def _example_block(number: int, line: Mapping[str, Any]) -> str:
    origin = line["metadata"]
    rows = [_RULE, f"EXAMPLE {number}: {_outcome(line)}", f"  topic      {origin['topic']}"]
    if origin["category"]:
        rows.append(f"  category   {origin['category']}")
    if origin["facets"]:
        rows.append("  facets     " + ", ".join(f"{axis}: {value}" for axis, value in origin["facets"].items()))
    if "scores" in origin:
        scores = ", ".join(f"{name} {score:g}" for name, score in origin["scores"].items())
        rows += [
            f"  score      {origin['score']:g} ({scores})",
            f"  judge      {origin['judge_reason'] or '(no reason)'}",
        ]
    if "draft" in origin:
        rows.append(
            f"  revised    from {origin['draft']['score']:g}: {origin['draft']['judge_reason'] or '(no reason)'}"
        )
    rows += [_message(message) for message in line.get("messages", []) if message["role"] != "system"]
    if "rejected" in line:
        rows.append(_rejected(line["rejected"], origin))
    return "\n".join(rows)


def _rejected(reply: list[Message], origin: Mapping[str, Any]) -> str:
    """The other side of a preference, which it was rejected for."""
    found = origin["rejected"]
    told = f", {found['score']:g}: {found['judge_reason'] or '(no reason)'}" if "score" in found else ""
    said = "\n".join(message["content"] for message in reply)
    return f"[rejected, by {found['model']}{told}]\n{indent(said, '  ')}"


def _outcome(line: Mapping[str, Any]) -> str:
    if "stage" not in line:
        return "accepted"
    detail = f" ({line['detail']})" if line["detail"] else ""
    return f"rejected at {line['stage']}: {line['reason']}{detail}"


def _message(message: Message) -> str:
    return f"[{message['role']}]\n{indent(message['content'], '  ')}"
