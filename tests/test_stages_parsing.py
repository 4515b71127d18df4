"""From raw bytes to records: what is read, what is dropped, and that nothing cut off is ever taken for whole."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from synth_async.records import Completion, Drop, DropReason, Example, Stage, Task, Topic, Usage
from synth_async.stages.json_text import only_object, strict_json
from synth_async.stages.parsing import MalformedBody, read_completion, read_example, read_object

TASK = Task(key="0" * 32, topic=Topic(0, "a late parcel"), sample=0, messages=())
PAIR = {"user_message": "Where is my parcel?", "assistant_response": "It left the depot this morning."}

json_leaves = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text()
json_values = st.recursive(
    json_leaves.filter(lambda leaf: not isinstance(leaf, float) or abs(leaf) < 1e300),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
# Texts that look like JSON from the inside, so that a cut inside a string often ends in something that looks closed.
tricky_texts = st.text(st.sampled_from('{}[]",:\\ab1 \n'), max_size=30)
tricky_objects = st.dictionaries(
    st.sampled_from(["user_message", "assistant_response", "reason", "score"]),
    tricky_texts | st.integers(0, 9) | st.lists(tricky_texts, max_size=3) | st.dictionaries(tricky_texts, tricky_texts),
    min_size=1,
)


def body_of(message: dict[str, Any], **more: Any) -> bytes:
    """A chat completion with one choice."""
    choice = {"index": 0, "message": message, "finish_reason": more.pop("finish_reason", "stop")}
    return orjson.dumps({"model": "served", "choices": [choice], **more})


def completion_of(content: str | None, *, finish_reason: str | None = "stop", refusal: str | None = None) -> Completion:
    """A completion whose content is what matters."""
    return Completion(content, finish_reason, refusal, "served", Usage())


def reason_of(outcome: object) -> str:
    """Reason of what must be a drop."""
    assert isinstance(outcome, Drop), outcome
    return outcome.reason


# --- bytes to a completion -----------------------------------------------------------------------


def test_a_plain_completion_is_read() -> None:
    """Content, finish reason, model and token counts come from the first choice."""
    body = body_of({"role": "assistant", "content": "hi"}, usage={"prompt_tokens": 12, "completion_tokens": 3})
    assert read_completion(body, fallback_model="asked") == Completion("hi", "stop", None, "served", Usage(12, 3))


def test_blank_lines_and_a_byte_order_mark_before_the_body_are_fine() -> None:
    """What servers send to keep a connection alive is no part of the body."""
    for prefix in (b"\n\n\r\n  \n", b"\xef\xbb\xbf"):
        assert read_completion(prefix + body_of({"content": "hi"}), fallback_model="asked").content == "hi"


def test_the_configured_model_stands_in_for_a_missing_one() -> None:
    """A body that names no model gets the one that was asked for."""
    for model in (None, "", 7):
        assert read_completion(body_of({"content": "x"}, model=model), fallback_model="asked").model == "asked"


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, Usage()),
        ([], Usage()),
        ({}, Usage()),
        ({"prompt_tokens": 10.0, "completion_tokens": 2.9}, Usage(10, 2)),
        ({"prompt_tokens": None, "completion_tokens": "5"}, Usage()),
        ({"prompt_tokens": -4, "completion_tokens": True}, Usage()),
    ],
)
def test_odd_usage_counts_as_nothing(usage: object, expected: Usage) -> None:
    """Token counts may be missing, null, floats or nonsense, and the answer is still read."""
    assert read_completion(body_of({"content": "x"}, usage=usage), fallback_model="m").usage == expected


def test_a_body_without_usage_is_read() -> None:
    """`usage` may be left out."""
    assert read_completion(body_of({"content": "x"}), fallback_model="m").usage == Usage()


def test_parts_of_text_are_joined_and_parts_of_refusal_are_a_refusal() -> None:
    """A list of parts is content where it holds text, and a refusal where it says so; other parts are skipped."""
    parts = [{"type": "text", "text": "a"}, {"type": "reasoning", "summary": []}, {"type": "text", "text": "b"}]
    assert read_completion(body_of({"content": parts}), fallback_model="m").content == "ab"
    refused = read_completion(body_of({"content": [{"type": "refusal", "refusal": "No."}]}), fallback_model="m")
    assert (refused.content, refused.refusal) == (None, "No.")


def test_null_content_and_a_refusal_field_are_kept_apart() -> None:
    """A null content is no error: the refusal beside it is what counts."""
    read = read_completion(body_of({"content": None, "refusal": "I will not."}), fallback_model="m")
    assert (read.content, read.refusal) == (None, "I will not.")


def test_lone_surrogates_become_replacement_characters_and_pairs_stay() -> None:
    r"""A lone `\ud800` cannot be written as UTF-8 again; a pair, and an escaped backslash before `ud800`, can."""
    body = rb'{"choices": [{"message": {"content": "a\ud800b \ud83d\ude00 \\ud800 \udc00\ud800"}}]}'
    content = read_completion(body, fallback_model="m").content
    assert content == "a�b 😀 \\ud800 ��"
    assert orjson.dumps(content)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   \n",
        b"<html><body>502 Bad Gateway</body></html>",
        body_of({"content": "x"})[:-1],
        body_of({"content": "x"})[:20],
        b"\x00" * 40,
        body_of({"content": "x"}) + b"\x00",
        b"\xff\xfe{}",
        b'{"choices": [{"message": {"content": NaN}}]}',
        b"[" * 100_000,
        b"null",
        b"7",
        b'"text"',
        b"[]",
        b"{}",
        b'{"error": {"message": "Provider returned error", "code": 502}}',
        b'{"error": "overloaded", "choices": [{"message": {"content": "x"}}]}',
        b'[{"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}]',
        b'{"choices": null}',
        b'{"choices": []}',
        b'{"choices": {}}',
        b'{"choices": [null]}',
        b'{"choices": [{}]}',
        b'{"choices": [{"message": "text"}]}',
        b'{"choices": [{"message": {"content": 7}}]}',
        b'{"choices": [{"message": {"content": {"a": 1}}}]}',
        b'{"choices": [{"message": {"content": ["text"]}}]}',
        b'{"choices": [{"message": {"content": [{"type": "text", "text": null}]}}]}',
        b'{"choices": [{"message": {"content": "half"}, "finish_reason": "error"}]}',
        b'{"choices": [{"message": {"content": "half"}, "error": {"code": 502, "message": "upstream"}}]}',
    ],
)
def test_what_is_no_completion_is_malformed(body: bytes) -> None:
    """HTML, cut bodies, NULs, errors with status 200 and wrong shapes all raise the one error that callers expect."""
    with pytest.raises(MalformedBody):
        read_completion(body, fallback_model="m")


def test_a_null_error_beside_choices_is_no_error() -> None:
    """Some servers always send the key."""
    assert read_completion(body_of({"content": "x"}, error=None), fallback_model="m").content == "x"


def test_the_message_quotes_the_error_and_masks_what_may_be_a_key() -> None:
    """Who reads the log learns what the provider said, and no key."""
    body = orjson.dumps({"error": {"message": "Incorrect API key provided: sk-proj-abcdefghijklmnopqrstuv"}})
    with pytest.raises(MalformedBody, match="Incorrect API key provided") as caught:
        read_completion(body, fallback_model="m")
    assert "abcdefgh" not in str(caught.value)


@given(st.binary(max_size=2000) | st.text(max_size=2000).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"\x1b[31m" + b"a b " * 500)
@example(orjson.dumps({"error": {"message": "x y " * 500}}))
def test_a_malformed_body_shows_120_printable_characters_at_most(body: bytes) -> None:
    """No body raises anything else, and none floods or garbles a log."""
    with pytest.raises(MalformedBody) as caught:
        read_completion(body, fallback_model="m")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 120 + len("an error with status 200: ")


@given(json_values, st.sampled_from(["choices", "message", "content", "usage", "finish_reason", "model"]))
def test_any_json_in_any_place_is_read_or_malformed(value: Any, place: str) -> None:
    """Whatever a server puts into a field, the answer is a completion in valid UTF-8 or a MalformedBody."""
    message: Any = {"content": value} if place == "content" else {"content": "x"}
    choice = {"message": value if place == "message" else message, "finish_reason": "stop"}
    answer: dict[str, Any] = {"choices": [choice]}
    if place == "finish_reason":
        choice[place] = value
    elif place not in {"message", "content"}:
        answer[place] = value
    try:
        read = read_completion(json.dumps(answer).encode(), fallback_model="m")
    except MalformedBody:
        return
    assert orjson.dumps([read.content, read.finish_reason, read.refusal, read.model])


# --- a completion to its object ------------------------------------------------------------------


def test_drops_are_decided_in_a_fixed_order() -> None:
    """Cut before refused before filtered before empty: what the server marks goes before what the text looks like."""
    whole = orjson.dumps(PAIR).decode()
    assert reason_of(read_object(completion_of(whole, finish_reason="length", refusal="No."))) == DropReason.TRUNCATED
    assert reason_of(read_object(completion_of(whole, refusal="No."))) == DropReason.REFUSED
    assert reason_of(read_object(completion_of(whole, finish_reason="content_filter"))) == DropReason.REFUSED
    assert reason_of(read_object(completion_of(None, finish_reason="content_filter"))) == DropReason.REFUSED
    for blank in (None, "", " \n\t"):
        assert reason_of(read_object(completion_of(blank))) == DropReason.EMPTY


def test_a_drop_carries_the_stage_of_who_asked() -> None:
    """The judge reads its verdicts with the same rules and counts them as its own."""
    assert read_object(completion_of("", refusal=None), stage=Stage.JUDGE) == Drop(
        Stage.JUDGE, DropReason.EMPTY, "no content"
    )


WHOLE = '{"a": "x", "n": 1}'


@pytest.mark.parametrize(
    "content",
    [
        WHOLE,
        f"\n\n{WHOLE}\n",
        f"```json\n{WHOLE}\n```",
        f"```\n{WHOLE}\n```",
        f"```json\n{WHOLE}",
        f"Sure! Here it is:\n\n```json\n{WHOLE}\n```\nAnything else?",
        f"Here is the object: {WHOLE} - as asked.",
        f"[{WHOLE}]",
        f"{WHOLE}}}",
        f"A {{slot}} and {{{{another}}}}, then {WHOLE}",
        f"<think>short</think>{WHOLE}",
        f'<think>I could say {{"a": "draft"}} but no</think>\n\n{WHOLE}',
        f"<think></think><think>again</think>\n```json\n{WHOLE}\n```",
        f"<thinking>\nplan\n</thinking>{WHOLE}",
        f'Okay, the user wants {{"a": 1}}.\n</think>\n{WHOLE}',
        f"Plan: <think>one {{ two</think> {WHOLE}",
        '{"a": "x", "n": 1,}',
        '{"a": "x" "n": 1}',
        '{a: "x", n: 1}',
        '```json\n{"a": "x", "n": 1,}\n```',
    ],
)
def test_one_object_is_found_in_what_models_put_around_it(content: str) -> None:
    """Reasoning, fences, prose and small slips of syntax do not cost a paid answer."""
    assert read_object(completion_of(content)) == {"a": "x", "n": 1}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"a": "line\nbreak"}', {"a": "line\nbreak"}),
        ('{"a": "can\\\'t"}', {"a": "can't"}),
        (
            '{"a": "Click "Save", then "Exit", and go.", "b": "x"}',
            {"a": 'Click "Save", then "Exit", and go.', "b": "x"},
        ),
        ('{"a": "keep <think>this</think> and ```code```"}', {"a": "keep <think>this</think> and ```code```"}),
        ('{"a": "\\ud800x"}', {"a": "�x"}),
        ('{"a": "\\ud800x",}', {"a": "�x"}),
        ("{}", {}),
    ],
)
def test_text_inside_the_object_is_left_alone(content: str, expected: dict[str, Any]) -> None:
    """What belongs to a value is neither stripped nor lost, with or without a repair."""
    assert read_object(completion_of(content)) == expected


@pytest.mark.parametrize("content", [f"{WHOLE}{WHOLE}", f"{WHOLE}\n{WHOLE}\n", f"Or: [{WHOLE}, {WHOLE}]"])
def test_several_objects_are_no_answer(content: str) -> None:
    """Nobody can say which of two objects was meant."""
    assert reason_of(read_object(completion_of(content))) == DropReason.SEVERAL_OBJECTS


@pytest.mark.parametrize(
    "content",
    [
        "I would rather not.",
        '"text"',
        "[1, 2]",
        "null",
        "{",
        "}",
        "{{",
        '{"a": NaN}',
        '{"a": Infinity, "b": 1,}',
        '{"a": -Infinity,}',
        '{"a": 1e999}',
        '{"a": 1e999,}',
        '{"a": "x"} {"b": "cu',
        '{"a": broken, "b": {"c": 1}',
        '{a: "x", "b": {"c": 1}',
        "{'a': 'x', 'b': {\"c\": 1}",
        '{"a": "said "hi and x}',
        '{"a": "cut off',
        '{"a": "cut {off}',
        '{"a": "cut {0}',
        '{"a": "cut {"x"}',
        '{"a": "cut, "b": 1}',
        '{"a": "x", "b": cut off here}',
        '{"a": "x" lost words, "b": "y"}',
        '{"a": "x",}, "b": {"c": "y"}',
        '{"a": "x",} {"a": "y",}',
        '{"a": {"b": "x"}',
        '{"a": ["x"}',
        '{"a": ' + "[" * 100_000,
        '{"a": ' + "[" * 5_000 + "}",
    ],
)
def test_what_is_not_one_whole_object_is_not_json(content: str) -> None:
    """Values that are no JSON, cut objects and objects inside broken ones are dropped, never completed."""
    assert reason_of(read_object(completion_of(content))) == DropReason.NOT_JSON


def test_reasoning_that_never_ends_is_a_cut_answer() -> None:
    """An unclosed block at the head holds drafts, not the answer, whatever they look like."""
    for content in (f"<think>so {WHOLE}", f"  <THINK> {WHOLE}", "<think>a</think><think>b"):
        assert reason_of(read_object(completion_of(content))) == DropReason.TRUNCATED


def test_nothing_behind_the_reasoning_is_empty() -> None:
    """Reasoning alone is no answer."""
    assert reason_of(read_object(completion_of("<think>done</think>\n"))) == DropReason.EMPTY


@given(tricky_objects, st.data())
@example({"user_message": "a {0}", "reason": "x"}, None)
def test_no_proper_prefix_of_an_object_is_accepted(value: dict[str, Any], data: st.DataObject | None) -> None:
    """Wherever an object is cut, even behind a brace inside a string, the rest is never completed."""
    whole = json.dumps(value)
    ends = [data.draw(st.integers(1, len(whole) - 1))] if data else []
    for end in ends + [at + 1 for at, character in enumerate(whole[:-1]) if character == "}"]:
        assert not isinstance(only_object(whole[:end]), dict)
        assert not isinstance(only_object(f"```json\n{whole[:end]}\n```"), dict)


@given(tricky_objects, st.sampled_from(["{}", "\n{}\n", "```json\n{}\n```", "Here: {} done", "<think>{{}}</think>{}"]))
def test_a_whole_object_always_comes_back_unchanged(value: dict[str, Any], around: str) -> None:
    """Whatever its strings look like, a valid object is the answer."""
    assert read_object(completion_of(around.replace("{}", json.dumps(value)).replace("{{}}", "{}"))) == value


@given(st.text(st.sampled_from('{}[]",:\\abNa1 \n`<think>/'), max_size=60) | st.text(max_size=60))
@example('{"a": "\\ud800",}')
def test_any_text_is_one_valid_object_or_a_drop(text: str) -> None:
    """No content raises, and what is accepted can be written as JSON in UTF-8."""
    outcome = read_object(completion_of(text))
    if isinstance(outcome, Drop):
        assert outcome.reason in set(DropReason)
        assert outcome.detail.isprintable()
    else:
        assert strict_json(orjson.dumps(outcome)) == outcome


# --- an object to an example ---------------------------------------------------------------------


def example_of(value: object, *, turns: int = 1) -> Example | Drop:
    """What is read from an object that came as content."""
    return read_example(TASK, completion_of(json.dumps(value)), turns=turns)


def test_an_exchange_becomes_an_example() -> None:
    """One turn: a user and an assistant message, with the task and the model that served it."""
    read = example_of({**PAIR, "topic": "ignored"})
    assert isinstance(read, Example)
    assert (read.user, read.assistant) == (PAIR["user_message"], PAIR["assistant_response"])
    assert (read.task, read.model) == (TASK, "served")


@pytest.mark.parametrize("key", ["user_message", "assistant_response"])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", DropReason.EMPTY),
        (" \r\n\x00\t", DropReason.EMPTY),
        (None, DropReason.WRONG_TYPE),
        (7, DropReason.WRONG_TYPE),
        (["text"], DropReason.WRONG_TYPE),
        ({"text": "x"}, DropReason.WRONG_TYPE),
    ],
)
def test_each_side_must_be_a_text_that_says_something(key: str, value: object, reason: DropReason) -> None:
    """A blank side is empty, another type is the wrong type, and the detail names the key."""
    outcome = example_of({**PAIR, key: value})
    assert reason_of(outcome) == reason
    assert isinstance(outcome, Drop)
    assert key in outcome.detail
    assert outcome.stage is Stage.GENERATE


@pytest.mark.parametrize("key", ["user_message", "assistant_response"])
def test_a_missing_side_is_named(key: str) -> None:
    """The detail of a missing key is the key."""
    pair = {name: text for name, text in PAIR.items() if name != key}
    assert example_of(pair) == Drop(Stage.GENERATE, DropReason.MISSING_KEY, key)


def test_text_is_cleaned() -> None:
    """Stripped, lines ended by LF, control characters gone but for tabs and line feeds."""
    read = example_of({**PAIR, "assistant_response": "\x07 one\r\ntwo\rthree\tfour\x00\x1b\x85\x7f \n"})
    assert isinstance(read, Example)
    assert read.assistant == "one\ntwo\nthree\tfour"


def turns_of(*roles: str) -> dict[str, object]:
    """Messages of these roles, each with a text of its own."""
    return {"messages": [{"role": role, "content": f" {role} {at} "} for at, role in enumerate(roles)]}


def test_a_conversation_becomes_an_example() -> None:
    """Messages alternate, are cleaned, and an initial system message is dropped; also where one turn was asked for."""
    for turns in (1, 2, 3):
        read = example_of(turns_of("system", "user", "assistant", "user", "assistant"), turns=turns)
        assert isinstance(read, Example)
        assert [message["role"] for message in read.messages] == ["user", "assistant"] * 2
        assert read.messages[0]["content"] == "user 1"


def test_with_one_turn_the_exchange_goes_before_messages() -> None:
    """What was asked for wins over what was added."""
    read = example_of({**PAIR, **turns_of("user", "assistant")})
    assert isinstance(read, Example)
    assert read.user == PAIR["user_message"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (PAIR, DropReason.MISSING_KEY),
        ({"messages": "text"}, DropReason.WRONG_TYPE),
        ({"messages": None}, DropReason.WRONG_TYPE),
        ({"messages": []}, DropReason.WRONG_TYPE),
        ({"messages": ["text"]}, DropReason.WRONG_TYPE),
        ({"messages": [{}, {}]}, DropReason.WRONG_TYPE),
        (turns_of("system"), DropReason.WRONG_TYPE),
        (turns_of("user"), DropReason.WRONG_TYPE),
        (turns_of("assistant", "user"), DropReason.WRONG_TYPE),
        (turns_of("user", "user", "assistant", "assistant"), DropReason.WRONG_TYPE),
        (turns_of("user", "assistant", "user"), DropReason.WRONG_TYPE),
        (turns_of("user", "assistant", "system", "assistant"), DropReason.WRONG_TYPE),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant"}]}, DropReason.WRONG_TYPE),
        (
            {"messages": [{"role": "user", "content": ["x"]}, {"role": "assistant", "content": "y"}]},
            DropReason.WRONG_TYPE,
        ),
        ({"messages": [{"role": "user", "content": " "}, {"role": "assistant", "content": "y"}]}, DropReason.EMPTY),
    ],
)
def test_a_conversation_of_another_shape_is_dropped(value: object, reason: DropReason) -> None:
    """Roles must alternate from user to assistant, and each must say something."""
    assert reason_of(example_of(value, turns=2)) == reason


@given(json_values, st.sampled_from(["user_message", "assistant_response", "messages"]), st.integers(1, 3))
def test_any_object_is_an_example_or_a_drop(value: Any, key: str, turns: int) -> None:
    """No value under any key raises, and examples are never blank."""
    read = example_of({**PAIR, key: value}, turns=turns)
    assert isinstance(read, Drop) or all(message["content"].strip() for message in read.messages)
