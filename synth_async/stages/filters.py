"""Cheap named rules before the judge is paid. The first one that an example breaches drops it, counted under its name.

A rule looks at the text alone and says in a few words what it found. The order is fixed, cheapest first, so that most
bad examples cost next to nothing, and the same example is always counted under the same name. Bounds are inclusive.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from rapidfuzz.distance import Indel

from synth_async.config.models import Filters, Pattern, Words
from synth_async.records import Drop, Example, Stage
from synth_async.stages.refusals import refusal_in_opening
from synth_async.stages.words import count_words, is_mostly_unspaced, tokens

__all__ = ["LONG_QUESTION_WORDS", "NamedFilter", "build_filters", "first_breach"]

LONG_QUESTION_WORDS = 30
"""From so many words on, a question needs a reply of some length."""

_QUOTED_WORDS = 20
"""From so many words on, a question that stands whole in its reply is an echo; people quote shorter ones too."""

_REPETITION_WORDS = 20
"""Shorter texts are not looked at for repetition: a phrase said twice is half of them."""

_GRAM_WORDS = 4
_GRAM_LETTERS = 8
"""About four words in scripts without spaces."""

_STRETCH_GRAMS = 3
"""A phrase shorter than so many grams (12 words) may be said twice, and may begin any number of sentences."""


@dataclass(frozen=True, slots=True)
class NamedFilter:
    """A rule: `name` is the reason under which drops are counted, `breach` says what is wrong, or None."""

    name: str
    breach: Callable[[Example], str | None]


def build_filters(config: Filters) -> tuple[NamedFilter, ...]:
    """The rules that a config turns on, cheapest first. Raises re.error for a pattern that is no regular expression."""
    rules: list[NamedFilter] = []
    if config.user_words is not None:
        rules.append(NamedFilter("user_words", partial(words_breach, role="user", bounds=config.user_words)))
    if config.assistant_words is not None:
        bounds = config.assistant_words
        rules.append(NamedFilter("assistant_words", partial(words_breach, role="assistant", bounds=bounds)))
    if config.short_reply is not None:
        rules.append(NamedFilter("short_reply", partial(short_reply_breach, share=config.short_reply)))
    if config.refusal:
        rules.append(NamedFilter("refusal", refusal_breach))
    if config.placeholder:
        rules.append(NamedFilter("placeholder", placeholder_breach))
    rules.extend(NamedFilter(pattern.name, _pattern_rule(pattern)) for pattern in config.patterns)
    if config.echo is not None:
        rules.append(NamedFilter("echo", partial(echo_breach, bound=config.echo)))
    if config.repetition is not None:
        rules.append(NamedFilter("repetition", partial(repetition_breach, bound=config.repetition)))
    return tuple(rules)


def first_breach(example: Example, filters: Iterable[NamedFilter]) -> Drop | None:
    """The drop by the first rule that the example breaches; None where it passes them all."""
    for rule in filters:
        detail = rule.breach(example)
        if detail is not None:
            return Drop(Stage.FILTER, rule.name, detail)
    return None


# --- length --------------------------------------------------------------------------------------


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
    for question, reply in _exchanges(example):
        asked = count_words(question)
        # A quotient is the nearest float to the true ratio, as the bound is to its decimals: equal means equal.
        if asked >= LONG_QUESTION_WORDS and (answered := count_words(reply)) / asked < share:
            return f"{answered} words to a question of {asked}"
    return None


def _exchanges(example: Example) -> Iterator[tuple[str, str]]:
    """Each user turn with the assistant turn that follows it."""
    question = ""
    for message in example.messages:
        if message["role"] == "user":
            question = message["content"]
        elif message["role"] == "assistant":
            yield question, message["content"]


# --- wording -------------------------------------------------------------------------------------


def refusal_breach(example: Example) -> str | None:
    """An assistant turn that opens by declining the request itself; a limit that support reports is no refusal."""
    for message in example.messages:
        if message["role"] == "assistant" and (found := refusal_in_opening(message["content"])) is not None:
            return _quoted(found)
    return None


_SLOT_WORD = re.compile(
    r"names?|number|date|time|e-?mail|address|link|url|id|company|title|amount|phone|username|password|city|country|product"
    r"|model|agent|customer|client|reason|price|signature|department|website|details|here"
)
_SLOT_LENGTH = 5
_UNFINISHED = re.compile(r"(?<![\w\])])\[\s*(?:insert\b|your\b(?![^\[\]\n]*\]\())", re.IGNORECASE)
# `row[name]` is an index and `[Order page](https://...)` a link; a slot stands alone in its brackets.
_BRACKETED = re.compile(r"(?<![\w\])])\[([^\[\]\n]{1,60})\](?!\()")
_ANGLED = re.compile(r"<\s*(?:your|insert|enter)[\s_-][^<>\n]{0,60}>", re.IGNORECASE)
_WORDED = re.compile(r"(?<!\w)(?:x{3,}|placeholders?|lorem\s+ipsum)(?!\w)")


def placeholder_breach(example: Example) -> str | None:
    """A slot that nobody filled in, on either side.

    The words `placeholder`, `xxx` and `lorem ipsum` count wherever they stand, also in honest talk about a form field
    or the Roman numeral XXX: the rule is the word. Inside a longer word (`xxxl`) they do not.
    """
    for message in example.messages:
        if (found := _placeholder(message["content"])) is not None:
            return f"{message['role']}: {_quoted(found)}"
    return None


def _placeholder(text: str) -> str | None:
    # The plain searches cost a tenth of the expressions, and most texts hold none of these.
    if "{{" in text:
        return "{{"
    if "[" in text and (slot := _slot(text)) is not None:
        return slot
    if "<" in text and (found := _ANGLED.search(text)):
        return found[0]
    lowered = text.lower()
    if not ("xxx" in lowered or "placeholder" in lowered or "lorem" in lowered):
        return None
    found = _WORDED.search(lowered)
    return found[0] if found else None


def _slot(text: str) -> str | None:
    """`[insert ...`, `[your ...`, or a few words in brackets of which the last is one that templates ask for."""
    if found := _UNFINISHED.search(text):
        return found[0]
    for bracketed in _BRACKETED.finditer(text):
        words = bracketed[1].lower().replace("_", " ").split()
        if words and len(words) <= _SLOT_LENGTH and _SLOT_WORD.fullmatch(words[-1]):
            return bracketed[0]
    return None


def _pattern_rule(pattern: Pattern) -> Callable[[Example], str | None]:
    return partial(pattern_breach, regex=re.compile(pattern.regex), where=pattern.where)


def pattern_breach(example: Example, *, regex: re.Pattern[str], where: str) -> str | None:
    """A turn on the given side in which the user's expression is found."""
    for message in example.messages:
        if where in {"both", message["role"]} and (found := regex.search(message["content"])):
            return f"{message['role']}: {_quoted(found[0])}"
    return None


def _quoted(found: str) -> str:
    shown = " ".join(found.split())
    return f'"{shown[:40]}…"' if len(shown) > 40 else f'"{shown}"'


# --- echo and repetition -------------------------------------------------------------------------


def echo_breach(example: Example, *, bound: float) -> str | None:
    """A reply that is more similar to its question than `bound`, or that holds a long question word for word.

    Similarity is rapidfuzz's normalised Indel similarity of the words in lower case, without punctuation.
    """
    for question, reply in _exchanges(example):
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


def repetition_breach(example: Example, *, bound: float) -> str | None:
    """A turn of which more than the share `bound` is repeated.

    What counts are the words in 4-grams (8 letters where the script has no spaces) that occur three times, or twice if
    they make up a whole sentence or line, or a stretch of 12 words. What only makes sentences begin alike ("If you want
    to ...") does not.
    """
    for message in example.messages:
        share = _repeated_share(message["content"], bound)
        if share > bound:
            return f"{message['role']}: {share:.0%} of the text is repeated, at most {bound:.0%}"
    return None


# With the full stop and the full-width marks of scripts that put no space behind them.
_SENTENCE_END = re.compile(r"[.!?;:]+(?=\s|$)|[\n\u3002\uff01\uff1f\uff1b]+")
_STRETCH = re.compile(rb"\x01+")


def _repeated_share(text: str, bound: float) -> float:
    """Share (0-1) of the words that are repeated; 0 for short texts, and where it cannot exceed `bound`."""
    words = tokens(text)
    if len(words) < _REPETITION_WORDS:
        return 0.0
    size = _GRAM_LETTERS if is_mostly_unspaced(text) else _GRAM_WORDS
    shifted = [words[offset:] for offset in range(size)]
    surplus = len(shifted[-1]) - len(set(zip(*shifted, strict=False)))
    # A surplus gram and its first occurrence cover two times `size` words at the most.
    if 2 * size * surplus <= bound * len(words):
        return 0.0
    grams = list(zip(*shifted, strict=False))
    counts = Counter(grams)
    twice, thrice = bytearray(len(words)), bytearray(len(words))
    for position, gram in enumerate(grams):
        if (count := counts[gram]) > 1:
            twice[position : position + size] = b"\x01" * size
            if count > 2:
                thrice[position : position + size] = b"\x01" * size
    return sum(_counted(twice, thrice, text, size * _STRETCH_GRAMS)) / len(words)


def _counted(twice: bytearray, thrice: bytearray, text: str, shortest: int) -> bytearray:
    """Marks of the words that count as repeated, from the marks of those that occur twice and three times."""
    counted = bytearray(thrice)
    for stretch in _STRETCH.finditer(twice):
        if stretch.end() - stretch.start() >= shortest:
            counted[stretch.start() : stretch.end()] = stretch[0]
    first = 0
    for sentence in _SENTENCE_END.split(text):
        last = first + len(tokens(sentence))
        fresh = counted.find(0, first, last)
        if twice.find(0, first, last) < 0:
            counted[first:last] = b"\x01" * (last - first)
        elif 0 <= fresh - first < shortest:
            counted[first:fresh] = bytes(fresh - first)
        first = last
    return counted
