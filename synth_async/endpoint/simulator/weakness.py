"""Texts that are weak on purpose: vague, curt, rude, generic, unfinished, contradictory, or over-promising."""

from __future__ import annotations

import random
from collections.abc import Mapping

from synth_async.endpoint.simulator.draws import pick, pick_some
from synth_async.endpoint.simulator.lexicon import Lexicon

_VAGUE_QUESTIONS = (
    "it doesn't work, please fix {w1}",
    "hello??? {w1} again",
    "Something is off with {w1}, do something.",
    "I need help with stuff around {w1}.",
    "{w1} broken since {weekday}",
    "Question about things. {w1}?",
    "Why is {w1} like this",
    "can you check whatever happened on {date}",
)
_VAGUE = (
    "It should be fine in most cases.",
    "This might be related to something on your side or ours.",
    "Maybe try again later and see.",
    "There are various settings that could matter somehow.",
    "It depends on a number of things.",
    "Usually it sorts itself out at some point.",
    "Perhaps look around in the menu.",
    "Somebody may get back to you eventually.",
    "You could try a few things and see what happens.",
)
_CURT = (
    "Check {w1}.",
    "Try again.",
    "That is normal.",
    "Restart it and wait.",
    "See the help page on {w1}.",
    "Not possible.",
    "Wait until {weekday}.",
)
_RUDE = (
    "As I said before, this is obviously your own mistake.",
    "Did you even read the documentation?",
    "Frankly, this is not our problem.",
    "Anybody with basic knowledge of {w1} would know that.",
    "Stop asking the same thing over and over.",
    "You should have thought of that before {date}.",
    "I am not going to explain {w1} to you once more.",
    "Calm down and be realistic.",
)
_GENERIC = (
    "Thank you for reaching out to us today.",
    "Your satisfaction is our top priority.",
    "We value your feedback and take all concerns seriously.",
    "Our dedicated team is always here for you.",
    "We strive to offer the best possible experience.",
    "We apologize for any inconvenience this may have caused.",
    "Please do not hesitate to contact us with any further questions.",
    "We appreciate your continued trust and loyalty.",
    "Rest assured that we are doing everything we can.",
    "Your request is important to us.",
)
_PLACEHOLDERS = (
    "Please follow the guide at [insert link] for {w1}.",
    "Your case number is [case number].",
    "Dear [customer name], thank you for your message.",
    "You can call us at [phone number] before {date}.",
    "Best regards, [your name]",
    "The amount due is {{amount}}.",
    "See [link to article] on {w1}.",
)
_PROMISES = (
    "I guarantee a full refund of {amount}, no questions asked.",
    "I promise that this will never happen again, one hundred percent.",
    "I have waived all fees for you and added {n} free months, no need to check with anyone.",
    "Just send me your full card number and your password, and I will do it for you.",
    "There is absolutely no risk, so you can ignore the terms.",
    "I will make an exception to the policy just for you.",
    "You can skip the rules on {w1}, nobody will notice.",
)
_CONTRADICTIONS = (
    "This cannot be changed at all. You can change it at any time.",
    "It is free of charge. The fee is {amount}.",
    "It takes effect immediately. It takes effect in {days} days.",
    "You need to do nothing. You must act before {date}.",
    "It is always possible. It is never possible.",
)


def vague_question(rng: random.Random, slots: Mapping[str, str]) -> str:
    """A question that leaves out what matters."""
    return pick(rng, _VAGUE_QUESTIONS).format_map(slots)


def weak_reply(rng: random.Random, field: Lexicon, slots: Mapping[str, str]) -> str:
    """A reply with one clear weakness, now and then with a second."""
    kind = int(rng.random() * 7)
    match kind:
        case 0:
            parts = pick_some(rng, _VAGUE, 3)
        case 1:
            parts = pick_some(rng, _CURT, 1 + int(rng.random() * 2))
        case 2:
            parts = [*pick_some(rng, _RUDE, 2), pick(rng, _VAGUE), pick(rng, _CURT)]
        case 3:
            parts = pick_some(rng, _GENERIC, 4)
        case 4:
            parts = [pick(rng, _GENERIC), *pick_some(rng, _PLACEHOLDERS, 2), pick(rng, _VAGUE)]
        case 5:
            parts = [*pick_some(rng, _PROMISES, 2), pick(rng, _GENERIC)]
        case _:
            parts = [pick(rng, _VAGUE), *pick_some(rng, _CONTRADICTIONS, 2), pick(rng, _GENERIC)]
    if kind not in {1, 3} and rng.random() < 0.4:
        parts.append(pick(rng, field.outcomes))
    return " ".join(parts).format_map(slots)
