"""What servers say of batches, in all the spellings that are understood."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_async.endpoint.batch.outcome import Again, limit_named, refusal_of, unanswered
from synth_async.endpoint.batch.states import BatchStatus, BatchView, read_batch, read_page, status_of
from synth_async.errors import EndpointRefused, RequestRejected, StoppedEarly, TransientFailure

_FIELDS: dict[str, Any] = {
    "id": "b1",
    "status": "completed",
    "input_file_id": "f1",
    "output_file_id": "f2",
    "error_file_id": "",
    "request_counts": {"total": 3, "completed": 2, "failed": 1},
    "metadata": {"synth_async_batch": "x"},
}


def _failed(*problems: dict[str, Any]) -> BatchView:
    return read_batch(orjson.dumps({"id": "b", "status": "failed", "errors": {"data": list(problems)}}))


@given(st.sampled_from(list(BatchStatus)), st.sampled_from(["{}", "job_state_{}", "batch_status_{}", " {} "]))
def test_every_status_is_understood_in_capitals_and_with_a_prefix(status: BatchStatus, form: str) -> None:
    """OpenAI's eight words, however they are dressed."""
    assert status_of(form.format(status)) is status
    assert status_of(form.format(status).upper()) is status


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("SUCCEEDED", BatchStatus.COMPLETED),
        ("ended", BatchStatus.COMPLETED),
        ("QUEUED", BatchStatus.VALIDATING),
        ("running", BatchStatus.IN_PROGRESS),
        ("TIMEOUT_EXCEEDED", BatchStatus.EXPIRED),
        ("canceled", BatchStatus.CANCELLED),
        ("CANCELLATION_REQUESTED", BatchStatus.CANCELLING),
    ],
)
def test_other_vendors_words_are_understood(word: str, status: BatchStatus) -> None:
    """What the same state is called elsewhere."""
    assert status_of(word) is status


@given(st.text())
def test_an_unknown_word_is_not_the_end(word: str) -> None:
    """A batch is given up for words that are known to be final, and for no other."""
    status = status_of(word)
    assert not status.is_final or any(known in word.lower().replace("-", "_") for known in _FINAL_WORDS)


_FINAL_WORDS = ("fail", "complete", "expired", "cancel", "done", "ended", "succe", "error", "invalid", "time")


@pytest.mark.parametrize("wrapper", [None, "job", "batch", "data"])
def test_a_batch_is_read_from_its_wrapper(wrapper: str | None) -> None:
    """The same batch, bare or within an object; an empty file id is no file."""
    view = read_batch(orjson.dumps(_FIELDS if wrapper is None else {wrapper: _FIELDS, "warning": ""}))
    assert (view.id, view.status, view.output_file, view.error_file) == ("b1", BatchStatus.COMPLETED, "f2", None)
    assert (view.completed, view.failed) == (2, 1)


@given(st.binary(max_size=80) | st.builds(orjson.dumps, st.dictionaries(st.text("abcdistu"), st.text("abc"))))
def test_what_is_no_batch_is_told_as_a_value_error(body: bytes) -> None:
    """Whatever a proxy answers."""
    try:
        read_batch(body)
    except ValueError:
        return
    assert b"stat" in body


def test_a_page_says_what_comes_after_it() -> None:
    """By `last_id`, by the last batch, or not at all."""
    page = {"data": [_FIELDS, {**_FIELDS, "id": "b2"}], "has_more": True}
    assert read_page(orjson.dumps(page))[1] == "b2"
    assert read_page(orjson.dumps({**page, "last_id": "b9"}))[1] == "b9"
    assert read_page(orjson.dumps({**page, "has_more": False}))[1] is None
    assert [view.id for view in read_page(orjson.dumps([{"job": _FIELDS}]))[0]] == ["b1"]


def test_a_token_limit_is_a_matter_of_time() -> None:
    """The batch failed after its creation: nothing is refused, every line goes again, the limit is learnt."""
    view = _failed({"code": "token_limit_exceeded", "message": "Limit: 2,000,000 enqueued tokens.", "line": None})
    assert refusal_of(view, endpoint="e", was_cancelled=False) is None
    assert isinstance(unanswered(view, 1), Again)
    assert limit_named(view) == 2_000_000


def test_the_line_that_is_to_blame_is_dropped_and_the_others_go_again() -> None:
    """One bad line fails a whole batch at OpenAI; it does not take the others with it."""
    view = _failed({"code": "invalid_request", "message": "bad", "line": 2})
    assert refusal_of(view, endpoint="e", was_cancelled=False) is None
    assert isinstance(unanswered(view, 2), RequestRejected)
    assert isinstance(unanswered(view, 1), Again)


@pytest.mark.parametrize(
    "problem",
    [
        {"code": "billing_hard_limit_reached", "message": "no money"},
        {"code": "model_not_found", "message": "no such model", "line": 1},
        {"code": "", "message": "the file is not to our liking"},
    ],
)
def test_what_would_befall_every_batch_stops_the_run(problem: dict[str, Any]) -> None:
    """Quota, a wrong model, or a failure that names no line."""
    assert isinstance(refusal_of(_failed(problem), endpoint="e", was_cancelled=False), EndpointRefused)


def test_a_cancellation_stops_the_run_that_watches_and_not_the_next_one() -> None:
    """Somebody wanted the end of it; the same command, given again, wants the rest."""
    view = BatchView("b", BatchStatus.CANCELLED)
    assert isinstance(refusal_of(view, endpoint="e", was_cancelled=False), StoppedEarly)
    assert refusal_of(view, endpoint="e", was_cancelled=True) is None
    assert isinstance(unanswered(view, 1), Again)


@pytest.mark.parametrize("status", [BatchStatus.EXPIRED, BatchStatus.COMPLETED])
def test_a_line_without_an_answer_is_worth_another_attempt(status: BatchStatus) -> None:
    """Whether its time ran out or it was simply left out."""
    assert isinstance(unanswered(BatchView("b", status), 1), TransientFailure)
