"""Further replies to the user turns of an example: the raw material of preferences.

The prompt of both sides is the same: what the example holds before its last reply. A reply is asked for as it will be
in use, with the system prompt and the turns before it, as plain text.
"""

from __future__ import annotations

from synth_async.config.models import Config
from synth_async.records import ChatRequest, Completion, Drop, Example, Message, Stage
from synth_async.stages.keys import request_key
from synth_async.stages.parsing import read_text
from synth_async.stages.templates import REPLY_PROMPT, render

__all__ = ["read_reply", "reply_request", "with_reply"]


def reply_request(config: Config, context: str, example: Example, sample: int, endpoint: str | None) -> ChatRequest:
    """What is asked for reply number `sample` (from 1) to an example's user turns.

    `endpoint` names the weaker one; None: whichever serves the generation.
    """
    system = render(REPLY_PROMPT, system_prompt=config.system_prompt, context=context)
    messages: tuple[Message, ...] = ({"role": "system", "content": system}, *example.messages[:-1])
    settings = config.endpoints[endpoint or config.endpoint_of("generation")]
    temperature, max_tokens = config.preference.temperature, config.generation.max_tokens
    key = request_key(
        Stage.REPLY,
        messages,
        system_prompt=config.system_prompt,
        model=settings.model,
        temperature=temperature,
        max_tokens=max_tokens,
        response_format="text",
        sample=sample,
        extra_body=settings.extra_body,
        # Two tasks may come to the same question, and their replies must have names of their own.
        topic=f"{'weaker' if endpoint else 'own'}/{example.task.key}",
    )
    return ChatRequest(key, Stage.REPLY, messages, temperature, max_tokens, "text", endpoint=endpoint)


def read_reply(completion: Completion) -> str | Drop:
    """The text of a reply, or why there is none: truncated, refused or empty."""
    return read_text(completion, stage=Stage.REPLY)


def with_reply(example: Example, reply: str, model: str) -> Example:
    """The example with another last reply, nothing in which is redacted yet."""
    last: Message = {"role": "assistant", "content": reply}
    return Example(example.task, (*example.messages[:-1], last), model)
