"""The words of the embedded endpoint: one lexicon per field of life, and one for everything else.

Sentences hold slots in braces. Facts (`{amount}`, `{date}`...) are drawn once per conversation, so that question and
reply agree; `{about}` is the gist of the topic, `{w1}` and `{w2}` are words of it.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from functools import lru_cache

from synth_async.endpoint.simulator.lexicon_billing import BILLING
from synth_async.endpoint.simulator.lexicon_fields import COOKING, LAW, NETWORKING, PLAIN, Lexicon

__all__ = ["Lexicon", "Subject", "draw_facts", "lexicon_for", "subject_of"]

_FIELDS = (BILLING, NETWORKING, COOKING, LAW)

_WORD = re.compile(r"[A-Za-z][A-Za-z'-]{3,}")
_BOUNDARY = re.compile(
    r",? (?:after|when|while|because|before|although|but|and|noticed|reported|raised|who|with only|that|so that)\b"
    r"|[,;(:–—]"
)
_EMPTY_WORDS = frozenset(
    [
        "about",
        "after",
        "again",
        "against",
        "also",
        "another",
        "asks",
        "asking",
        "because",
        "been",
        "before",
        "being",
        "between",
        "both",
        "cannot",
        "could",
        "customer",
        "does",
        "doing",
        "during",
        "each",
        "every",
        "from",
        "have",
        "having",
        "into",
        "just",
        "like",
        "more",
        "most",
        "need",
        "needs",
        "only",
        "other",
        "over",
        "person",
        "question",
        "same",
        "should",
        "since",
        "some",
        "somebody",
        "someone",
        "still",
        "such",
        "than",
        "that",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "those",
        "through",
        "trying",
        "under",
        "until",
        "user",
        "very",
        "want",
        "wants",
        "were",
        "what",
        "when",
        "where",
        "whether",
        "which",
        "while",
        "with",
        "within",
        "without",
        "would",
        "your",
        "january",
        "february",
        "march",
        "april",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
        "sometimes",
        "involved",
        "unexpected",
        "different",
        "result",
        "doubt",
        "works",
        "keeps",
        "rising",
        "asking",
        "case",
        "unused",
        "user's",
        "customer's",
        "writes",
        "wrote",
        "write",
        "concrete",
        "situation",
        "assistant",
        "support",
    ]
)

_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November")
_PLANS = ("Starter", "Basic", "Team", "Growth", "Pro", "Business", "Scale", "Enterprise", "Studio", "Essentials")
_PREFIXES = ("PAY", "INV", "TAX", "SUB", "API", "REF", "ACH", "SEPA")


@dataclass(frozen=True, slots=True)
class Subject:
    """What a conversation is about: the topic as it can stand in a sentence, its gist, and two words of it."""

    topic: str
    about: str
    w1: str
    w2: str


def lexicon_for(domain: str, topic: str) -> Lexicon:
    """The lexicon that suits the domain or, where the domain is of no known field, the topic."""
    field = _field_of(domain)
    return field if field is not PLAIN else _field_of(topic)


@lru_cache(maxsize=4096)
def _field_of(text: str) -> Lexicon:
    """The lexicon whose signs occur most often in a text; the plain one where none does."""
    lowered = text.lower()
    best, most = PLAIN, 0
    for field in _FIELDS:
        found = sum(sign in lowered for sign in field.signs)
        if found > most:
            best, most = field, found
    return best


@lru_cache(maxsize=4096)
def subject_of(topic: str, domain: str) -> Subject:
    """The subject of a topic; words that the gist of it lacks come from the rest, then from the domain."""
    text = " ".join(topic.split()).strip(" .\"'*-")
    head, colon, rest = text.partition(": ")
    text = _lower_first(rest if colon and rest and len(head.split()) <= 9 else text) or "this"
    about = _gist(text)
    central = set(_content_words(domain))
    ranked = sorted(_content_words(about), key=lambda word: word not in central) + _content_words(text)
    words = [*dict.fromkeys(ranked + _content_words(domain)), "setup", "details"]
    return Subject(_at_most(text, 24), about, words[0], words[1])


def _content_words(text: str) -> list[str]:
    words = [word.removesuffix("'s") for word in _WORD.findall(text)]
    return sorted((word for word in words if word.lower() not in _EMPTY_WORDS), key=lambda word: -min(len(word), 9))


def _gist(text: str) -> str:
    found = next((match for match in _BOUNDARY.finditer(text) if len(text[: match.start()].split()) >= 3), None)
    return _at_most(text if found is None else text[: found.start()], 11)


def _lower_first(text: str) -> str:
    return text if text[1:2].isupper() or text[:2] == "I " else text[:1].lower() + text[1:]


def _at_most(text: str, words: int) -> str:
    parts = text.split()
    return text if len(parts) <= words else " ".join(parts[:words]).rstrip(",;:")


def draw_facts(rng: random.Random) -> dict[str, str]:
    """A value for every fact that a sentence may name; invented, and the same throughout a conversation."""
    r = rng.random
    month = int(r() * 11)
    day = 1 + int(r() * 28)
    days = 2 + int(r() * 26)
    price = (9, 12, 19, 24, 29, 39, 49, 59, 79, 99, 119, 149, 199, 249, 299, 349, 499, 640, 780, 1188)[int(r() * 20)]
    plan = int(r() * 10)
    return {
        "amount": f"${price}.{('00', '00', '50', '99', '80')[int(r() * 5)]}",
        "refund": f"${3 + int(r() * 60)}.{int(r() * 90) + 10}",
        "month": _MONTHS[month],
        "next_month": (*_MONTHS[1:], "December")[month],
        "date": f"{_MONTHS[month]} {day}",
        "plan": _PLANS[plan],
        "new_plan": _PLANS[(plan + 1 + int(r() * 9)) % 10],
        "invoice": f"INV-{10000 + int(r() * 89999)}",
        "code": f"{_PREFIXES[int(r() * 8)]}-{100 + int(r() * 899)}",
        "last4": str(1000 + int(r() * 8999)),
        "seats": str(3 + int(r() * 60)),
        "days": str(days),
        "weeks": str(2 + int(r() * 5)),
        "minutes": str(5 * (1 + int(r() * 11))),
        "percent": str(5 * (1 + int(r() * 9))),
        "n": str(2 + int(r() * 6)),
        "time": f"{1 + int(r() * 12)}:{int(r() * 6)}{int(r() * 10)} {('am', 'pm')[int(r() * 2)]}",
        "weekday": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")[int(r() * 7)],
    }
