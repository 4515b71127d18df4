"""Questions answered by a test: each with a completion, in the order in which they are put."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from synth_async.errors import RequestRejected
from synth_async.records import ChatRequest, Completion, Usage
from synth_async.stages.questions import Question, Questions

T = TypeVar("T")

Says = Callable[[ChatRequest], str | None]
"""The content of an answer; None: the endpoint refuses the request."""


def completion(content: str, *, model: str = "m", tokens: int = 10) -> Completion:
    """A completion that ended of its own accord."""
    return Completion(content, "stop", None, model, Usage(tokens, 0))


def answered(questions: Questions[T], says: Says) -> tuple[T, list[Question]]:
    """What the questions come to, and all that were put."""
    put: list[Question] = []
    try:
        question = next(questions)
        while True:
            put.append(question)
            content = says(question.request)
            if content is None:
                question = questions.throw(RequestRejected("refused", status=400))
            else:
                question = questions.send((question.attempt, completion(content)))
    except StopIteration as end:
        outcome: T = end.value
        return outcome, put
