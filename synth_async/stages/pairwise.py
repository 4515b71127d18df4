"""Pairwise judging: which of two replies to one conversation is better.

A judge leans towards the reply that it is shown first (or second), so both orders are asked, and a reply wins only
where it does in each of them. Anything else is a tie: the first one twice, the second one twice, a tie in so many
words, no readable verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from synth_async.config.models import Config, Judge
from synth_async.records import AnswerSchema, ChatRequest, Completion, Drop, DropReason, Example, Message, Stage
from synth_async.stages.fence import fenced, fenced_anew, one_json_line
from synth_async.stages.judging import VERDICT_ATTEMPTS, askers
from synth_async.stages.keys import request_key
from synth_async.stages.parsing import read_object
from synth_async.stages.questions import Question, Questions
from synth_async.stages.templates import PAIRWISE_PROMPT, render

__all__ = ["comparison_questions", "comparison_requests", "read_choice"]

_LEAD = "Compare the two replies between the fences."
_CHOICES = {"a": 1, "b": -1, "tie": 0}
_CHOICE = AnswerSchema(
    "choice",
    {
        "type": "object",
        "properties": {"winner": {"type": "string", "enum": list(_CHOICES)}, "reason": {"type": "string"}},
        "required": ["winner", "reason"],
        "additionalProperties": False,
    },
)


def comparison_requests(
    config: Config, judge: Judge, context: str, one: Example, other: Example
) -> tuple[tuple[ChatRequest, ...], tuple[ChatRequest, ...]]:
    """The requests that show `one` first, and those that show `other` first; the examples differ in the last reply."""
    instructions = _instructions(judge, config.domain, config.system_prompt, context)
    orders = []
    for first, second in ((one, other), (other, one)):
        shown = one_json_line(
            {
                "conversation": list(one.messages[:-1]),
                "reply_a": first.messages[-1]["content"],
                "reply_b": second.messages[-1]["content"],
            }
        )
        orders.append(_requests(config, judge, instructions, shown))
    return orders[0], orders[1]


def _requests(config: Config, judge: Judge, instructions: str, shown: str) -> tuple[ChatRequest, ...]:
    asked = []
    for endpoint, sample in askers(config, judge):
        settings = config.endpoints[endpoint or config.endpoint_of("judge")]
        key = request_key(
            Stage.JUDGE,
            ({"role": "system", "content": instructions}, {"role": "user", "content": shown}),
            system_prompt=config.system_prompt,
            model=settings.model,
            temperature=judge.temperature,
            max_tokens=judge.max_tokens,
            response_format="json_object",
            sample=sample,
            extra_body=settings.extra_body,
        )
        messages: tuple[Message, ...] = (
            {"role": "system", "content": instructions},
            {"role": "user", "content": fenced(_LEAD, shown)},
        )
        asked.append(
            ChatRequest(
                key, Stage.JUDGE, messages, judge.temperature, judge.max_tokens, "json_object", _CHOICE, endpoint
            )
        )
    return tuple(asked)


@lru_cache(maxsize=16)
def _instructions(judge: Judge, domain: str, system_prompt: str, context: str) -> str:
    return render(PAIRWISE_PROMPT, domain=domain, system_prompt=system_prompt, context=context, criteria=judge.criteria)


def read_choice(completion: Completion) -> int | Drop:
    """1 for the reply that was shown first, -1 for the second, 0 for a tie; or why there is no telling."""
    answer = read_object(completion, stage=Stage.JUDGE)
    if isinstance(answer, Drop):
        return Drop(Stage.JUDGE, DropReason.NO_VERDICT, f"{answer.reason}: {answer.detail}".rstrip(": "))
    winner = answer.get("winner")
    choice = _CHOICES.get(winner.strip().lower()) if isinstance(winner, str) else None
    return choice if choice is not None else Drop(Stage.JUDGE, DropReason.NO_VERDICT, "no winner: a, b or tie")


def comparison_questions(orders: Sequence[Sequence[ChatRequest]]) -> Questions[int]:
    """The questions for one comparison: 1 where the one is better in both orders, -1 where the other is, 0 for a tie.

    Of several judges or samples the majority tells in each order. Where the first order is a tie, the second one is not
    asked: it could change nothing.
    """
    won = 0
    for requests, sign in zip(orders, (1, -1), strict=True):
        votes = 0
        for request in requests:
            votes += sign * (yield from _vote(request))
        winner = (votes > 0) - (votes < 0)
        if winner in (0, -won):
            return 0
        won = winner
    return won


def _vote(request: ChatRequest) -> Questions[int]:
    attempt, completion = yield Question(request)
    choice = read_choice(completion)
    while isinstance(choice, Drop) and attempt < VERDICT_ATTEMPTS:
        attempt, completion = yield Question(fenced_anew(request), attempt + 1)
        choice = read_choice(completion)
    return 0 if isinstance(choice, Drop) else choice
