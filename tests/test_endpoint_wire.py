"""The request body, and how it adapts to what a server refuses."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from synth_async.endpoint.wire import Dialect, adapted, request_body
from synth_async.records import AnswerSchema, ChatRequest, Message, ResponseFormat, Stage

_PLAIN = Dialect()
_SCHEMA = AnswerSchema("exchange", {"type": "object", "properties": {"answer": {"type": "string"}}})


def _body(
    dialect: Dialect = _PLAIN,
    *,
    temperature: float | None = 0.8,
    max_tokens: int | None = 100,
    response_format: ResponseFormat = "json_object",
    schema: AnswerSchema | None = _SCHEMA,
    **extra: Any,
) -> dict[str, Any]:
    messages = (Message(role="user", content="Grüße \u2028 \U0001f600"),)
    request = ChatRequest("0" * 32, Stage.GENERATE, messages, temperature, max_tokens, response_format, schema)
    found: dict[str, Any] = orjson.loads(request_body(request, model="m", dialect=dialect, extra_body=extra))
    return found


def test_the_plain_dialect_is_openais() -> None:
    """Everything that was asked for, and nothing else."""
    assert _body() == {
        "model": "m",
        "messages": [{"role": "user", "content": "Grüße \u2028 \U0001f600"}],
        "temperature": 0.8,
        "max_tokens": 100,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "exchange", "strict": True, "schema": dict(_SCHEMA.schema)},
        },
    }


def test_what_is_not_asked_for_is_not_sent() -> None:
    """None leaves a parameter to the server; text is the default format everywhere."""
    assert set(_body(temperature=None, max_tokens=None, response_format="text")) == {"model", "messages"}


def test_json_is_asked_for_the_way_the_dialect_says() -> None:
    """By its schema, as any object, or by the prompt alone; without a schema, an object is the most there is."""
    anything = {"type": "json_object"}
    assert _body(Dialect(response_format="json_object"))["response_format"] == anything
    assert "response_format" not in _body(Dialect(response_format="text"))
    assert _body(schema=None)["response_format"] == anything


def test_extra_body_has_the_last_word() -> None:
    """A user may add parameters and override ours."""
    body = _body(temperature=0.8, top_p=0.9, max_tokens=5)
    assert (body["top_p"], body["max_tokens"]) == (0.9, 5)
    assert _body(chat_template_kwargs={"thinking": False})["chat_template_kwargs"] == {"thinking": False}


def test_a_dialect_changes_the_spelling() -> None:
    """Each difference is one key, renamed or left out."""
    body = _body(Dialect(response_format="text", max_tokens_name="max_completion_tokens", temperature=False))
    assert set(body) == {"model", "messages", "max_completion_tokens"}


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (
            "Unsupported parameter: 'max_tokens' is not supported here. Use 'max_completion_tokens' instead.",
            Dialect(max_tokens_name="max_completion_tokens"),
        ),
        (
            "Unsupported value: 'temperature' does not support 0.8 with this model. Only the default (1) is supported.",
            Dialect(temperature=False),
        ),
    ],
)
def test_a_refusal_teaches_the_spelling(refusal: str, expected: Dialect) -> None:
    """The server's words name what to leave out; said again about the new dialect, they teach nothing more."""
    assert adapted(_PLAIN, refusal) == expected
    assert adapted(expected, refusal) is None
    assert expected.describe(_PLAIN) != ""


@pytest.mark.parametrize(
    "refusal",
    [
        "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
        "HTTP 422: [{'loc': ['body', 'response_format'], 'msg': 'extra fields'}]",
        "json_object is not supported by this model",
        "The provided JSON schema contains features not supported by xgrammar.",
        "Structured output is not supported by this endpoint.",
    ],
)
def test_a_refused_format_is_one_step_down_the_ladder(refusal: str) -> None:
    """First any object in place of the schema, then words alone; after that there is nothing left to say otherwise."""
    as_object = adapted(_PLAIN, refusal)
    assert as_object == Dialect(response_format="json_object")
    in_words = adapted(as_object, refusal)
    assert in_words == Dialect(response_format="text")
    assert adapted(in_words, refusal) is None
    assert as_object.describe(_PLAIN) != in_words.describe(as_object) != ""


@pytest.mark.parametrize(
    "refusal",
    [
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
        "'max_tokens' or 'max_completion_tokens' is too large: 32000. This model's maximum context length is 4096.",
        "json_validate_failed: Generated JSON does not match the expected schema. See 'failed_generation'.",
        "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
    ],
)
def test_a_refusal_of_the_request_itself_changes_nothing(refusal: str) -> None:
    """No other spelling would help."""
    assert adapted(_PLAIN, refusal) is None


def test_several_refusals_add_up() -> None:
    """A server may refuse one thing after another."""
    dialect = _PLAIN
    for refusal in ("use max_completion_tokens", "temperature", "response_format", "response_format"):
        found = adapted(dialect, refusal)
        assert found is not None
        dialect = found
    assert dialect == Dialect(response_format="text", max_tokens_name="max_completion_tokens", temperature=False)
    assert dialect.describe(dialect) == ""
    assert dialect.describe(_PLAIN).count(";") == 2
