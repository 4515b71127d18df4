"""The verdict on one example, from the answers that are journaled and those that still have to be asked for.

Several samples or judges are asked one after the other: a worker waits for one answer at a time, an answer of no use
ends it before the next one is paid for, and a run taken up again comes to the same verdict from the same answers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from synth_async.config.models import Judge
from synth_async.records import ChatRequest, Completion, Drop, Verdict
from synth_async.stages.judging import VERDICT_ATTEMPTS, combined, fenced_anew, read_verdict

__all__ = ["AskAnew", "FindAnswer", "asked_verdict", "found_verdict"]

FindAnswer = Callable[[str], tuple[int, Completion] | None]
"""(attempt, completion) that the journal holds for a key, or None."""


class AskAnew(Protocol):
    """Sends a request, and journals its answer under the number of the attempt."""

    def __call__(self, request: ChatRequest, *, attempt: int) -> Awaitable[Completion]: ...


def found_verdict(judge: Judge, requests: Sequence[ChatRequest], find: FindAnswer) -> Verdict | Drop | None:
    """The journaled verdict; None when an answer is missing, or is a malformed one that may be asked for again."""
    verdicts = []
    for request in requests:
        found = find(request.key)
        if found is None:
            return None
        attempt, completion = found
        verdict = read_verdict(judge, completion)
        if isinstance(verdict, Drop):
            return None if attempt < VERDICT_ATTEMPTS else verdict
        verdicts.append(verdict)
    return combined(judge, verdicts)


async def asked_verdict(
    judge: Judge, requests: Sequence[ChatRequest], find: FindAnswer, ask: AskAnew
) -> Verdict | Drop:
    """The verdict, what is missing asked for; each malformed answer is asked for once more, in another fence."""
    verdicts = []
    for request in requests:
        verdict = await _one(judge, request, find, ask)
        if isinstance(verdict, Drop):
            return verdict
        verdicts.append(verdict)
    return combined(judge, verdicts)


async def _one(judge: Judge, request: ChatRequest, find: FindAnswer, ask: AskAnew) -> Verdict | Drop:
    attempt, completion = find(request.key) or (1, await ask(request, attempt=1))
    verdict = read_verdict(judge, completion)
    while isinstance(verdict, Drop) and attempt < VERDICT_ATTEMPTS:
        attempt += 1
        verdict = read_verdict(judge, await ask(fenced_anew(request), attempt=attempt))
    return verdict
