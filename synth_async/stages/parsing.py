"""From raw bytes to records: the body of a chat completion, the object that it should hold, the example in it.

Bodies are not to be trusted: HTML behind a 200, a cut body, an `error` object with status 200 (OpenRouter), an array
that holds one (Gemini), blank lines first (DeepSeek). Content is not either: reasoning before the answer, code fences,
prose, a second object, a string where an object was asked for. What can be read without guessing is read, the rest is
dropped.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from synth_async.records import Completion, Drop, DropReason, Example, Message, Stage, Task, Usage
from synth_async.stages.json_text import only_object, strict_json, without_thoughts

__all__ = ["MalformedBody", "read_completion", "read_example", "read_object", "read_text", "usage_of"]

_SHOWN = 120
"""Characters of a body, at the most, that reach a message."""

# Spellings of OpenAI's `length` and `content_filter` by servers that call themselves compatible.
_CUT = frozenset({"length", "max_tokens", "model_length"})
_FILTERED = frozenset({"content_filter", "safety", "refusal"})

_TOKEN_LIKE = re.compile(r"[\w-]{20,}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_HTTP_ERROR = re.compile(r"[45][0-9]{2}")
_LINE_END = re.compile(r"\r\n?")


class MalformedBody(ValueError):
    """A 200 whose body is no chat completion. The message shows at most 120 characters of it, long tokens masked.

    `status` is the HTTP status that an error in the body names, as OpenRouter does; None where there is none.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        self.status = status
        super().__init__(message)


# --- bytes to a completion -----------------------------------------------------------------------


def read_completion(body: bytes, *, fallback_model: str) -> Completion:
    """The first choice of a chat completion. Raises MalformedBody for anything else.

    Lone surrogates become U+FFFD, so every text in the result is valid UTF-8. `fallback_model` stands in where the body
    names no model; missing or odd token counts are 0.
    """
    try:
        answer = strict_json(body.strip().removeprefix(codecs.BOM_UTF8))
    except ValueError:
        raise MalformedBody(f"not JSON: {_shown(body.decode('utf-8', 'replace'))}") from None
    choice = _first_choice(answer)
    content, refusal = _content(_message_of(choice))
    return Completion(
        content=content,
        finish_reason=_text_or_none(choice.get("finish_reason")),
        refusal=refusal,
        model=_text_or_none(answer.get("model")) or fallback_model,
        usage=_usage(answer.get("usage")),
    )


def usage_of(answer: Any) -> Usage:
    """The usage alone, where the body has been parsed already; raises what `read_completion` does."""
    _content(_message_of(_first_choice(answer)))
    return _usage(answer.get("usage"))


def _first_choice(answer: Any) -> dict[str, Any]:
    if not isinstance(answer, dict):
        for part in answer if isinstance(answer, list) else ():
            if isinstance(part, dict) and part.get("error"):
                _raise_error(part["error"])
        raise MalformedBody(f"a JSON {type(answer).__name__}, not a chat completion")
    if answer.get("error"):
        _raise_error(answer["error"])
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        raise MalformedBody("no choices in the body")
    choice = choices[0]
    if not isinstance(choice, dict):
        raise MalformedBody("the first choice is not an object")
    if choice.get("error"):
        _raise_error(choice["error"])
    if choice.get("finish_reason") == "error":
        raise MalformedBody("the first choice ended in an error")
    return choice


def _message_of(choice: Mapping[str, Any]) -> dict[str, Any]:
    message = choice.get("message")
    if not isinstance(message, dict):
        raise MalformedBody("the first choice has no message")
    return message


def _raise_error(error: Any) -> NoReturn:
    message = error.get("message") if isinstance(error, dict) else error
    code = error.get("code") if isinstance(error, dict) else None
    status = int(code) if isinstance(code, int | str) and _HTTP_ERROR.fullmatch(str(code)) else None
    raise MalformedBody(f"an error with status 200: {_shown(str(message))}", status=status)


def _content(message: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Content and refusal of a message; parts of other types (reasoning, audio) are no content."""
    content, refusal = message.get("content"), _text_or_none(message.get("refusal"))
    if content is None or isinstance(content, str):
        return content, refusal
    if not isinstance(content, list):
        raise MalformedBody(f"content is a JSON {type(content).__name__}")
    texts = [text for part in content if (text := _part(part, "text")) is not None]
    refusals = [text for part in content if (text := _part(part, "refusal")) is not None]
    return "".join(texts) if texts else None, refusal or _text_or_none("".join(refusals))


def _part(part: Any, kind: str) -> str | None:
    if not isinstance(part, dict):
        raise MalformedBody("a part of the content is not an object")
    if part.get("type") != kind:
        return None
    text = part.get(kind)
    if not isinstance(text, str):
        raise MalformedBody(f"a {kind} part of the content has no {kind}")
    return text


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _usage(usage: Any) -> Usage:
    if not isinstance(usage, dict):
        return Usage()
    return Usage(prompt=_tokens(usage.get("prompt_tokens")), completion=_tokens(usage.get("completion_tokens")))


def _tokens(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return max(0, int(value))


def _shown(text: str) -> str:
    """The opening of a text for a message: printable, on one line, anything as long as a key masked."""
    line = "".join(character if character.isprintable() else " " for character in text[: 4 * _SHOWN])
    line = " ".join(_TOKEN_LIKE.sub("…", line).split())
    return line[:_SHOWN] or "nothing"


# --- a completion to its object ------------------------------------------------------------------


def read_object(completion: Completion, *, stage: Stage = Stage.GENERATE) -> dict[str, Any] | Drop:
    """The one JSON object that was asked for, or a drop of `stage`: truncated, refused, empty or not one object.

    Truncation is decided first: a cut object may look whole after a repair. A refusal that the server marks comes next,
    then what the content itself shows.
    """
    text = _answer_text(completion, stage)
    if isinstance(text, Drop):
        return text
    found = only_object(text)
    return Drop(stage, found, f"it begins: {_shown(text)}") if isinstance(found, DropReason) else found


def read_text(completion: Completion, *, stage: Stage) -> str | Drop:
    """The text that was asked for, cleaned, or a drop of `stage`: truncated, refused or empty."""
    text = _answer_text(completion, stage)
    return text if isinstance(text, Drop) else _cleaned(text) or Drop(stage, DropReason.EMPTY, "no text")


def _answer_text(completion: Completion, stage: Stage) -> str | Drop:
    finish_reason = (completion.finish_reason or "").lower()
    if finish_reason in _CUT:
        return Drop(stage, DropReason.TRUNCATED, f"finish_reason {finish_reason}")
    if completion.refusal and completion.refusal.strip():
        return Drop(stage, DropReason.REFUSED, _shown(completion.refusal))
    if finish_reason in _FILTERED:
        return Drop(stage, DropReason.REFUSED, f"finish_reason {finish_reason}")
    if completion.content is None or not completion.content.strip():
        return Drop(stage, DropReason.EMPTY, "no content")
    text = without_thoughts(completion.content)
    if text is None:
        return Drop(stage, DropReason.TRUNCATED, "the reasoning never ends")
    if not text:
        return Drop(stage, DropReason.EMPTY, "nothing behind the reasoning")
    return text


# --- an object to an example ---------------------------------------------------------------------


def read_example(task: Task, completion: Completion, *, turns: int) -> Example | Drop:
    """The conversation in a completion, its text cleaned, or a drop of the generate stage.

    With one turn: `user_message` and `assistant_response`, or `messages` where those are missing. With more:
    `messages`, user and assistant in turn; how many turns is the model's choice, only the alternation is checked here.
    """
    answer = read_object(completion)
    if isinstance(answer, Drop):
        return answer
    conversation = turns > 1 or ("messages" in answer and "user_message" not in answer)
    messages = _conversation(answer) if conversation else _exchange(answer)
    return messages if isinstance(messages, Drop) else Example(task, messages, completion.model)


def _exchange(answer: Mapping[str, Any]) -> tuple[Message, ...] | Drop:
    user = _clean_text(answer, "user_message")
    if isinstance(user, Drop):
        return user
    assistant = _clean_text(answer, "assistant_response")
    if isinstance(assistant, Drop):
        return assistant
    return ({"role": "user", "content": user}, {"role": "assistant", "content": assistant})


def _conversation(answer: Mapping[str, Any]) -> tuple[Message, ...] | Drop:
    if "messages" not in answer:
        return Drop(Stage.GENERATE, DropReason.MISSING_KEY, "messages")
    turns = answer["messages"]
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        return Drop(Stage.GENERATE, DropReason.WRONG_TYPE, "messages is not a list of objects")
    if turns and turns[0].get("role") == "system":
        turns = turns[1:]
    if not turns or len(turns) % 2:
        return Drop(Stage.GENERATE, DropReason.WRONG_TYPE, f"{len(turns)} messages do not end with the assistant")
    messages: list[Message] = []
    for position, turn in enumerate(turns):
        message = _message(turn, position)
        if isinstance(message, Drop):
            return message
        messages.append(message)
    return tuple(messages)


def _message(turn: Mapping[str, Any], position: int) -> Message | Drop:
    where = f"message {position + 1}"
    if turn.get("role") != ("assistant" if position % 2 else "user"):
        return Drop(Stage.GENERATE, DropReason.WRONG_TYPE, f"{where} has the role {_shown(str(turn.get('role')))}")
    content = turn.get("content")
    if not isinstance(content, str):
        return Drop(Stage.GENERATE, DropReason.WRONG_TYPE, f"{where} has no text as its content")
    text = _cleaned(content)
    if not text:
        return Drop(Stage.GENERATE, DropReason.EMPTY, where)
    return {"role": "assistant", "content": text} if position % 2 else {"role": "user", "content": text}


def _clean_text(answer: Mapping[str, Any], key: str) -> str | Drop:
    if key not in answer:
        return Drop(Stage.GENERATE, DropReason.MISSING_KEY, key)
    value = answer[key]
    if not isinstance(value, str):
        return Drop(Stage.GENERATE, DropReason.WRONG_TYPE, f"{key} is a JSON {type(value).__name__}")
    return _cleaned(value) or Drop(Stage.GENERATE, DropReason.EMPTY, key)


def _cleaned(text: str) -> str:
    """Text without control characters (but tabs and line feeds), its lines ended by LF, stripped."""
    return _CONTROL.sub("", _LINE_END.sub("\n", text)).strip()
