"""The set of rules that a config turns on, and their order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from synth_async.config.models import Filters, reason_of
from synth_async.records import Drop, Example, Stage
from synth_async.stages.filters.custom import build_custom
from synth_async.stages.filters.echo import echo_breach
from synth_async.stages.filters.language import build_language
from synth_async.stages.filters.leakage import build_leakage
from synth_async.stages.filters.length import short_reply_breach, words_breach
from synth_async.stages.filters.pii import pii_breach
from synth_async.stages.filters.profanity import build_profanity
from synth_async.stages.filters.repetition import repetition_breach
from synth_async.stages.filters.roles import role_mixup_breach
from synth_async.stages.filters.wording import pattern_breach, placeholder_breach, refusal_breach

__all__ = ["NamedFilter", "build_filters", "first_breach"]


@dataclass(frozen=True, slots=True)
class NamedFilter:
    """A rule: `name` is the reason under which drops are counted, `breach` says what is wrong, or None."""

    name: str
    breach: Callable[[Example], str | None]


def build_filters(config: Filters, *, prompts: Iterable[str] = ()) -> tuple[NamedFilter, ...]:
    """The rules that a config turns on, cheapest first; `prompts` are the texts that no turn may quote.

    Raises re.error for a pattern that is no regular expression, `UsageError` for a function that cannot be loaded.
    """
    return (*_at_a_glance(config), *_by_the_words(config, prompts))


def first_breach(example: Example, filters: Iterable[NamedFilter]) -> Drop | None:
    """The drop by the first rule that the example breaches; None where it passes them all."""
    for rule in filters:
        detail = rule.breach(example)
        if detail is not None:
            return Drop(Stage.FILTER, rule.name, detail)
    return None


def _at_a_glance(config: Filters) -> Iterator[NamedFilter]:
    """Rules that cost a few microseconds, in their order."""
    if config.user_words is not None:
        yield NamedFilter("user_words", partial(words_breach, role="user", bounds=config.user_words))
    if config.assistant_words is not None:
        yield NamedFilter("assistant_words", partial(words_breach, role="assistant", bounds=config.assistant_words))
    if config.short_reply is not None:
        yield NamedFilter("short_reply", partial(short_reply_breach, share=config.short_reply))
    if config.refusal:
        yield NamedFilter("refusal", refusal_breach)
    if config.placeholder:
        yield NamedFilter("placeholder", placeholder_breach)
    if config.role_mixup:
        yield NamedFilter("role_mixup", role_mixup_breach)
    if config.pii is not None and config.pii.action == "drop":
        yield NamedFilter("pii", partial(pii_breach, settings=config.pii))
    if config.profanity is not None:
        yield NamedFilter("profanity", build_profanity(config.profanity))
    for pattern in config.patterns:
        breach = partial(pattern_breach, regex=re.compile(pattern.regex), where=pattern.where)
        yield NamedFilter(pattern.name, breach)


def _by_the_words(config: Filters, prompts: Iterable[str]) -> Iterator[NamedFilter]:
    """Rules that compare all words of a turn, and those whose cost is not ours to know."""
    if config.echo is not None:
        yield NamedFilter("echo", partial(echo_breach, bound=config.echo))
    if config.leakage:
        yield NamedFilter("leakage", build_leakage(prompts))
    if config.repetition is not None:
        yield NamedFilter("repetition", partial(repetition_breach, settings=config.repetition))
    if config.language is not None:
        yield NamedFilter("language", build_language(config.language))
    for name in config.custom:
        yield NamedFilter(reason_of(name), build_custom(name))
