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


def write_topics(rng: random.Random, seed: int, count: int, domain: str) -> list[str]:
    """`count` lines, most of them new, some a favourite of this seed, some with a number or a bullet in front."""
    field = lexicon_for(domain, "")
    lines = []
    for number in range(1, count + 1):
        draw = rng.random()
        if draw < _FAVOURITE_SHARE:
            topic = write_topic(random.Random(f"{seed}/favourite/{int(rng.random() * _FAVOURITES)}"), field, domain)
        else:
            topic = write_topic(rng, field, domain)
        mark = rng.random()
        prefix = "" if mark > _MARKED_SHARE else f"{number}. " if mark > _MARKED_SHARE / 2 else "- "
        lines.append(prefix + topic)
    return lines


def write_topic(rng: random.Random, field: Lexicon, domain: str) -> str:
    """One specific situation."""
    slots = draw_facts(rng)
    words = list(dict.fromkeys(_domain_words(domain)))
    rng.shuffle(words)
    slots["w1"], slots["w2"] = [*words, "the usual way", "the details"][:2]
    frame = pick(rng, _FRAMES)
    parts = {
        "problem": pick(rng, field.problems).format_map(slots),
        "persona": pick(rng, field.personas),
        "setting": pick(rng, field.settings).format_map(slots),
        "twist": pick(rng, field.twists).format_map(slots),
    }
    topic = frame.format_map(parts)
    return topic[0].upper() + topic[1:]


def _domain_words(domain: str) -> list[str]:
    subject = subject_of(domain or "everyday questions", "")
    return [subject.w1, subject.w2, subject.about]
