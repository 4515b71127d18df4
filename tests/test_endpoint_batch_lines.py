"""Lines of batch files: what is written, what is read back, and what a failed line stands for."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_async.endpoint.batch.lines import (
    custom_id_of,
    failure_of_line,
    key_and_attempt,
    read_result,
    request_line,
)
from synth_async.errors import EndpointRefused, RateLimited, RequestRejected, TransientFailure
from synth_async.records import ChatRequest, Stage

_KEYS = st.text("0123456789abcdef", min_size=32, max_size=32)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=8,
)


def _result(**fields: Any) -> bytes:
    return orjson.dumps({"id": "x", "custom_id": "a" * 32, "response": None, "error": None, **fields})


@given(_KEYS, st.integers(1, 9999))
def test_a_line_is_named_by_key_and_attempt_alone(key: str, attempt: int) -> None:
    """The name leads back to both, is within OpenAI's 64 characters, and is the bare key for a first answer."""
    name = custom_id_of(ChatRequest(key, Stage.JUDGE, (), None, None, "text", attempt=attempt))
    assert key_and_attempt(name) == (key, attempt)
    assert len(name) <= 64
    assert (name == key) == (attempt == 1)


@given(st.text(max_size=70))
def test_other_names_are_nobodys(name: str) -> None:
    """What was not made here is not taken for a key, and never raises."""
    found = key_and_attempt(name)
    assert found is None or name.startswith(found[0])


@given(_KEYS, st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), _JSON))
def test_a_request_line_is_one_line_of_json(key: str, body: dict[str, Any]) -> None:
    """The body comes through as it is, whatever it holds."""
    line = request_line(key, orjson.dumps(body))
    assert line.count(b"\n") == 1
    assert orjson.loads(line) == {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body}


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), _JSON, min_size=1))
def test_a_body_is_read_back_from_every_vendors_line(body: dict[str, Any]) -> None:
    """As an object, as a text that holds one, or as the response itself."""
    plain = read_result(_result(response={"status_code": 200, "request_id": "r", "body": body}))
    as_text = read_result(_result(response={"status_code": 200, "body": orjson.dumps(body).decode()}))
    bare = read_result(_result(response={**body, "choices": [], "status_code": None, "body": None}))
    for found in (plain, as_text):
        assert found is not None
        assert (found.status, orjson.loads(found.body)) == (200, body)
    assert bare is not None
    assert bare.status == 200


def test_lone_surrogates_come_through() -> None:
    """A line that Python's own JSON can read is an answer, although a stricter parser refuses it."""
    line = b'{"custom_id": "%b", "response": {"status_code": 200, "body": {"text": "\\ud800"}}}' % (b"a" * 32)
    found = read_result(line)
    assert found is not None
    assert json.loads(found.body) == {"text": "\ud800"}


@given(st.binary(max_size=200) | _JSON.map(orjson.dumps))
def test_any_bytes_are_a_line_or_nothing(line: bytes) -> None:
    """Nothing that a file may hold raises."""
    found = read_result(line)
    if found is not None:
        failure_of_line(found, endpoint="e", now_s=0.0)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"response": {"status_code": 400, "body": {"error": {"message": "no"}}}}, RequestRejected),
        ({"response": {"status_code": 400, "body": None}, "error": {"message": "no"}}, RequestRejected),
        ({"response": {"status_code": 429, "body": {"error": {"message": "slow"}}}}, RateLimited),
        ({"response": {"status_code": 503, "body": {}}}, TransientFailure),
        ({"response": {"status_code": 401, "body": {}}}, EndpointRefused),
        ({"response": {"status_code": 200, "body": None}}, TransientFailure),
        ({"error": {"code": "batch_expired", "message": "too late"}}, TransientFailure),
        ({"error": {"code": "request_timeout", "message": "slow"}}, TransientFailure),
        ({}, TransientFailure),
    ],
)
def test_a_failed_line_is_the_error_that_it_would_have_been_online(fields: dict[str, Any], kind: type) -> None:
    """Rejected for good, limited, refused altogether, or worth another attempt."""
    found = read_result(_result(**fields))
    assert found is not None
    assert type(failure_of_line(found, endpoint="e", now_s=0.0)) is kind


def test_the_code_of_a_line_names_its_failure() -> None:
    """Lines that were not executed are counted under OpenAI's own words."""
    found = read_result(_result(error={"code": "batch_expired", "message": "too late"}))
    assert found is not None
    failure = failure_of_line(found, endpoint="e", now_s=0.0)
    assert isinstance(failure, TransientFailure)
    assert (failure.kind, "too late" in str(failure)) == ("batch_expired", True)
