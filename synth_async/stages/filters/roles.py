"""The rule against turns that speak for the other side: a transcript in a turn, or a customer who greets as an agent.

A label counts where somebody speaks behind it ("Customer: I still ..."); "User: admin" in a list of settings does not.
"""

from __future__ import annotations

import re

from synth_async.records import Example
from synth_async.stages.filters.turns import quoted

__all__ = ["role_mixup_breach"]

_CUSTOMERS = frozenset(("customer", "user", "human", "client", "caller", "shopper", "guest"))
_AGENTS = frozenset(
    (
        "assistant",
        "ai",
        "ai assistant",
        "agent",
        "support agent",
        "customer support agent",
        "customer service agent",
        "support representative",
        "customer service representative",
        "representative",
        "bot",
        "chatbot",
    )
)
_MODELS = frozenset(("assistant", "ai assistant"))
"""Labels that customers do not type themselves, as they may type "Agent:" above what they were told."""

_LONGEST_LABEL = 40
_MARKUP = " \t*_#>-[]"
_FEWEST_WORDS = 4
_FIRST_PERSON = re.compile(r"(?<![\w-])(?:i|i['’](?:m|ve|d|ll)|my|me|we|our)(?![\w-])", re.IGNORECASE)

_OFFERED = re.compile(r"(?:^|[.!?\n])\s*How (?:can|may) (?:I|we) (?:help|assist) you\b")
_RECEIVED = re.compile(
    r"\W*(?:(?:hi|hello|hey|dear|good (?:morning|afternoon|evening))\b[^.!?\n]{0,40}[.,!?:\n]\s*)?"
    r"thank(?:s| you)(?: so much| very much)? for "
    r"(?:contacting|reaching out to|calling|getting in touch with|choosing) "
    r"(?:us\b|our\b|(?:[\w.'&-]+ ){0,4}?(?:support|customer (?:service|care)|help ?desk)\b)",
    re.IGNORECASE,
)


def role_mixup_breach(example: Example) -> str | None:
    """A turn in which the other side speaks, or that opens with the label of its own."""
    for message in example.messages:
        text, role = message["content"], message["role"]
        found = _label(text, role) if ":" in text else None
        if found is None and role == "user":
            found = _agents_words(text)
        if found is not None:
            return f"{role}: {quoted(found)}"
    return None


def _label(text: str, role: str) -> str | None:
    """A line that a label of a speaker opens."""
    for number, line in enumerate(text.split("\n")):
        name, colon, speech = line.partition(":")
        if not colon or len(name) > _LONGEST_LABEL:
            continue
        label = name.strip(_MARKUP).lower()
        opens = number == 0
        if role == "assistant":
            if (opens and label in _AGENTS and _is_speech(speech)) or (label in _CUSTOMERS and _is_personal(speech)):
                return line
        elif (opens and label in _CUSTOMERS and _is_personal(speech)) or (label in _MODELS and _is_speech(speech)):
            return line
    return None


def _is_speech(text: str) -> bool:
    """Whether words follow on the label's line, or the line ends with it."""
    words = text.strip(_MARKUP).split()
    return not words or len(words) >= _FEWEST_WORDS


def _is_personal(text: str) -> bool:
    """Whether somebody speaks of themselves, or asks."""
    asks = text.rstrip(_MARKUP).endswith("?")
    return len(text.split()) >= _FEWEST_WORDS and (asks or _FIRST_PERSON.search(text) is not None)


def _agents_words(text: str) -> str | None:
    if (found := _RECEIVED.match(text)) is not None:
        return found[0]
    # A customer may quote what a chatbot says again and again.
    if ("assist you" not in text and "help you" not in text) or '"' in text or "“" in text:
        return None
    found = _OFFERED.search(text)
    return found[0].lstrip(".!? \n") if found else None
