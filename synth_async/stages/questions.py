"""Questions: what one task still has to ask of endpoints, as a generator that is sent the answers.

What is asked next depends on what was answered, and nothing here knows where answers come from. So a live run, a run
that is taken up from its journal and a fork of one come to the same end by the same code: they differ in who drives it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

from synth_async.errors import RequestRejected
from synth_async.records import ChatRequest, Completion, Usage

__all__ = ["Answer", "Question", "Questions", "metered"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question:
    """A request, and which attempt at it is wanted at least: an answer to an earlier one was of no use."""

    request: ChatRequest
    attempt: int = 1


Answer = tuple[int, Completion]
"""The number of the attempt that was answered, and the completion."""

Questions = Generator[Question, Answer, T]
"""Yields questions, is sent the answer to each (or thrown `RequestRejected`), returns what they come to."""


def metered(questions: Questions[T], note: Callable[[Usage], None]) -> Questions[T]:
    """The same questions; `note` is told what each answer was charged."""
    try:
        question = next(questions)
        while True:
            try:
                answer = yield question
            except RequestRejected as refused:
                question = questions.throw(refused)
            else:
                note(answer[1].usage)
                question = questions.send(answer)
    except StopIteration as end:
        found: T = end.value
        return found
