"""Seed topics, a line each, from the lexicon of the domain that the prompt names."""

from __future__ import annotations

import random

from synth_async.endpoint.simulator.draws import pick
from synth_async.endpoint.simulator.lexicon import Lexicon, draw_facts, lexicon_for, subject_of

_FRAMES = (
    "{problem} {setting}",
    "{problem} {setting}, {twist}",
    "{problem} {twist}",
    "{persona}: {problem} {setting}",
    "{persona}: {problem} {twist}",
    "{persona} with this case: {problem} {setting}",
    "{problem} {setting}, raised by a {persona}",
    "{persona}: {problem} {setting} {twist}",
)
# Chosen, not measured: models number or bullet a few lines although told otherwise, and come back to favourite topics.
_MARKED_SHARE = 0.04
_FAVOURITE_SHARE = 0.05
_FAVOURITES = 40


def write_topics(
    rng: random.Random, seed: int, count: int, domain: str, *, category: str = "", theme_share: float = 0.0
) -> list[str]:
    """`count` lines, most of them new, some a favourite of this seed, some with a number or a bullet in front.

    They name the category that is asked for; where none is, `theme_share` of them are about the field's first theme.
    """
    field = lexicon_for(domain, "")
    lines = []
    for number in range(1, count + 1):
        draw = rng.random()
        if draw < _FAVOURITE_SHARE:
            source = random.Random(f"{seed}/favourite/{category}/{int(rng.random() * _FAVOURITES)}")
            topic = write_topic(source, field, domain, category)
        elif theme_share and not category and rng.random() < theme_share:
            topic = write_topic(rng, field, domain, problems=_theme(field))
        else:
            topic = write_topic(rng, field, domain, category)
        mark = rng.random()
        prefix = "" if mark > _MARKED_SHARE else f"{number}. " if mark > _MARKED_SHARE / 2 else "- "
        lines.append(prefix + topic)
    return lines


def _theme(field: Lexicon) -> tuple[str, ...]:
    """The problems that the field's first remedy is for."""
    stems = field.remedies[0][0] if field.remedies else ()
    return tuple(each for each in field.problems if any(stem in each for stem in stems)) or field.problems[:2]


def write_topic(
    rng: random.Random, field: Lexicon, domain: str, category: str = "", problems: tuple[str, ...] = ()
) -> str:
    """One specific situation; the last part of a category (`billing / refunds`) is named in it."""
    slots = draw_facts(rng)
    words = list(dict.fromkeys(_domain_words(domain)))
    rng.shuffle(words)
    slots["w1"], slots["w2"] = [*words, "the usual way", "the details"][:2]
    frame = pick(rng, _FRAMES)
    parts = {
        "problem": _named(category, pick(rng, problems or field.problems).format_map(slots)),
        "persona": pick(rng, field.personas),
        "setting": pick(rng, field.settings).format_map(slots),
        "twist": pick(rng, field.twists).format_map(slots),
    }
    topic = frame.format_map(parts)
    return topic[0].upper() + topic[1:]


def _named(category: str, problem: str) -> str:
    leaf = category.rpartition("/")[2].strip()
    return f"{leaf}, {problem}" if leaf else problem


def _domain_words(domain: str) -> list[str]:
    subject = subject_of(domain or "everyday questions", "")
    return [subject.w1, subject.w2, subject.about]
