"""Revision: what is almost good is sent back once with the judge's reason, in place of being thrown away.

Such an example costs two requests more (the revision and its verdict), where a new one costs as many as the run needs
for an accepted one, and most of what was wrong is named.
"""

from __future__ import annotations

from synth_async.config.models import Config, Judge, Revise
from synth_async.records import ChatRequest, Example, Message, Stage, Verdict
from synth_async.stages.facets import facet_lines
from synth_async.stages.fence import one_json_line
from synth_async.stages.generation import answer_schema
from synth_async.stages.keys import request_key
from synth_async.stages.templates import REVISION_PROMPT, render

__all__ = ["is_almost_good", "revision_request"]

_NO_REASON = "no reason was given"
_FULL_SCORE = 5


def is_almost_good(revise: Revise, judge: Judge, verdict: Verdict) -> bool:
    """Whether an example that is not good enough is near enough to be worth another try; the bound itself is."""
    return verdict.score >= judge.min_score - revise.band


def revision_request(config: Config, context: str, example: Example, verdict: Verdict) -> ChatRequest:
    """What is asked of the generation's endpoint about an example that got this verdict."""
    settings, task = config.generation, example.task
    prompt = render(
        REVISION_PROMPT,
        domain=config.domain,
        system_prompt=config.system_prompt,
        context=context,
        topic=task.topic.text,
        category=task.topic.category,
        facet_lines=facet_lines(config, task.facets, topic=task.topic.text, category=task.topic.category),
        # A text with a closing tag in it must not end the conversation.
        conversation=one_json_line(list(example.messages)).replace("<", "\\u003c"),
        reason=verdict.reason or _NO_REASON,
        weaknesses=_weaknesses(config, verdict),
    )
    messages: tuple[Message, ...] = (task.messages[0], {"role": "user", "content": prompt})
    endpoint = config.endpoints[config.endpoint_of("generation")]
    key = request_key(
        Stage.REVISE,
        messages,
        system_prompt=config.system_prompt,
        model=endpoint.model,
        temperature=settings.temperature,
        max_tokens=settings.max_tokens,
        response_format="json_object",
        sample=task.sample,
        extra_body=endpoint.extra_body,
        topic=task.topic.text,
    )
    return ChatRequest(
        key, Stage.REVISE, messages, settings.temperature, settings.max_tokens, "json_object", answer_schema(task)
    )


def _weaknesses(config: Config, verdict: Verdict) -> list[str]:
    """The criteria that did not get the full score, each with what it looks at."""
    given = {**verdict.scores, **verdict.safety}
    return [
        f"{criterion.name}, {given[criterion.name]:g} of {_FULL_SCORE}: {criterion.description}".rstrip(": ")
        for criterion in (config.judge.criteria if config.judge else ())
        if given.get(criterion.name, _FULL_SCORE) < _FULL_SCORE
    ]
