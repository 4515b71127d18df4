"""JSON as models write it: strict where a value counts, forgiving about what stands around it.

Three things must never get through: a value that is not JSON (NaN, Infinity), text that is not valid UTF-8 (lone
surrogates), and an object that was cut off. A repair library completes cut objects silently, so a repair is believed
only when the brackets and the quotes are closed in the text itself, and when it has neither lost nor invented a word.
"""

from __future__ import annotations

import json
import re
from typing import Any

import json_repair
import orjson

from synth_async.records import DropReason

__all__ = ["only_object", "strict_json", "without_thoughts"]

_LONGEST_REPAIR = 50_000
"""Characters. Repairing is slow Python; what is longer than this was cut or is no example."""

_SURROGATE = re.compile(r"[\ud800-\udfff]")
# One escape after the other from the left, so that `\\ud800` (an escaped backslash) is not taken for a surrogate.
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)

_THOUGHT = re.compile(r"<(think|thinking|thought)>", re.IGNORECASE)
_THOUGHT_END = re.compile(r"</(?:think|thinking|thought)>", re.IGNORECASE)
# Also with single-quoted or bare keys: such an object is for the repair, and what it holds must not be taken for it.
_OBJECT_START = re.compile(r"""\{\s*(?:["']|\w+\s*:)""")
_FENCED = re.compile(r"[^{]*?```[a-zA-Z0-9]*\s*(\{.*?)(?:```[^{}]*)?", re.DOTALL)
_KEY = re.compile(r"\w[\w-]{0,59}")
# What may stand before the last brace: a closed string, a bracket, or a bare value behind its colon or comma.
_CLOSED_TAIL = re.compile(r'(?:["\]}]|[:,\[]\s*(?:-?\d[\d.eE+-]*|true|false|null|True|False))\s*,?\s*\}\Z')
_NOT_NUMBERS = frozenset({"nan", "infinity", "-infinity", "+infinity"})
_NOT_WORDS = re.compile(r"\\u[0-9a-fA-F]{4}|\\.|[^A-Za-z0-9]", re.DOTALL)


def strict_json(source: bytes | str) -> Any:
    """The value of a JSON text, lone surrogates in it replaced by U+FFFD. Raises ValueError for anything else."""
    try:
        return orjson.loads(source)
    except orjson.JSONDecodeError:
        text = source.decode() if isinstance(source, bytes) else source
        mended = _ESCAPE.sub(_without_lone_surrogate, _SURROGATE.sub("\ufffd", text))
        if mended == text:
            raise
        return orjson.loads(mended)


def _without_lone_surrogate(escape: re.Match[str]) -> str:
    return r"\ufffd" if escape[1] else escape[0]


def without_thoughts(text: str) -> str | None:
    """The text behind the reasoning that precedes its first brace; None where that reasoning never ends."""
    start = 0
    brace = text.find("{")
    while opening := _THOUGHT.search(text, start, brace if brace >= 0 else len(text)):
        closing = _THOUGHT_END.search(text, opening.end())
        if closing is None:
            return None
        start = closing.end()
        if 0 <= brace < start:
            brace = text.find("{", start)
    rest = text[start:].strip()
    if rest.startswith("{"):
        return rest
    # Some chat templates put the opening tag into the prompt, so that only the closing one is in the answer.
    orphan = _THOUGHT_END.search(rest)
    return rest[orphan.end() :].strip() if orphan and "{" in rest[orphan.end() :] else rest


def only_object(text: str) -> dict[str, Any] | DropReason:
    """The one JSON object of a text, with prose or a code fence around it; else NOT_JSON or SEVERAL_OBJECTS."""
    text = _SURROGATE.sub("\ufffd", text).strip()
    try:
        whole = strict_json(text)
    except ValueError:
        whole = None
    if isinstance(whole, dict):
        return whole
    found = _objects(text)
    if found is None:
        return _repaired(text) or DropReason.NOT_JSON
    if len(found) > 1:
        return DropReason.SEVERAL_OBJECTS
    return found[0] if found else DropReason.NOT_JSON


def _objects(text: str) -> list[dict[str, Any]] | None:
    """Up to two top-level objects; None as soon as one begins that is no strict JSON: what it holds is no answer."""
    found: list[dict[str, Any]] = []
    position = 0
    while len(found) < 2 and (start := _OBJECT_START.search(text, position)):
        try:
            _, position = json.JSONDecoder().raw_decode(text, start.start())
            found.append(strict_json(text[start.start() : position]))
        except (ValueError, RecursionError):
            return None
    return found


def _repaired(text: str) -> dict[str, Any] | None:
    fenced = None if text.startswith("{") else _FENCED.fullmatch(text)
    text = (fenced[1] if fenced else text).strip()
    if len(text) > _LONGEST_REPAIR or not _is_closed(text):
        return None
    try:
        value = json_repair.loads(text, skip_json_loads=True)
        if not isinstance(value, dict) or not _has_plain_keys(value):
            return None
        written = json.dumps(value, allow_nan=False)
        return strict_json(written) if _words(written) == _words(text) else None
    except (ValueError, RecursionError):
        return None


def _is_closed(text: str) -> bool:
    """Whether the last brace closes the first one, and no string is open there."""
    if not text.startswith("{") or _CLOSED_TAIL.search(text, max(0, len(text) - 200)) is None:
        return False
    depth, in_string, escaped = 0, False, False
    for position, character in enumerate(text):
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = in_string
        elif character == '"':
            in_string = not in_string
        elif not in_string:
            depth += (character in "{[") - (character in "}]")
            if depth == 0 and position < len(text) - 1:
                return False
    # An open string would have kept the last brace from being counted.
    return depth == 0


def _has_plain_keys(value: dict[str, Any]) -> bool:
    """Whether keys look like keys (a stray quote makes keys of prose) and no NaN was turned into a string."""
    return all(
        _KEY.fullmatch(key) and not (isinstance(leaf, str) and leaf.strip().lower() in _NOT_NUMBERS)
        for key, leaf in value.items()
    )


def _words(text: str) -> str:
    """Letters and digits in their order: all that a repair may not touch."""
    return _NOT_WORDS.sub("", text).lower()
