"""Reading a judge's prompt: the rubric outside the fence, the example inside.

What stands inside the fence is only ever scored. What stands outside is obeyed: an instruction to give every criterion
the same score is followed, so that a fence that leaks shows in the scores.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

Labels = tuple[tuple[str, tuple[str, ...]], ...]
"""Axes, each with the values to choose from."""


@dataclass(frozen=True, slots=True)
class VerdictPrompt:
    """Asks for scores. `ordered` is the score that the prompt itself orders for every criterion, if it does.

    `labels` are the axes that it asks to be labelled, each with the values to choose from.
    """

    user: str
    assistant: str
    criteria: tuple[str, ...]
    nested: bool
    flat: bool
    ordered: int | None
    labels: Labels = ()


_ASKS_FOR_SCORES = re.compile(
    r"\b1 ?(?:-|–|to|through) ?5\b|[\"'`]scores[\"'`]|\bfrom 1\b[^.\n]{0,60}\bto 5\b|\bon a scale\b", re.IGNORECASE
)
_FENCE = re.compile(
    r"<{2,}[ \t]*(?P<label>[A-Za-z_]+[ :_-]+[0-9A-Za-z]{4,}|[0-9A-Za-z_-]{4,})\s+(?P<body>.*?)\s+(?P=label)[ \t]*>{2,}",
    re.DOTALL,
)
_TAGGED = re.compile(r"<(?P<label>[A-Za-z][\w-]*)>\s*(?P<body>.*?)\s*</(?P=label)>", re.DOTALL)
_TICKED = re.compile(r"^(?P<label>`{3,})\w*\n(?P<body>.*?)\n(?P=label)", re.DOTALL | re.MULTILINE)
_SPOKEN = re.compile(
    r"^\W*(?:user|customer|question)\W*:(?P<user>.*?)^\W*(?:assistant|agent|reply|answer)\W*:(?P<reply>.*)",
    re.IGNORECASE | re.MULTILINE | re.DOTALL,
)
_SHAPE = re.compile(r"[\"']scores[\"']\s*:\s*\{([^{}]*)\}")
_SCORED = re.compile(r"[\"']scores[\"']\s*:\s*\{\s*[\"'][^\"']+[\"']\s*:\s*([1-5])\b")
_LABELS = re.compile(
    r"^[^\n]*\blabel[^\n]*:[ \t]*\n(?P<axes>(?:[ \t]*[-*•][ \t]+[^\n:]+:[ \t]*[^\n]+(?:\n|$))+)",
    re.IGNORECASE | re.MULTILINE,
)
_KEY = re.compile(r"[\"']([^\"']+)[\"']\s*:")
_BULLET = re.compile(
    r"^[ \t]*(?:[-*•]|\d+[.)])[ \t]+[*`\"]*([a-z][a-z0-9_]*)[*`\"]*[ \t]*(?:\([^)\n]*\))?[ \t]*(?::|$)", re.MULTILINE
)
_ORDER = re.compile(
    r"\b(?:give|score|rate|grade|award|assign|set)\s+(?:every|each|all|everything)\b"
    r"(?:\s+(?:criteri(?:on|a)|scores?|of them|the))*"
    r"\s+(?:(?:a|as|the|to|at|with|score|of|perfect|full|exactly)\s+)*([1-5])\b(?!\s*(?:-|–|to\b|through|or\b|\())"
    r"|\ball (?:the )?(?:scores|criteria) (?:must|should|have to|are to) be ([1-5])\b",
    re.IGNORECASE,
)
_SIDES = (
    ("user_message", "assistant_response"),
    ("user", "assistant"),
    ("instruction", "response"),
    ("question", "answer"),
    ("prompt", "completion"),
)
_JUDGING_WORDS = re.compile(
    r"\b(?:scor(?:e|es|ing)|rubric|grade|rating|rate (?:each|the|this)|evaluate)\b", re.IGNORECASE
)
_JUDGING_STEMS = ("scor", "rubric", "grade", "rating", "rate ", "evaluate")  # a cheap look before the regex
_FENCES_TRIED = 50


def read_verdict_prompt(text: str) -> VerdictPrompt | None:
    """The parts of a judge's prompt; None where the text does not ask for a verdict on an example."""
    lowered = text.lower()
    if not any(stem in lowered for stem in _JUDGING_STEMS) or not _JUDGING_WORDS.search(text):
        return None
    found = _fenced_example(text)
    if found is None:
        return None
    start, end, user, assistant = found
    rubric = _rubric(text[:start] + "\n" + text[end:])
    if rubric is None:
        return None
    criteria, nested, flat, ordered, labels = rubric
    # A verdict that stands ready behind the example is copied.
    given = _SCORED.search(text, end)
    return VerdictPrompt(user, assistant, criteria, nested, flat, int(given[1]) if given else ordered, labels)


@lru_cache(maxsize=256)
def _rubric(outside: str) -> tuple[tuple[str, ...], bool, bool, int | None, Labels] | None:
    """Criteria, shape, order and labels of the text around the fence, which is the same for all examples of a run."""
    if not _ASKS_FOR_SCORES.search(outside):
        return None
    shape = _SHAPE.search(outside)
    nested = shape is None and '"score"' in outside
    flat = shape is None and "scores" not in outside
    return _criteria(outside, shape), nested, flat, _ordered(outside), _labels(outside)


def _labels(outside: str) -> Labels:
    """`- tone: polite | formal`, in lines after one that asks for labels."""
    found = _LABELS.search(outside)
    lines = found["axes"].splitlines() if found else []
    named = (line.strip(" \t-*•").partition(":") for line in lines)
    return tuple((axis.strip(), tuple(value.strip() for value in values.split("|"))) for axis, _, values in named)


def _criteria(outside: str, shape: re.Match[str] | None) -> tuple[str, ...]:
    named = _KEY.findall(shape[1]) if shape else []
    if not named:
        named = _BULLET.findall(outside)
    return tuple(dict.fromkeys(named)) or ("quality",)


def _ordered(outside: str) -> int | None:
    orders = _ORDER.findall(outside)
    return int(orders[-1][0] or orders[-1][1]) if orders else None


def _fenced_example(text: str) -> tuple[int, int, str, str] | None:
    """Where the example stands, and its two sides. A fence with a label of its own counts whatever is inside."""
    for fence in _FENCE.finditer(text):
        sides = _sides_of(fence["body"]) or ("", fence["body"])
        return fence.start(), fence.end(), *sides
    for pattern in (_TICKED, _TAGGED):
        for fence in pattern.finditer(text):
            if sides_found := _sides_of(fence["body"]):
                return fence.start(), fence.end(), *sides_found
    return _bare_example(text)


def _bare_example(text: str) -> tuple[int, int, str, str] | None:
    for start, end, value in _json_in(text):
        if sides := _sides_in(value):
            return start, end, *sides
    spoken = _SPOKEN.search(text)
    return None if spoken is None else (spoken.start(), spoken.end(), spoken["user"].strip(), spoken["reply"].strip())


def _json_in(text: str) -> Iterator[tuple[int, int, Any]]:
    decoder, start = json.JSONDecoder(), 0
    for _ in range(_FENCES_TRIED):
        start = min((at for at in (text.find('{"', start), text.find('[{"', start)) if at >= 0), default=-1)
        if start < 0:
            return
        try:
            value, end = decoder.raw_decode(text, start)
        except ValueError:
            start += 1
        else:
            yield start, end, value
            start = end


def _sides_of(body: str) -> tuple[str, str] | None:
    value: Any = body
    for _ in range(2):  # JSON, or JSON that was made a JSON string once more
        if not isinstance(value, str):
            break
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            break
    if isinstance(value, str):
        spoken = _SPOKEN.search(value)
        return (spoken["user"].strip(), spoken["reply"].strip()) if spoken else None
    return _sides_in(value)


def _sides_in(value: Any) -> tuple[str, str] | None:
    if isinstance(value, dict):
        for one, two in _SIDES:
            if isinstance(value.get(one), str) and isinstance(value.get(two), str):
                return value[one], value[two]
        for key in ("messages", "conversation", "example"):
            if key in value:
                return _sides_in(value[key])
    if isinstance(value, list) and value and all(isinstance(message, dict) for message in value):
        user = "\n".join(str(message.get("content")) for message in value if message.get("role") == "user")
        assistant = "\n".join(str(message.get("content")) for message in value if message.get("role") == "assistant")
        return (user, assistant) if user or assistant else None
    return None
