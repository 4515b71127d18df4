"""Who answers questions: the journal alone, or the journal and then an endpoint.

Questions are asked one after the other: a worker waits for one answer at a time, an answer of no use ends them before
the next one is paid for, and a run taken up again comes to the same end from the same answers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from synth_async.errors import RequestRejected
from synth_async.records import ChatRequest, Completion
from synth_async.stages.questions import Answer, Question, Questions

__all__ = ["AskAnew", "FindAnswer", "asked", "found"]

T = TypeVar("T")

FindAnswer = Callable[[str], Answer | None]
"""The answer that the journal holds for a key, or None."""


class AskAnew(Protocol):
    """Sends a request, and journals its answer under the number of the attempt."""

    def __call__(self, request: ChatRequest, *, attempt: int) -> Awaitable[Completion]: ...


def found(questions: Questions[T], find: FindAnswer) -> T | None:
    """What journaled answers come to; None when one is missing, or was of no use and may be asked for again."""
    try:
        question = next(questions)
        while (answer := _found(question, find)) is not None:
            question = questions.send(answer)
    except StopIteration as end:
        outcome: T = end.value
        return outcome
    questions.close()
    return None


async def asked(questions: Questions[T], find: FindAnswer, ask: AskAnew) -> T:
    """What the answers come to, those that are missing asked for. Raises what `ask` does.

    `RequestRejected` is raised where the question was put first: whoever put it may go on without the answer.
    """
    try:
        question = next(questions)
        while True:
            try:
                answer = _found(question, find) or await _asked(question, ask)
            except RequestRejected as refused:
                question = questions.throw(refused)
            else:
                question = questions.send(answer)
    except StopIteration as end:
        outcome: T = end.value
        return outcome


def _found(question: Question, find: FindAnswer) -> Answer | None:
    answer = find(question.request.key)
    return answer if answer is not None and answer[0] >= question.attempt else None


async def _asked(question: Question, ask: AskAnew) -> Answer:
    return question.attempt, await ask(question.request, attempt=question.attempt)
