from __future__ import annotations

import pytest
from questions import answered, completion

from synth_async.errors import RequestRejected
from synth_async.pipeline.asking import asked, found
from synth_async.records import ChatRequest, Completion, Stage, Usage
from synth_async.stages.questions import Answer, Question, Questions, metered
from synth_async.testing import run_in_virtual_time


def _request(key: str) -> ChatRequest:
    return ChatRequest(key, Stage.JUDGE, (), None, None, "text")


def _two(*, again: bool = False) -> Questions[str]:
    """Two questions; with `again` the second one wants another answer than the first attempt's."""
    _, first = yield Question(_request("a"))
    _, second = yield Question(_request("b"), attempt=2 if again else 1)
    return f"{first.content}{second.content}"


def _forgiving() -> Questions[str]:
    try:
        yield Question(_request("a"))
    except RequestRejected:
        return "refused"
    return "answered"


def test_answers_that_are_journaled_are_enough() -> None:
    """With all answers there the end is known; with one missing, or only an earlier attempt at it, it is not."""
    answers: dict[str, Answer] = {"a": (1, completion("x")), "b": (1, completion("y"))}
    assert found(_two(), answers.get) == "xy"
    assert found(_two(again=True), answers.get) is None
    assert found(_two(again=True), {**answers, "b": (2, completion("z"))}.get) == "xz"
    assert found(_two(), {"a": answers["a"]}.get) is None


def test_only_what_is_missing_is_asked_for() -> None:
    """The journal goes before the endpoint, unless another attempt is wanted than it has; that one's number is kept."""
    sent: list[tuple[str, int]] = []

    async def ask(request: ChatRequest, *, attempt: int) -> Completion:
        sent.append((request.key, attempt))
        return completion("new")

    answers: dict[str, Answer] = {"a": (1, completion("x")), "b": (1, completion("y"))}

    async def drive() -> tuple[str, str]:
        return await asked(_two(), {"a": answers["a"]}.get, ask), await asked(_two(again=True), answers.get, ask)

    assert run_in_virtual_time(drive) == ("xnew", "xnew")
    assert sent == [("b", 1), ("b", 2)]


def test_a_refused_request_is_told_where_it_was_put() -> None:
    """Who put the question may go on without the answer; who does not say so ends with the refusal."""

    async def ask(request: ChatRequest, *, attempt: int) -> Completion:
        raise RequestRejected(f"{request.key} {attempt}", status=400)

    nothing: dict[str, Answer] = {}

    async def drive(questions: Questions[str]) -> str:
        return await asked(questions, nothing.get, ask)

    assert run_in_virtual_time(drive, _forgiving()) == "refused"
    with pytest.raises(RequestRejected, match="a 1"):
        run_in_virtual_time(drive, _two())


def test_metering_changes_no_question_and_misses_no_answer() -> None:
    """What each answer was charged is told in order; a refusal costs nothing and reaches the one who asked."""
    spent: list[Usage] = []
    outcome, put = answered(metered(_two(), spent.append), lambda request: request.key)
    assert outcome == "ab"
    assert [question.request.key for question in put] == ["a", "b"]
    assert [usage.total for usage in spent] == [10, 10]
    assert answered(metered(_forgiving(), spent.append), lambda _: None)[0] == "refused"
    assert len(spent) == 2
