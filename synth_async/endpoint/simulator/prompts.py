"""What the messages ask for: topics, an example, the same again but better, a reply, a verdict, or anything else.

Users write their own templates, so this goes by the words that such prompts cannot do without, and not by ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from synth_async.endpoint.simulator.further_prompts import (
    ComparisonPrompt,
    ReplyPrompt,
    Said,
    conversation_to_rewrite,
    read_comparison_prompt,
    read_reply_prompt,
)
from synth_async.endpoint.simulator.verdict_prompt import VerdictPrompt, read_verdict_prompt

__all__ = [
    "ComparisonPrompt",
    "ExamplePrompt",
    "OtherPrompt",
    "Prompt",
    "ReplyPrompt",
    "RevisionPrompt",
    "TopicsPrompt",
    "VerdictPrompt",
    "read_prompt",
]


@dataclass(frozen=True, slots=True)
class TopicsPrompt:
    """Asks for so many topics of a domain."""

    count: int
    domain: str
    category: str = ""


@dataclass(frozen=True, slots=True)
class ExamplePrompt:
    """Asks for one conversation. `keys` name the JSON keys of the two sides where it is one exchange."""

    topic: str
    domain: str
    facets: tuple[tuple[str, str], ...] = ()
    turns: int = 1
    as_messages: bool = False
    keys: tuple[str, str] = ("user_message", "assistant_response")


@dataclass(frozen=True, slots=True)
class RevisionPrompt:
    """Asks for a conversation to be written again; `example` is what the prompt says about it."""

    example: ExamplePrompt
    turns: Said


@dataclass(frozen=True, slots=True)
class OtherPrompt:
    """Asks for something else; `text` is the last message of the user."""

    text: str


Prompt = TopicsPrompt | ExamplePrompt | RevisionPrompt | ReplyPrompt | VerdictPrompt | ComparisonPrompt | OtherPrompt

_ENCLOSED = re.compile(
    r"<(instructions|document|context|system_prompt|policy|examples|conversation)>\n.*?\n</\1>", re.DOTALL
)
_COUNTED = re.compile(
    r"\b(\d{1,4})\b(?:[ \t]+[\w',-]+){0,7}?[ \t]+"
    r"(?:topics?|scenarios?|situations?|ideas|themes|seeds|subjects|questions)\b",
    re.IGNORECASE,
)
_TOPICS_ANYWAY = re.compile(
    r"\b(?:topics|scenarios|situations)\b[^\n]*\bone per line\b|\bone (?:topic|scenario) (?:per|a|each) "
)
_DOMAIN = re.compile(r"^\W*domain\W*[:=][ \t]*(.+)$|\bdomain(?: of)?:?[ \t]+([^\n.]+)", re.IGNORECASE | re.MULTILINE)
_CATEGORY = re.compile(r"\bcategory\W{0,3}[:=][ \t]*([^\n.]+)", re.IGNORECASE)
_DOMAIN_END = re.compile(r"[,;:.]\s|\s(?:including|covering|such as)\s")
_WHAT_ABOUT = re.compile(
    r"\b(?:topics|scenarios|situations|ideas|themes|subjects|questions|conversations)[ \t]+"
    r"(?:for|about|on|in|within|covering|from)[ \t]+([^\n.]+)",
    re.IGNORECASE,
)
_TOPIC = re.compile(
    r"^\W*(?:seed[ _]|the )?(?:topic|scenario|situation|subject)\W*[:=][ \t]*(?P<a>.+)$"
    r"|^\W*(?:seed[ _]|the )?(?:topic|scenario|situation|subject)\W*[:=]?[ \t]*\n+(?P<b>.+)$"
    r"|<(?:topic|scenario)>\s*(?P<c>.+?)\s*</"
    r"|\b(?:about|on)(?: (?:the|this) (?:topic|scenario|situation|subject))?(?: of)?:?[ \t]*"
    r"[\"“'](?P<d>[^\"”\n]+)[\"”']"
    r"|\b(?:about|on)(?: the)?(?: following)? (?:topic|scenario|situation|subject):?[ \t]+(?P<e>[^\n.]+)",
    re.IGNORECASE | re.MULTILINE,
)
_TOPIC_NAMES = ("topic", "seed topic", "scenario", "situation", "subject")
_NOT_FACETS = frozenset(
    {*_TOPIC_NAMES, "domain", "example", "note", "format", "json", "output", "answer", "instructions"}
)
_LONGEST_NAME = 24
_LONGEST_VALUE = 80
_TURNS = re.compile(
    r"\b(\d{1,2})[ -](?:user[ -])?(?:turns?|exchanges|rounds)\b|\bturns\W*[:=][ \t]*(\d{1,2})", re.IGNORECASE
)
_MESSAGE_COUNT = re.compile(r"\b(\d{1,2})[ -]messages\b", re.IGNORECASE)
_KEY_PAIRS = (
    ("user_message", "assistant_response"),
    ("instruction", "response"),
    ("question", "answer"),
    ("prompt", "completion"),
    ("user", "assistant"),
)


def read_prompt(messages: Sequence[tuple[str, str]]) -> Prompt:
    """What the messages (pairs of role and text) ask for."""
    reply = read_reply_prompt(messages)
    if reply is not None:
        return reply
    text = messages[0][1] if len(messages) == 1 else "\n".join(text for _, text in messages)
    turns = conversation_to_rewrite(text)
    if turns is not None:
        return RevisionPrompt(_example_prompt(_ENCLOSED.sub("", text)), turns)
    verdict = read_comparison_prompt(text) or read_verdict_prompt(text)
    if verdict is not None:
        return verdict
    own = _ENCLOSED.sub("", text) if "</" in text else text
    if "user_message" in own or '"role"' in own:
        return _example_prompt(own)
    counted = _COUNTED.search(own)
    if counted or _TOPICS_ANYWAY.search(own):
        return TopicsPrompt(int(counted[1]) if counted else 10, _domain(own), _category(own))
    if _asks_for_a_pair(own):
        return _example_prompt(own)
    asked = [text for role, text in messages if role == "user"]
    return OtherPrompt(asked[-1] if asked else messages[-1][1])


def _asks_for_a_pair(text: str) -> bool:
    return "json" in text.lower() and any(f'"{one}"' in text and f'"{two}"' in text for one, two in _KEY_PAIRS)


def _example_prompt(text: str) -> ExamplePrompt:
    as_messages = '"messages"' in text or ("user_message" not in text and '"role"' in text)
    keys = next((pair for pair in _KEY_PAIRS if f'"{pair[0]}"' in text and f'"{pair[1]}"' in text), _KEY_PAIRS[0])
    named = _named_values(text)
    domain = _trimmed(named["domain"]) if "domain" in named else _domain(text)
    topic = next((named[name] for name in _TOPIC_NAMES if name in named), None) or _topic(text) or domain
    facets = tuple((name, value) for name, value in named.items() if _is_facet(name, value))
    return ExamplePrompt(topic, domain, facets, _turns(text, as_messages=as_messages), as_messages, keys)


def _is_facet(name: str, value: str) -> bool:
    """Names of one word, or short values: "No placeholders: invent plausible details..." is no facet."""
    return name not in _NOT_FACETS and len(value) <= (30 if " " in name else _LONGEST_VALUE)


def _named_values(text: str) -> dict[str, str]:
    """The lines that read `Name: value`, names in lower case; the first of each name counts."""
    named: dict[str, str] = {}
    for line in text.split("\n"):
        name, colon, value = line.partition(":")
        if colon and len(name) <= _LONGEST_NAME and value[:1] == " " and value.strip():
            named.setdefault(name.strip(" -*\t`").lower().replace("_", " "), value.strip(" \"'“”*`\r"))
    return named


def _topic(text: str) -> str | None:
    found = _TOPIC.search(text)
    return None if found is None else _first_group(found)


def _turns(text: str, *, as_messages: bool) -> int:
    if not as_messages:
        return 1
    if found := _TURNS.search(text):
        return min(20, max(1, int(found[1] or found[2])))
    if found := _MESSAGE_COUNT.search(text):
        return min(20, max(1, int(found[1]) // 2))
    return 2


def _domain(text: str) -> str:
    found = _DOMAIN.search(text) or _WHAT_ABOUT.search(text)
    return "" if found is None else _trimmed(_first_group(found))


def _category(text: str) -> str:
    found = _CATEGORY.search(text)
    return "" if found is None else found[1].strip(" \"'“”*`")


def _trimmed(domain: str) -> str:
    words = _DOMAIN_END.split(domain)[0].split()
    return " ".join(words[:14]).strip(" \"'“”*`.:,")


def _first_group(found: re.Match[str]) -> str:
    return next(group for group in found.groups() if group).strip(" \"'“”*`")
