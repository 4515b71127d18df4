"""Personal data that a model has written: found by form and checksum, then dropped or redacted.

Precision goes first: a kind without a checksum needs a form that nothing else has, or words that introduce it. Names
and postal addresses have neither, and are not looked for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from functools import partial

from synth_async.config.models import Filters, Pii
from synth_async.records import Example, Message, PiiKind
from synth_async.stages.filters.pii.contacts import find_emails, find_ips, find_phones
from synth_async.stages.filters.pii.finding import Finding, number_windows
from synth_async.stages.filters.pii.national import find_national_ids
from synth_async.stages.filters.pii.payments import find_cards, find_ibans

__all__ = ["MARKS", "Finding", "build_redaction", "find_pii", "marks_in", "pii_breach"]

MARKS: dict[PiiKind, str] = {
    "email": "[EMAIL]",
    "phone": "[PHONE]",
    "card": "[CARD]",
    "iban": "[IBAN]",
    "ip": "[IP]",
    "national_id": "[NATIONAL_ID]",
}
"""What stands in the place of redacted data."""

_DIGIT = re.compile(r"[0-9]")


def find_pii(text: str, kinds: Collection[PiiKind], *, allow_synthetic: bool) -> list[Finding]:
    """What was found, by position. Of two that overlap the surer counts: those with a checksum before the others."""
    found: list[Finding] = []
    for finding in _each(text, kinds, allow_synthetic=allow_synthetic):
        if not any(finding.start < other.end and other.start < finding.end for other in found):
            found.append(finding)
    return sorted(found)


def _each(text: str, kinds: Collection[PiiKind], *, allow_synthetic: bool) -> Iterator[Finding]:
    if "@" in text and "email" in kinds:
        yield from find_emails(text, allow_synthetic=allow_synthetic)
    if not _DIGIT.search(text):
        return
    windows = number_windows(text)
    if windows and "iban" in kinds:
        yield from find_ibans(text, windows, allow_synthetic=allow_synthetic)
    if windows and "card" in kinds:
        yield from find_cards(text, windows, allow_synthetic=allow_synthetic)
    if "national_id" in kinds:
        yield from find_national_ids(text, windows, allow_synthetic=allow_synthetic)
    if "ip" in kinds:
        yield from find_ips(text, allow_synthetic=allow_synthetic)
    if windows and "phone" in kinds:
        yield from find_phones(text, windows, allow_synthetic=allow_synthetic)


def pii_breach(example: Example, *, settings: Pii) -> str | None:
    """A turn that holds personal data. The answer names the kinds and does not repeat the data."""
    for message in example.messages:
        found = find_pii(message["content"], settings.kinds, allow_synthetic=settings.allow_synthetic)
        if found:
            return f"{message['role']}: {', '.join(dict.fromkeys(finding.kind for finding in found))}"
    return None


def marks_in(messages: Iterable[Message], kinds: Iterable[PiiKind]) -> dict[PiiKind, int]:
    """How many marks of these kinds stand in messages that were redacted."""
    text = "\n".join(message["content"] for message in messages)
    return {kind: count for kind in kinds if (count := text.count(MARKS[kind]))}


def build_redaction(config: Filters) -> Callable[[Example], Example]:
    """What a config makes of an example: one with marks in the place of personal data, counted; or the same one."""
    if config.pii is None or config.pii.action != "redact":
        return _unchanged
    return partial(_redacted, settings=config.pii)


def _unchanged(example: Example) -> Example:
    return example


def _redacted(example: Example, *, settings: Pii) -> Example:
    counts: Counter[PiiKind] = Counter()
    messages: list[Message] = []
    for message in example.messages:
        text = message["content"]
        for finding in reversed(find_pii(text, settings.kinds, allow_synthetic=settings.allow_synthetic)):
            text = text[: finding.start] + MARKS[finding.kind] + text[finding.end :]
            counts[finding.kind] += 1
        messages.append({**message, "content": text})
    if not counts:
        return example
    return replace(example, messages=tuple(messages), redacted=dict(sorted(counts.items())))
