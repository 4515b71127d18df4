"""Rules about single wordings: refusals, slots that nobody filled in, and what the user forbids."""

from __future__ import annotations

import re
from collections.abc import Collection

from synth_async.records import Example, PiiKind
from synth_async.stages.filters.pii import MARKS
from synth_async.stages.filters.refusals import refusal_in_opening
from synth_async.stages.filters.turns import quoted

__all__ = ["pattern_breach", "placeholder_breach", "refusal_breach"]


def refusal_breach(example: Example) -> str | None:
    """An assistant turn that opens by declining the request itself; a limit that support reports is no refusal."""
    for message in example.messages:
        if message["role"] == "assistant" and (found := refusal_in_opening(message["content"])) is not None:
            return quoted(found)
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
        if (found := _placeholder(message["content"], example.redacted)) is not None:
            return f"{message['role']}: {quoted(found)}"
    return None


def _placeholder(text: str, redacted: Collection[PiiKind]) -> str | None:
    # The plain searches cost a tenth of the expressions, and most texts hold none of these.
    if "{{" in text:
        return "{{"
    if "[" in text and (slot := _slot(text, redacted)) is not None:
        return slot
    if "<" in text and (found := _ANGLED.search(text)):
        return found[0]
    lowered = text.lower()
    if not ("xxx" in lowered or "placeholder" in lowered or "lorem" in lowered):
        return None
    found = _WORDED.search(lowered)
    return found[0] if found else None


def _slot(text: str, redacted: Collection[PiiKind]) -> str | None:
    """`[insert ...`, `[your ...`, or a few words in brackets of which the last is one that templates ask for.

    The marks of our own redaction are no slots; the same words in an example where nothing was redacted are.
    """
    for kind in redacted:
        text = text.replace(MARKS[kind], "")
    if found := _UNFINISHED.search(text):
        return found[0]
    for bracketed in _BRACKETED.finditer(text):
        words = bracketed[1].lower().replace("_", " ").split()
        if words and len(words) <= _SLOT_LENGTH and _SLOT_WORD.fullmatch(words[-1]):
            return bracketed[0]
    return None


def pattern_breach(example: Example, *, regex: re.Pattern[str], where: str) -> str | None:
    """A turn on the given side in which the user's expression is found."""
    for message in example.messages:
        if where in {"both", message["role"]} and (found := regex.search(message["content"])):
            return f"{message['role']}: {quoted(found[0])}"
    return None
