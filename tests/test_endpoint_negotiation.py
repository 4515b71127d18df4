"""How an endpoint's dialect is found: by its words, and by trying where it has none. In virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from synth_async.config.models import Endpoint as Settings
from synth_async.endpoint.negotiation import Negotiation
from synth_async.endpoint.service import Endpoint
from synth_async.endpoint.wire import Dialect
from synth_async.errors import RequestRejected, TransientFailure
from synth_async.records import AnswerSchema, ChatRequest, Completion, Message, ResponseFormat, Stage
from synth_async.testing import ScriptedClient, Step, chat_body, run_in_virtual_time

_GOOD = chat_body("hello")
_500 = TransientFailure("HTTP 500", kind="http_500")
_BARE_400 = RequestRejected("HTTP 400: Bad Request", status=400)


def _request(number: int = 0, *, schema: str | None = "exchange") -> ChatRequest:
    messages = (Message(role="user", content=f"question {number}"),)
    wanted = AnswerSchema(schema, {"type": "object"}) if schema is not None else None
    response_format: ResponseFormat = "text" if schema is None else "json_object"
    return ChatRequest(f"{number:032x}", Stage.GENERATE, messages, 0.8, 100, response_format, wanted)


def _format(body: dict[str, Any]) -> str:
    return str(body.get("response_format", {"type": "text"})["type"])


def _formats(client: ScriptedClient) -> list[str]:
    return [_format(body) for body in client.bodies]


def _refusing(answer: Step, *formats: str) -> ScriptedClient:
    return ScriptedClient(lambda body: answer if _format(body) in formats else _GOOD, delay_s=1)


def _endpoint(client: ScriptedClient, **settings: Any) -> tuple[Endpoint, list[str]]:
    notes: list[str] = []
    endpoint = Endpoint("main", Settings(model="m", **settings), client, give_up_after_s=3600, seed=3)
    endpoint.on_note = notes.append
    return endpoint, notes


def _ask(endpoint: Endpoint, count: int, *, at_once: bool = False) -> list[bytes]:
    """Ask `count` requests, one after the other or all at once; the answers that were kept."""
    kept: list[bytes] = []

    async def main() -> None:
        if not at_once:
            for number in range(count):
                await endpoint.ask(_request(number), kept.append)
            return
        async with anyio.create_task_group() as group:
            for number in range(count):
                group.start_soon(endpoint.ask, _request(number), kept.append)

    run_in_virtual_time(main)
    return kept


# --- refusals in words ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize(
    ("refused", "expected"),
    [
        (["json_schema"], ["json_schema", "json_object", "json_object"]),
        (["json_schema", "json_object"], ["json_schema", "json_object", "text", "text"]),
    ],
)
def test_a_named_format_is_left_once_and_for_all(status: int, refused: list[str], expected: list[str]) -> None:
    """Each refusal is one step down, told once; what comes later is asked in the format that was found."""
    client = _refusing(RequestRejected(f"HTTP {status}: response_format is not supported", status=status), *refused)
    endpoint, notes = _endpoint(client)
    assert _ask(endpoint, 2) == [_GOOD] * 2
    assert _formats(client) == expected
    assert len(notes) == len(refused)
    assert all(note.startswith("endpoint main: ") for note in notes)
    assert endpoint.counts.failures == {}


@pytest.mark.parametrize("first", ["json_schema", "json_object", "text"])
def test_the_config_says_where_to_begin(first: ResponseFormat) -> None:
    """`response_format` is the first thing that is tried; beginning lower is nothing to report."""
    client = ScriptedClient([_GOOD])
    endpoint, notes = _endpoint(client, response_format=first)
    _ask(endpoint, 1)
    assert (_formats(client), notes) == ([first], [])


def _refuses_keys(*keys: str) -> ScriptedClient:
    def answer(body: dict[str, Any]) -> Step:
        for key in keys:
            if key in body:
                return RequestRejected(f"HTTP 400: {key} is not supported", status=400)
        return _GOOD

    return ScriptedClient(answer, delay_s=1)


def test_what_is_refused_is_left_out_for_all() -> None:
    """Requests refused at the same time all recover, later ones are right the first time, each finding is told once."""
    client = _refuses_keys("response_format", "temperature")
    endpoint, notes = _endpoint(client)
    endpoint.breaker.note_answered()
    assert len(_ask(endpoint, 10, at_once=True)) == 10
    before = len(client.bodies)
    assert before <= 40
    _ask(endpoint, 1)
    assert len(client.bodies) == before + 1
    assert len(notes) == 3


def test_who_waited_at_the_start_sends_what_the_first_one_learnt() -> None:
    """The first request goes alone; the others are not refused for what it has found out."""
    client = _refuses_keys("response_format")
    endpoint, _ = _endpoint(client)
    assert len(_ask(endpoint, 10, at_once=True)) == 10
    assert len(client.bodies) == 12


def test_the_spelling_of_max_tokens_is_found_as_well() -> None:
    """A server that wants `max_completion_tokens` gets it, with the same amount, from the second request on."""
    words = "HTTP 400: Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    client = ScriptedClient(lambda body: RequestRejected(words, status=400) if "max_tokens" in body else _GOOD)
    endpoint, notes = _endpoint(client)
    _ask(endpoint, 2)
    assert [body.get("max_completion_tokens") for body in client.bodies] == [None, 100, 100]
    assert notes == ["endpoint main: max_tokens is spelt max_completion_tokens"]


# --- refusals without words ----------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize(
    ("refused", "found"), [(["json_schema"], "json_object"), (["json_schema", "json_object"], "text")]
)
@pytest.mark.parametrize("answer", [_500, _BARE_400], ids=["500", "400"])
def test_a_format_that_is_refused_without_a_word_is_found_out(
    answer: Step,
    refused: list[str],
    found: str,
    at_once: bool,  # noqa: FBT001 - the case
) -> None:
    """Nobody is lost, and the format that is understood is asked for from then on; it is told once."""
    client = _refusing(answer, *refused)
    endpoint, notes = _endpoint(client)
    assert len(_ask(endpoint, 40, at_once=at_once)) == 40
    assert len(notes) == 1
    asked = len(client.bodies)
    _ask(endpoint, 5)
    assert _formats(client)[asked:] == [found] * 5


def test_a_500_is_asked_once_more_as_it_was_before_the_format_is_doubted() -> None:
    """Twice as it is, then plainer; after an answer once more as it was, and only then it was the format."""
    client = _refusing(_500, "json_schema")
    endpoint, notes = _endpoint(client)
    _ask(endpoint, 1)
    assert _formats(client) == ["json_schema", "json_schema", "json_object"]
    assert notes == []
    _ask(endpoint, 2)
    assert _formats(client)[3:] == ["json_schema", "json_object", "json_object"]
    assert notes == ["endpoint main: no schema is understood, JSON is asked for as an object of any kind"]


@pytest.mark.parametrize("failures", range(1, 12))
def test_a_server_that_starts_with_500s_is_not_taken_for_one_without_formats(failures: int) -> None:
    """However many 500s come first: once it answers the format that was configured, that one stays."""
    client = ScriptedClient(lambda _body: _500 if len(client.bodies) <= failures else _GOOD)
    endpoint, notes = _endpoint(client)
    _ask(endpoint, 3)
    assert notes == []
    assert _formats(client)[-1] == "json_schema"


def test_a_format_that_was_answered_is_never_doubted() -> None:
    """500s that come later, and single requests that are refused, are about something else."""
    client = ScriptedClient([_GOOD, _500, _500, _500, _GOOD, _BARE_400, _GOOD])
    endpoint, notes = _endpoint(client)

    async def main() -> list[Completion | None]:
        found: list[Completion | None] = []
        for number in range(4):
            try:
                found.append(await endpoint.ask(_request(number), lambda _: None))
            except RequestRejected:
                found.append(None)
        return found

    assert [one is None for one in run_in_virtual_time(main)] == [False, False, True, False]
    assert set(_formats(client)) == {"json_schema"}
    assert notes == []


def _lost(client: ScriptedClient, request: ChatRequest) -> RequestRejected:
    endpoint, notes = _endpoint(client)

    async def main() -> RequestRejected:
        with pytest.raises(RequestRejected) as caught:
            await endpoint.ask(request, lambda _: None)
        return caught.value

    found = run_in_virtual_time(main)
    assert notes == []
    return found


def test_a_request_that_is_refused_in_every_format_is_dropped() -> None:
    """It was not the format: each is tried once, the refusal is passed on, nothing is changed for the others."""
    client = ScriptedClient(lambda _: _BARE_400)
    assert _lost(client, _request()).status == 400
    assert _formats(client) == ["json_schema", "json_object", "text"]


def test_a_request_for_plain_text_is_refused_for_itself() -> None:
    """Where no format was sent, no format is to blame."""
    client = ScriptedClient(lambda _: _BARE_400)
    _lost(client, _request(schema=None))
    assert _formats(client) == ["text"]


def test_one_schema_that_is_refused_does_not_cast_doubt_on_another_that_was_answered() -> None:
    """While it is tried whether a plainer format helps, requests of the other schema go on as they are."""
    tries: Counter[str] = Counter()

    def answer(body: dict[str, Any]) -> Step:
        tries[_format(body)] += 1
        bad = body.get("response_format", {}).get("json_schema", {}).get("name") == "verdict"
        return _500 if bad else _GOOD

    client = ScriptedClient(answer)
    endpoint, _ = _endpoint(client)

    async def main() -> None:
        await endpoint.ask(_request(0), lambda _: None)
        await endpoint.ask(_request(1, schema="verdict"), lambda _: None)
        assert tries == {"json_schema": 3, "json_object": 1}
        await endpoint.ask(_request(2), lambda _: None)
        assert tries == {"json_schema": 4, "json_object": 1}

    run_in_virtual_time(main)


def test_a_plainer_format_that_is_refused_in_words_is_passed_over() -> None:
    """A schema that gets a bare 400 and an object that is refused by name leave plain text."""
    answers: dict[str, Callable[[], Step]] = {
        "json_schema": lambda: _BARE_400,
        "json_object": lambda: RequestRejected("HTTP 400: json_object is unknown", status=400),
        "text": lambda: _GOOD,
    }
    client = ScriptedClient(lambda body: answers[_format(body)]())
    endpoint, notes = _endpoint(client)
    assert len(_ask(endpoint, 3)) == 3
    assert _formats(client) == ["json_schema", "json_object", "text", "json_schema", "text", "text"]
    assert len(notes) == 1


# --- what comes late, and what changes -----------------------------------------------------------


def test_what_is_refused_late_does_not_take_a_trial_back() -> None:
    """Requests that were sent before the last turn say nothing about the format that is tried now."""
    notes: list[str] = []
    negotiation, request = Negotiation(Dialect(), on_change=notes.append), _request()
    for expected in ("json_object", "text"):
        sent = negotiation.dialect_for(request)
        negotiation.note_bare_failure(request, sent)
        negotiation.note_bare_failure(request, sent)
        assert negotiation.dialect_for(request).response_format == expected
    for _ in range(3):
        negotiation.note_bare_failure(request, Dialect())
    assert negotiation.dialect_for(request).response_format == "text"
    assert notes == []


def test_what_was_answered_in_one_format_says_nothing_about_the_next() -> None:
    """After a step down that another schema made necessary, the new format has to prove itself."""
    negotiation = Negotiation(Dialect(), on_change=lambda _: None)
    first, second = _request(0), _request(1, schema="verdict")
    negotiation.note_answered(first, Dialect())
    assert negotiation.takes(second, Dialect(), "response_format: no such schema")
    stepped_down = Dialect(response_format="json_object")
    assert negotiation.dialect_for(first) == stepped_down
    negotiation.note_bare_failure(first, stepped_down)
    negotiation.note_bare_failure(first, stepped_down)
    assert negotiation.dialect_for(first).response_format == "text"
