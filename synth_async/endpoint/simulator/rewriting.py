"""What the simulated model makes of a conversation that is shown to it: the next reply, or the same written better.

Both go by the visible text alone. A reply is as good or bad as those of new conversations; a revision mends most of
what it is given, and now and then it only adds a kind word and leaves what was wrong.
"""

from __future__ import annotations

import random
import re
from dataclasses import replace

from synth_async.config.models import Simulation
from synth_async.endpoint.simulator.dialogue import (
    Exchange,
    in_habitual_tone,
    write_dialogue,
    write_good_exchange,
    write_reply,
)
from synth_async.endpoint.simulator.draws import pick
from synth_async.endpoint.simulator.further_prompts import ReplyPrompt, Said
from synth_async.endpoint.simulator.labelling import tone_in
from synth_async.endpoint.simulator.plants import with_placeholder
from synth_async.endpoint.simulator.prompts import RevisionPrompt

__all__ = ["reply_to", "rewritten"]

MENDED_SHARE = 0.8
"""Share of revisions that mend what they are given."""

_FEWEST_WORDS = 10
"""A question that is shorter leaves out what matters, and is written anew."""

_KIND_WORDS = ("Thank you for your patience.", "I hope this helps.", "Please let us know how it goes.")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def reply_to(rng: random.Random, simulation: Simulation, prompt: ReplyPrompt) -> str:
    """The next reply: weak by `weak_share`, with a placeholder by `placeholder_share`, good otherwise."""
    asked = prompt.turns[-1][1]
    draw = rng.random()
    is_weak = draw < simulation.weak_share
    first = next(text for role, text in prompt.turns if role == "user")
    reply = write_reply(
        rng,
        _subject(first),
        tone_in(asked.lower()),
        weak=is_weak,
        follows=any(role == "assistant" for role, _ in prompt.turns),
    )
    if not is_weak and draw < simulation.weak_share + simulation.placeholder_share:
        return with_placeholder(rng, Exchange(asked, reply)).assistant
    return reply


def rewritten(rng: random.Random, simulation: Simulation, prompt: RevisionPrompt) -> list[Exchange]:
    """The conversation with what is wrong in it mended, in most cases."""
    told = _exchanges(prompt.turns)
    if not told:
        return write_dialogue(rng, simulation, prompt.example)
    if rng.random() >= MENDED_SHARE:
        last = told[-1]
        return [*told[:-1], replace(last, assistant=f"{last.assistant} {pick(rng, _KIND_WORDS)}")]
    asked = in_habitual_tone(rng, simulation, prompt.example)
    mended = []
    for number, exchange in enumerate(told):
        written = write_good_exchange(rng, asked, follows=number > 0)
        kept = exchange.user if len(exchange.user.split()) >= _FEWEST_WORDS else written.user
        mended.append(Exchange(kept, written.assistant))
    if rng.random() < simulation.placeholder_share:
        mended[0] = with_placeholder(rng, mended[0])
    return mended


def _exchanges(turns: Said) -> list[Exchange]:
    users = [text for role, text in turns if role == "user"]
    assistants = [text for role, text in turns if role == "assistant"]
    return [Exchange(user, assistant) for user, assistant in zip(users, assistants, strict=False)]


def _subject(text: str) -> str:
    """The sentence that names what a question is about: one with a colon, else the longest that asks nothing."""
    sentences = _SENTENCE_END.split(text)
    named = next((sentence for sentence in sentences if ": " in sentence), None)
    told = [sentence for sentence in sentences if not sentence.endswith("?")] or sentences
    return named or max(told, key=len)
