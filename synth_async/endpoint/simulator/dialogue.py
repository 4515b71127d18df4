"""One conversation about a topic: a user's messages and the replies, good, weak on purpose, or nearly a repeat.

Everything is drawn from the random source that is passed in, so the same source writes the same conversation.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

from synth_async.config.models import Simulation
from synth_async.endpoint.simulator.draws import pick, pick_some
from synth_async.endpoint.simulator.lexicon import Lexicon, draw_facts, lexicon_for, subject_of
from synth_async.endpoint.simulator.phrases import (
    ACKNOWLEDGEMENTS,
    ASKS,
    CAUSE_FRAMES,
    CLOSINGS,
    FOLLOW_UP_ACKNOWLEDGEMENTS,
    FOLLOW_UPS,
    OPENINGS,
    REPLY_CLOSINGS,
    SITUATIONS,
    STEP_LEADS,
    TONE_SIGNS,
    TONES,
)
from synth_async.endpoint.simulator.plants import Exchange, with_personal_data, with_placeholder
from synth_async.endpoint.simulator.prompts import ExamplePrompt
from synth_async.endpoint.simulator.seeds import write_topic
from synth_async.endpoint.simulator.weakness import vague_question, weak_reply

__all__ = [
    "POOL",
    "Exchange",
    "favourite_tone",
    "in_habitual_tone",
    "tone_of_value",
    "write_dialogue",
    "write_good_exchange",
    "write_reply",
]

POOL = 16
"""Conversations per seed, domain and length that near-duplicates come from; the first use of each is none."""

_TONE_FACETS = frozenset({"tone", "mood", "style", "emotion", "register", "sentiment"})
_PERSONA_FACETS = ("persona", "role", "customer", "user", "audience")
_EDITS = (
    ("I am ", "I'm "),
    ("It is ", "It's "),
    ("do not ", "don't "),
    ("cannot ", "can't "),
    ("Please ", "Kindly "),
    ("most likely ", "probably "),
    ("begins", "starts"),
    ("Thank you ", "Thanks "),
    ("look at ", "check "),
    ("in place of ", "instead of "),
)
_GREETINGS = ("", "Hi, ", "Hello, ", "Hey, ", "Good day. ", "Hi team, ", "Hello again. ", "Hi all, ")
_TAILS = (
    "",
    " Thanks.",
    " Thank you!",
    " Please let me know.",
    " Cheers.",
    " Many thanks.",
    " Any help is welcome.",
    " Best.",
)
_REPLY_TAILS = (
    "",
    " All the best.",
    " Have a good day.",
    " Kind regards.",
    " Thank you for writing.",
    " We are here to help.",
)


@dataclass(frozen=True, slots=True)
class _Scene:
    """What stays the same through a conversation."""

    field: Lexicon
    slots: Mapping[str, str]
    tone: str
    topic: str


def write_dialogue(rng: random.Random, simulation: Simulation, prompt: ExamplePrompt) -> list[Exchange]:
    """The conversation that a prompt asks for; the shares of the simulation decide what becomes of it."""
    draw = rng.random()
    prompt = in_habitual_tone(rng, simulation, prompt)
    weak_end = simulation.weak_share
    duplicate_end = weak_end + simulation.duplicate_share
    placeholder_end = duplicate_end + simulation.placeholder_share
    if draw < weak_end:
        return _dialogue(rng, prompt, weak=True)
    if draw < duplicate_end:
        return _near_duplicate(rng, simulation.seed, prompt)
    exchanges = _dialogue(rng, prompt, weak=False)
    if draw < placeholder_end:
        exchanges[0] = with_placeholder(rng, exchanges[0])
    elif draw < placeholder_end + simulation.pii_share:
        exchanges[0] = with_personal_data(rng, exchanges[0])
    return exchanges


def write_good_exchange(rng: random.Random, prompt: ExamplePrompt, *, follows: bool) -> Exchange:
    """One exchange that a prompt asks for, without a weakness; one that follows others goes on from them."""
    scene = _scene(rng, prompt)
    if follows:
        return Exchange(_follow_up(rng, scene), _follow_up_reply(rng, scene))
    return Exchange(_question(rng, scene, _persona(prompt)), _reply(rng, scene))


def write_reply(rng: random.Random, topic: str, tone: str | None, *, weak: bool, follows: bool) -> str:
    """A reply alone, to somebody who writes about a topic in a tone."""
    scene = _scene(rng, ExamplePrompt(topic, "", (("tone", tone),) if tone else ()))
    if weak:
        return weak_reply(rng, scene.field, scene.slots)
    return _follow_up_reply(rng, scene) if follows else _reply(rng, scene)


def in_habitual_tone(rng: random.Random, simulation: Simulation, prompt: ExamplePrompt) -> ExamplePrompt:
    """The prompt, or by `favourite_share` one for the favourite tone whatever was asked."""
    if simulation.favourite_share and rng.random() < simulation.favourite_share:
        return _in_tone(prompt, favourite_tone(simulation.seed))
    return prompt


def favourite_tone(seed: int) -> str:
    """The tone that this seed falls into."""
    return TONES[seed % len(TONES)]


def _in_tone(prompt: ExamplePrompt, tone: str) -> ExamplePrompt:
    others = tuple((name, value) for name, value in prompt.facets if name not in _TONE_FACETS)
    return replace(prompt, facets=(*others, ("tone", tone)))


def _near_duplicate(rng: random.Random, seed: int, prompt: ExamplePrompt) -> list[Exchange]:
    """Slight edits of a conversation that depends on seed, domain and length alone, whatever the topic."""
    source = random.Random(f"{seed}/{prompt.domain}/{prompt.turns}/{int(rng.random() * POOL)}")
    topic = write_topic(source, lexicon_for(prompt.domain, prompt.topic), prompt.domain)
    original = _dialogue(source, ExamplePrompt(topic, prompt.domain, (), prompt.turns, prompt.as_messages), weak=False)
    edits = pick_some(rng, _EDITS, 3)
    edited = [Exchange(_edit(turn.user, edits), _edit(turn.assistant, edits)) for turn in original]
    first = edited[0]
    edited[0] = Exchange(
        pick(rng, _GREETINGS) + first.user + pick(rng, _TAILS), first.assistant + pick(rng, _REPLY_TAILS)
    )
    return edited


def _edit(text: str, edits: list[tuple[str, str]]) -> str:
    for old, new in edits:
        text = text.replace(old, new)
    return text


def _dialogue(rng: random.Random, prompt: ExamplePrompt, *, weak: bool) -> list[Exchange]:
    scene = _scene(rng, prompt)
    persona = _persona(prompt)
    if weak:
        user = vague_question(rng, scene.slots) if rng.random() < 0.3 else _question(rng, scene, persona)
        exchanges = [Exchange(user, weak_reply(rng, scene.field, scene.slots))]
    else:
        exchanges = [Exchange(_question(rng, scene, persona), _reply(rng, scene))]
    for _ in range(prompt.turns - 1):
        asked = _follow_up(rng, scene)
        exchanges.append(
            Exchange(asked, weak_reply(rng, scene.field, scene.slots) if weak else _follow_up_reply(rng, scene))
        )
    return exchanges


def _persona(prompt: ExamplePrompt) -> str:
    return next((value for name, value in prompt.facets if name.startswith(_PERSONA_FACETS)), "")


def _scene(rng: random.Random, prompt: ExamplePrompt) -> _Scene:
    subject = subject_of(prompt.topic, prompt.domain)
    slots = draw_facts(rng)
    slots.update(topic=subject.topic, about=subject.about, w1=subject.w1, w2=subject.w2)
    field = lexicon_for(prompt.domain, prompt.topic)
    return _Scene(field, slots, _tone(rng, prompt.facets), subject.topic)


def _tone(rng: random.Random, facets: tuple[tuple[str, str], ...]) -> str:
    for name, value in facets:
        if name in _TONE_FACETS and (tone := tone_of_value(value)) is not None:
            return tone
    return pick(rng, TONES)


def tone_of_value(value: str) -> str | None:
    """The tone that a wording such as "slightly annoyed" stands for; None where it is none that is known here."""
    lowered = value.lower()
    return next((tone for tone, signs in TONE_SIGNS.items() if any(sign in lowered for sign in signs)), None)


def _question(rng: random.Random, scene: _Scene, persona: str) -> str:
    draw = rng.random
    terse = scene.tone == "terse"
    parts = []
    if draw() < (0.4 if terse else 0.75):
        parts.append(pick(rng, OPENINGS[scene.tone]))
    if persona and draw() < 0.7:
        parts.append(f"I am writing as {_with_article(persona)}.")
    parts.append(pick(rng, SITUATIONS))
    parts += pick_some(rng, scene.field.details, 1 if terse else 1 + int(draw() * 3))
    if draw() < (0.1 if terse else 0.5):
        parts.append(pick(rng, scene.field.attempts))
    parts.append(pick(rng, ASKS[scene.tone]))
    if draw() < 0.4:
        parts.append(pick(rng, CLOSINGS[scene.tone]))
    return " ".join(parts).format_map(scene.slots)


def _reply(rng: random.Random, scene: _Scene) -> str:
    opening = pick(rng, ACKNOWLEDGEMENTS[scene.tone if scene.tone in ACKNOWLEDGEMENTS else "other"])
    cause = pick(rng, CAUSE_FRAMES).replace("{cause}", pick(rng, scene.field.causes))
    steps = pick_some(rng, scene.field.steps_for(scene.topic), 2 + int(rng.random() * 3))
    closing = pick_some(rng, scene.field.outcomes, 1 + int(rng.random() * 2))
    if rng.random() < 0.6:
        closing.append(pick(rng, REPLY_CLOSINGS))
    text = f"{opening} {cause} {_steps(rng, steps)}{' '.join(closing)}"
    return text.format_map(scene.slots)


def _steps(rng: random.Random, steps: list[str]) -> str:
    style = rng.random()
    if style < 0.45:
        listed = "".join(f"{number}. {step}\n" for number, step in enumerate(steps, start=1))
        return f"{pick(rng, STEP_LEADS)}\n{listed}"
    if style < 0.6:
        return f"{pick(rng, STEP_LEADS)}\n" + "".join(f"- {step}\n" for step in steps)
    words = ["First, ", *pick_some(rng, ("Then ", "Next, ", "After that, ", "Also, "), len(steps) - 2), "Finally, "]
    return " ".join(word + step[0].lower() + step[1:] for word, step in zip(words, steps, strict=True)) + " "


def _follow_up(rng: random.Random, scene: _Scene) -> str:
    text = pick(rng, FOLLOW_UPS)
    text = text.replace("{detail}", pick(rng, scene.field.details)).replace(
        "{attempt}", pick(rng, scene.field.attempts)
    )
    return text.format_map(scene.slots)


def _follow_up_reply(rng: random.Random, scene: _Scene) -> str:
    steps = pick_some(rng, scene.field.steps_for(scene.topic), 2)
    cause = pick(rng, CAUSE_FRAMES).replace("{cause}", pick(rng, scene.field.causes))
    parts = [pick(rng, FOLLOW_UP_ACKNOWLEDGEMENTS), cause, *steps, pick(rng, scene.field.outcomes)]
    if rng.random() < 0.5:
        parts.append(pick(rng, REPLY_CLOSINGS))
    return " ".join(parts).format_map(scene.slots)


def _with_article(persona: str) -> str:
    words = persona.rstrip(".").split(maxsplit=1)
    if not words or words[0].lower() in {"a", "an", "the", "somebody", "someone", "my", "our"}:
        return persona.rstrip(".")
    return f"{'an' if words[0][0].lower() in 'aeiou' else 'a'} {persona.rstrip('.')}"
