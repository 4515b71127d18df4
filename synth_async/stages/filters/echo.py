"""The rule against replies that say their question again."""

from __future__ import annotations

from rapidfuzz.distance import Indel

from synth_async.records import Example
from synth_async.stages.filters.turns import exchanges
from synth_async.stages.words import tokens

__all__ = ["echo_breach"]

_QUOTED_WORDS = 20
"""From so many words on, a question that stands whole in its reply is an echo; people quote shorter ones too."""


def echo_breach(example: Example, *, bound: float) -> str | None:
    """A reply that is more similar to its question than `bound`, or that holds a long question word for word.

    Similarity is rapidfuzz's normalised Indel similarity of the words in lower case, without punctuation.
    """
    for question, reply in exchanges(example):
        asked, answered = tokens(question), tokens(reply)
        if not asked or not answered:
            continue
        normal_question, normal_reply = " ".join(asked), " ".join(answered)
        if len(asked) >= _QUOTED_WORDS and f" {normal_question} " in f" {normal_reply} ":
            return f"the reply holds the whole question of {len(asked)} words"
        similarity = Indel.normalized_similarity(normal_question, normal_reply, score_cutoff=bound)
        if similarity > bound:
            return f"{similarity:.2f} similar to the question, at most {bound:g}"
    return None
