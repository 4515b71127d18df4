"""Statuses, headers and bodies of real servers, and who must act on them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_async.endpoint.failures import error_text, failure_of, retry_hint_s
from synth_async.errors import EndpointRefused, RateLimited, RequestRejected, SynthAsyncError, TransientFailure

_NOW_S = 1_700_000_000.0


def _failure(status: int, body: bytes | object = b"", **headers: str) -> SynthAsyncError:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return failure_of(status, names, content, endpoint="main", now_s=_NOW_S)


def _openai(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": None, "param": None, "code": None, **more}}


_OPENAI_LIMIT = _openai(
    "Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Used 29000,"
    " Requested 1900. Please try again in 1.8s. Visit https://platform.openai.com/account/rate-limits to learn more.",
    type="tokens",
    code="rate_limit_exceeded",
)
_GEMINI_LIMIT = [
    {
        "error": {
            "code": 429,
            "message": "You exceeded your current quota, please check your plan and billing details. For more"
            " information on this error, read the documentation of rate limits. * Quota exceeded for metric:"
            " generativelanguage.googleapis.com/generate_content_free_tier_requests, limit: 15",
            "status": "RESOURCE_EXHAUSTED",
            "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}],
        }
    }
]


@pytest.mark.parametrize(
    ("body", "headers", "hint_s"),
    [
        (_OPENAI_LIMIT, {}, 1.8),
        (_OPENAI_LIMIT, {"retry_after_ms": "1750"}, 1.75),
        (_OPENAI_LIMIT, {"retry_after_ms": "1750", "retry_after": "2"}, 1.75),
        (_GEMINI_LIMIT, {}, 34.5),
        (_openai("Requests have exceeded call rate limit. Please retry after 55 seconds."), {}, 55),
        (_openai("Requests have exceeded call rate limit"), {"retry_after": "86400"}, 86_400),
        (
            _openai(
                "litellm.RateLimitError: Deployment over user-defined ratelimit.", type="throttling_error", code="429"
            ),
            {"retry_after": "60"},
            60,
        ),
        ({"error": {"message": "Rate limit exceeded: free-models-per-min", "code": 429}}, {}, None),
        ({"detail": "Too many requests"}, {"retry_after": "0.25"}, 0.25),
        ({"message": "Requests rate limit exceeded"}, {}, None),
        (b"<html>429 Too Many Requests</html>", {"retry_after": "Tue, 14 Nov 2023 22:14:20 GMT"}, 60),
        (b"", {"retry_after": "Tue, 14 Nov 2023 22:12:20 GMT"}, None),
        (b"", {"retry_after": "6m0s"}, 360),
        (b"", {"retry_after": "17ms"}, 0.017),
        (b"", {"retry_after": "-1"}, None),
        (b"", {"retry_after": "0"}, None),
        (b"", {"retry_after": "nan"}, None),
        (b"", {"retry_after": "soon"}, None),
        (b"", {"retry_after": ""}, None),
        (b"", {"retry_after": "1e400"}, None),
        (b"", {"retry_after": "999999999"}, 86_400),
        (b"please try again in 6m0s", {"retry_after": "garbage"}, 360),
    ],
)
def test_a_429_asks_for_patience(body: bytes | object, headers: dict[str, str], hint_s: float | None) -> None:
    """The wait is the header's, else the words', else unknown; never 0, never above a day."""
    failure = _failure(429, body, **headers)
    assert isinstance(failure, RateLimited)
    assert failure.hint_s == (None if hint_s is None else pytest.approx(hint_s))


@pytest.mark.parametrize(
    ("words", "hint_s"),
    [
        ("Please try again in 20ms.", 0.02),
        ("Please try again in 7m12s.", 432),
        ("Please try again in 1h2m3.5s.", 3723.5),
        ("Please try again in 6m.", 360),
        ("retry after 2 minutes", 120),
        ("Please retry in 34.07s.", 34.07),
        ("try again in 2 hours", 7_200),
        ("please try again in a moment", None),
        ("try again in 5 samples", None),
        ("limit 20s", None),
    ],
)
def test_words_are_read_as_a_span(words: str, hint_s: float | None) -> None:
    """Go's durations and plain English, where they follow `try again in` or `retry after`."""
    assert retry_hint_s({}, words, now_s=_NOW_S) == (None if hint_s is None else pytest.approx(hint_s))


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (429, _openai("You exceeded your current quota, please check your plan.", code="insufficient_quota"), "quota"),
        (402, {"error": {"message": "Insufficient credits. Add more", "code": 402}}, "quota is used up"),
        (401, _openai("Incorrect API key provided", code="invalid_api_key"), "check the key"),
        (403, _openai("Country, region, or territory not supported"), "access refused"),
        (404, _openai("The model `gpt-9` does not exist", code="model_not_found"), "check model"),
        (404, b"<html><h1>Not Found</h1></html>", "base_url"),
        (405, b"", "base_url"),
        (307, b"", "final address"),
    ],
)
def test_a_refusal_for_good_stops_the_run(status: int, body: bytes | object, words: str) -> None:
    """Credentials, quota, model, address: nothing that waiting would mend, and the endpoint is named."""
    failure = _failure(status, body)
    assert isinstance(failure, EndpointRefused)
    assert "main" in str(failure)
    assert words in str(failure)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, _openai("This model's maximum context length is 8192 tokens")),
        (413, b"<html>413</html>"),
        (422, {"detail": [{"loc": ["body", "messages"], "msg": "field required"}]}),
        (
            429,
            _openai("Request too large for gpt-4o on tokens per min (TPM): Limit 30,000, Requested 33,333.", code="x"),
        ),
        (429, _openai("Request too large for this model")),
        (403, {"error": {"code": 403, "message": "Your model requires moderation and your input was flagged"}}),
    ],
)
def test_a_request_that_no_wait_helps_is_dropped(status: int, body: bytes | object) -> None:
    """The task goes, the run goes on; the status is kept."""
    failure = _failure(status, body)
    assert isinstance(failure, RequestRejected)
    assert failure.status == status


@pytest.mark.parametrize("status", [500, 502, 503, 504, 520, 529, 408, 409, 425, 498, 499])
def test_a_servers_own_trouble_is_worth_another_attempt(status: int) -> None:
    """The kind counts it by its status, the hint is kept."""
    failure = _failure(status, b"<html><body>Bad Gateway</body></html>", retry_after="7")
    assert isinstance(failure, TransientFailure)
    assert (failure.kind, failure.hint_s, failure.connected) == (f"http_{status}", 7, True)
    assert str(failure) == f"HTTP {status}"


def test_a_request_below_the_limit_is_only_early() -> None:
    """Requested is compared with Limit, commas and all."""
    text = "Limit 30,000, Used 29,990, Requested 1,900"
    assert isinstance(_failure(429, _openai(text)), RateLimited)
    assert isinstance(_failure(429, _openai("Limit: , Requested: ,")), RateLimited)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (_openai("Bad", code="c", type="t", param="response_format"), "c: t: response_format: Bad"),
        ([{"error": {"code": 400, "message": "bad", "status": "INVALID"}}], "400: bad"),
        ({"error": "model is loading"}, "model is loading"),
        ({"error": {"error": {"message": "inner"}}}, "inner"),
        ({"detail": ["a", {"b": 1}]}, "['a', {'b': 1}]"),
        ({"message": "tab\tand\nline \x1b[31m"}, "tab and line [31m"),
        (b"plain words", "plain words"),
        (b"<!DOCTYPE html><p>long", ""),
        (b"", ""),
        (b"[]", "[]"),
        (b"null", "None"),
    ],
)
def test_the_servers_words_on_one_line(body: bytes | object, text: str) -> None:
    """Code, type, parameter and message, printable; a proxy's page says nothing."""
    assert error_text(body if isinstance(body, bytes) else orjson.dumps(body)) == text


def test_long_words_are_cut_in_messages_and_read_in_full() -> None:
    """A message stays short; a hint behind its end counts all the same."""
    failure = _failure(429, _openai("x" * 5_000 + " Please try again in 9s."))
    assert isinstance(failure, RateLimited)
    assert failure.hint_s == 9
    assert len(str(failure)) < 330
    assert len(error_text(b"y" * 5_000)) == 300


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "message", "detail", "code", "type", "param"]), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(st.integers(300, 599), st.one_of(st.binary(max_size=100), _JSON.map(orjson.dumps)), st.text(max_size=20))
def test_any_response_maps_to_one_of_our_errors(status: int, body: bytes, header: str) -> None:
    """Whatever a server sends, it is one line of at most 300 of its characters, and one of the five reactions."""
    failure = _failure(status, body, retry_after=header)
    assert isinstance(failure, EndpointRefused | RateLimited | RequestRejected | TransientFailure)
    assert len(str(failure)) < 450
    assert str(failure).isprintable()
