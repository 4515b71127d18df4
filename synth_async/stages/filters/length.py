"""Rules about length: of a turn, and of a reply beside its question. Bounds are inclusive."""

from __future__ import annotations

from synth_async.config.models import Words
from synth_async.records import Example
from synth_async.stages.filters.turns import exchanges
from synth_async.stages.words import count_words

__all__ = ["LONG_QUESTION_WORDS", "short_reply_breach", "words_breach"]

LONG_QUESTION_WORDS = 30
"""From so many words on, a question needs a reply of some length."""


def words_breach(example: Example, *, role: str, bounds: Words) -> str | None:
    """A turn of `role` with fewer or more words than allowed."""
    for message in example.messages:
        if message["role"] != role:
            continue
        count = count_words(message["content"])
        if count < bounds.min:
            return f"{count} words, at least {bounds.min}"
        if count > bounds.max:
            return f"{count} words, at most {bounds.max}"
    return None


def short_reply_breach(example: Example, *, share: float) -> str | None:
    """A reply with less than `share` of the words of a long question."""
    for question, reply in exchanges(example):
        asked = count_words(question)
        # A quotient is the nearest float to the true ratio, as the bound is to its decimals: equal means equal.
        if asked >= LONG_QUESTION_WORDS and (answered := count_words(reply)) / asked < share:
            return f"{answered} words to a question of {asked}"
    return None
