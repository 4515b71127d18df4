"""What the simulated model says to a chat request: a function of the seed and the request body, nothing else."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import orjson

from synth_async.config.models import Simulation
from synth_async.endpoint.simulator.chat import ChatBody
from synth_async.endpoint.simulator.comparing import choice_between
from synth_async.endpoint.simulator.dialogue import Exchange, write_dialogue
from synth_async.endpoint.simulator.draws import pick
from synth_async.endpoint.simulator.faults import ContentFault, content_fault
from synth_async.endpoint.simulator.lexicon import draw_facts, lexicon_for, subject_of
from synth_async.endpoint.simulator.prompts import (
    ComparisonPrompt,
    ExamplePrompt,
    OtherPrompt,
    Prompt,
    ReplyPrompt,
    RevisionPrompt,
    TopicsPrompt,
    VerdictPrompt,
    read_prompt,
)
from synth_async.endpoint.simulator.rewriting import reply_to, rewritten
from synth_async.endpoint.simulator.schemas import conform
from synth_async.endpoint.simulator.scoring import verdict_on
from synth_async.endpoint.simulator.seeds import write_topics
from synth_async.endpoint.simulator.tokens import count_tokens, cut_to_tokens

__all__ = ["Answer", "Draws", "another_sample", "answer", "draws_for"]

DEFAULT_MAX_TOKENS = 4096
"""Limit of an answer whose request names none."""

_SAMPLE_STEP = 1_000_003
"""Keeps the samples of a body apart from its choices, which are numbered from 0."""

_FENCED_SHARE = 0.2  # of the JSON answers to requests that did not set a response format


_IN_JSON = ExamplePrompt | RevisionPrompt | VerdictPrompt | ComparisonPrompt
"""Prompts that are answered in JSON whatever the response format."""


@dataclass(frozen=True, slots=True)
class Draws:
    """What a request's body and the seed decide. `body_hash` names the body; `latency` and `fault` are in [0, 1)."""

    body_hash: int
    text_seed: int
    latency: float
    fault: float


@dataclass(frozen=True, slots=True)
class Answer:
    """One choice of a completion."""

    content: str | None
    finish_reason: str
    tokens: int
    refusal: str | None = None


def draws_for(seed: int, body: bytes) -> Draws:
    """The draws of a request body, when it is asked for the first time."""
    digest = blake2b(body, digest_size=32, key=str(seed).encode()).digest()
    parts = [int.from_bytes(digest[start : start + 8], "big") for start in (0, 8, 16, 24)]
    return Draws(parts[0], parts[1], parts[2] / (1 << 64), parts[3] / (1 << 64))


def another_sample(draws: Draws, times_asked: int) -> Draws:
    """The draws of a body that was asked `times_asked` times before: a model that samples says something else then."""
    return replace(draws, text_seed=draws.text_seed + _SAMPLE_STEP * times_asked)


def answer(chat: ChatBody, simulation: Simulation, draws: Draws, choice: int = 0) -> Answer:
    """Choice number `choice` of the completion, faults of content included."""
    rng = random.Random(draws.text_seed + choice)
    limit = chat.max_tokens or DEFAULT_MAX_TOKENS
    fault = content_fault(simulation.faults, draws.fault)
    if fault is ContentFault.EMPTY:
        return Answer(pick(rng, ("", None)), "stop", 0)
    if fault is ContentFault.REFUSAL:
        return _refusal(rng)
    content, is_json = _content(rng, chat, simulation)
    if fault is ContentFault.INVALID_JSON and is_json:
        content = _broken_json(rng, content)
    tokens = count_tokens(content)
    if fault is ContentFault.LENGTH:
        limit = min(limit, max(1, tokens * (3 + int(rng.random() * 5)) // 10))
    if tokens > limit:
        return Answer(cut_to_tokens(content, limit), "length", limit)
    return Answer(content, "stop", tokens)


def _content(rng: random.Random, chat: ChatBody, simulation: Simulation) -> tuple[str, bool]:
    """The text of an answer, and whether it is JSON."""
    prompt = read_prompt(chat.messages)
    if chat.schema is not None:
        return orjson.dumps(conform(_as_object(rng, simulation, prompt), chat.schema, rng)).decode(), True
    if chat.response_format == "json_object" or isinstance(prompt, _IN_JSON):
        text = _dump(_as_object(rng, simulation, prompt))
        if chat.response_format == "text" and rng.random() < _FENCED_SHARE:
            text = f"```json\n{text}\n```"
        return text, True
    if isinstance(prompt, TopicsPrompt):
        return "\n".join(_topics(rng, simulation, prompt)), False
    return _plain_text(rng, simulation, prompt), False


def _as_object(rng: random.Random, simulation: Simulation, prompt: Prompt) -> dict[str, Any]:
    if isinstance(prompt, VerdictPrompt):
        return verdict_on(prompt)
    if isinstance(prompt, ComparisonPrompt):
        return choice_between(prompt)
    if isinstance(prompt, TopicsPrompt):
        return {"topics": _topics(rng, simulation, prompt)}
    if isinstance(prompt, ExamplePrompt):
        return _as_example(write_dialogue(rng, simulation, prompt), prompt)
    if isinstance(prompt, RevisionPrompt):
        return _as_example(rewritten(rng, simulation, prompt), prompt.example)
    return {"answer": _plain_text(rng, simulation, prompt)}


def _plain_text(rng: random.Random, simulation: Simulation, prompt: ReplyPrompt | OtherPrompt) -> str:
    return reply_to(rng, simulation, prompt) if isinstance(prompt, ReplyPrompt) else _small_talk(rng, prompt.text)


def _topics(rng: random.Random, simulation: Simulation, prompt: TopicsPrompt) -> list[str]:
    return write_topics(
        rng,
        simulation.seed,
        prompt.count,
        prompt.domain,
        category=prompt.category,
        theme_share=simulation.favourite_share,
    )


def _as_example(exchanges: list[Exchange], prompt: ExamplePrompt) -> dict[str, Any]:
    if not prompt.as_messages:
        return {prompt.keys[0]: exchanges[0].user, prompt.keys[1]: exchanges[0].assistant}
    messages = []
    for exchange in exchanges:
        messages.append({"role": "user", "content": exchange.user})
        messages.append({"role": "assistant", "content": exchange.assistant})
    return {"messages": messages}


def _small_talk(rng: random.Random, text: str) -> str:
    field, subject = lexicon_for(text[:300], ""), subject_of(text[:300], "")
    slots = {**draw_facts(rng), "about": subject.about, "topic": subject.topic, "w1": subject.w1, "w2": subject.w2}
    cause = pick(rng, field.causes).format_map(slots)
    return f"As for {subject.about}: {cause}. {pick(rng, field.steps).format_map(slots)}"


def _refusal(rng: random.Random) -> Answer:
    words = "I'm sorry, but I can't help with that request."
    if rng.random() < 0.5:
        return Answer(None, "stop", count_tokens(words), refusal=words)
    return Answer(words, "stop", count_tokens(words))


def _broken_json(rng: random.Random, whole: str) -> str:
    """Prose, two objects, a missing key, or a value of the wrong type."""
    try:
        value: dict[str, Any] = orjson.loads(whole.removeprefix("```json\n").removesuffix("\n```"))
    except orjson.JSONDecodeError:
        return "Sure, here it is."
    kind = int(rng.random() * 4)
    if kind == 0:
        return "Sure! Here is an example of what you asked for. " + " ".join(str(part) for part in value.values())[:300]
    if kind == 1:
        return f"{_dump(value)}\n{_dump(value)}"
    key = next(iter(value))
    if kind == 2:
        del value[key]
    else:
        value[key] = 7 if isinstance(value[key], list | dict) else [value[key]]
    return _dump(value)


def _dump(value: Mapping[str, Any]) -> str:
    return orjson.dumps(value).decode()
