"""Generation tasks: one completion per (topic, sample index, facets), its prompt rendered when it is planned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from synth_async.config.models import Config
from synth_async.records import AnswerSchema, ChatRequest, Message, Stage, Task, Topic
from synth_async.stages.facets import facet_lines
from synth_async.stages.keys import request_key
from synth_async.stages.templates import GENERATION_FORMAT, GENERATION_FORMAT_TURNS, GENERATION_PROMPT, render

__all__ = ["answer_schema", "generation_request", "is_conversation", "plan_task"]

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


def plan_task(
    config: Config,
    context: str,
    topic: Topic,
    sample: int,
    facets: Mapping[str, str],
    *,
    examples: Mapping[int, str] | None = None,
    missing: Sequence[str] = (),
) -> Task:
    """The task for one completion, its prompt rendered and its key made from it.

    `examples` are those of the user's that it shows, by their number; `missing` is what the run falls short of.
    """
    settings = config.generation
    prompt = render(
        settings.prompt or GENERATION_PROMPT,
        domain=config.domain,
        system_prompt=config.system_prompt,
        context=context,
        topic=topic.text,
        category=topic.category,
        facets=facets,
        facet_lines=facet_lines(config, facets, topic=topic.text, category=topic.category),
        examples=list((examples or {}).values()),
        missing=missing,
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
    return Task(key, topic, sample, messages, dict(facets), tuple(examples or ()), tuple(missing))


def generation_request(config: Config, task: Task) -> ChatRequest:
    """What is asked of the endpoint for a task."""
    settings = config.generation
    return ChatRequest(
        task.key,
        Stage.GENERATE,
        task.messages,
        settings.temperature,
        settings.max_tokens,
        "json_object",
        answer_schema(task),
    )


def answer_schema(task: Task) -> AnswerSchema:
    """The object that an answer to a task should be, and a revision of it."""
    return _CONVERSATION if is_conversation(task) else _EXCHANGE


def is_conversation(task: Task) -> bool:
    """Whether the task asked for `messages`: an answer is read as it was asked for, whatever the config says by now."""
    return task.messages[0]["content"] == GENERATION_FORMAT_TURNS
