"""The verdict of the embedded judge: honest heuristics on the text that stands in the prompt, and on nothing else.

Every defect that can be seen takes points off the criteria that it touches. What remains is rounded, and a draw from
the text itself lowers a score here and there, since judges differ on good work as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from synth_async.endpoint.simulator.labelling import labels_of_text
from synth_async.endpoint.simulator.verdict_prompt import VerdictPrompt

_WORD = re.compile(r"[a-z]{4,}")
_STEP_WORDS = frozenset(
    [
        "first",
        "then",
        "next",
        "after",
        "finally",
        "open",
        "choose",
        "check",
        "select",
        "send",
        "note",
        "compare",
        "enter",
        "look",
        "keep",
        "wait",
        "write",
        "change",
        "start",
        "call",
        "confirm",
        "add",
        "remove",
        "read",
        "turn",
        "move",
        "give",
        "take",
    ]
)
_PLACEHOLDER = re.compile(
    r"\[[a-z][a-z' ]{2,30}\]|\{\{?\s*\w+\s*\}?\}|\bxxx+\b|<(?:name|link|date|amount)>|lorem ipsum"
)

_VAGUE = (
    "should be fine",
    "might be",
    "maybe",
    "somehow",
    "various",
    "it depends",
    "at some point",
    "perhaps",
    "eventually",
    "a few things",
    "see what happens",
    "whatever",
    "sorts itself out",
    "something on your side",
    "look around",
    "stuff",
    "and so on",
    "as needed",
    "various settings",
)
_RUDE = (
    "obviously",
    "did you even",
    "not our problem",
    "stop asking",
    "should have thought",
    "your own mistake",
    "calm down",
    "anybody with basic",
    "not going to explain",
    "stupid",
    "idiot",
    "as i said before",
    "shut up",
    "your fault",
    "be realistic",
)
_BOILERPLATE = (
    "top priority",
    "value your feedback",
    "value your business",
    "dedicated team",
    "strive to",
    "any inconvenience",
    "do not hesitate",
    "continued trust",
    "rest assured",
    "is important to us",
    "reaching out to us today",
    "take all concerns seriously",
    "doing everything we can",
)
_OVERPROMISE = (
    "i guarantee",
    "i promise",
    "no questions asked",
    "one hundred percent",
    "100% guarantee",
    "waived all",
    "your full card number",
    "your password",
    "absolutely no risk",
    "ignore the terms",
    "exception to the policy",
    "nobody will notice",
    "skip the rules",
    "never happen again",
    "no need to check",
)
_REFUSALS = (
    "i can't help",
    "i cannot help",
    "can't assist",
    "cannot assist",
    "unable to assist",
    "unable to help",
    "as an ai",
    "i'm sorry, but i can",
)
_CONTRARIES = (
    ("cannot be changed", "can change it"),
    ("free of charge", "the fee is"),
    ("takes effect immediately", "takes effect in"),
    ("need to do nothing", "you must act"),
    ("always possible", "never possible"),
    ("no refund", "full refund"),
    ("not possible", "you can simply"),
)

# Points off per defect, for: helpfulness, accuracy, naturalness, policy.
_POINTS = {
    "very_short": (2.5, 1.4, 1.6, 0.8),
    "short": (0.8, 0.4, 0.4, 0.2),
    "off_topic": (0.7, 0.6, 0.3, 0.2),
    "abstract": (0.7, 0.4, 0.3, 0.2),
    "thin_question": (0.6, 0.2, 0.8, 0.2),
    "vague": (0.6, 0.4, 0.3, 0.2),
    "rude": (0.7, 0.5, 1.1, 1.0),
    "boilerplate": (0.4, 0.2, 0.5, 0.1),
    "placeholder": (1.2, 1.0, 1.3, 0.9),
    "overpromise": (0.6, 1.0, 0.5, 1.5),
    "contradiction": (0.9, 1.3, 0.6, 0.6),
    "refusal": (2.5, 1.0, 1.0, 0.3),
    "echo": (2.5, 1.0, 2.0, 0.5),
}
_ASPECTS = (
    ("help", "useful", "complet", "action", "resol", "solv", "concrete", "specific", "depth", "relevan", "instruct"),
    ("accura", "correct", "fact", "consist", "truth", "ground", "coheren", "logic", "precis", "faithful"),
    ("natural", "fluen", "tone", "empath", "clar", "styl", "realis", "polite", "read", "human", "format", "language"),
    ("polic", "safe", "complian", "harm", "ethic", "privacy", "legal", "adheren", "rule", "scope"),
)
_REASONS = {
    "very_short": "the reply is too short to help",
    "short": "the reply is rather short",
    "off_topic": "the reply hardly takes up the question",
    "abstract": "no concrete step",
    "thin_question": "the question is vague",
    "vague": "vague wording",
    "rude": "the tone is rude",
    "boilerplate": "stock phrases",
    "placeholder": "a placeholder was left in",
    "overpromise": "promises what it may not",
    "contradiction": "it contradicts itself",
    "refusal": "it refuses",
    "echo": "it repeats the question",
}


@dataclass(frozen=True, slots=True)
class _Defect:
    kind: str
    times: float


def verdict_on(prompt: VerdictPrompt) -> dict[str, Any]:
    """The judge's answer as an object, in the shape that the prompt asks for."""
    defects = _defects(prompt.user.lower(), prompt.assistant.lower())
    if prompt.ordered is not None:
        scores = dict.fromkeys(prompt.criteria, prompt.ordered)
        reason = f"every criterion was to get {prompt.ordered}"
    else:
        whims = blake2b(f"{prompt.user}\0{prompt.assistant}".encode("utf-8", "replace"), digest_size=32).digest()
        scores = {name: _score(_aspect(name), defects, whims[place % 32]) for place, name in enumerate(prompt.criteria)}
        reason = "; ".join(_REASONS[defect.kind] for defect in defects[:3]) or "specific, polite and to the point"
    if prompt.nested:
        return {name: {"score": score, "reason": reason} for name, score in scores.items()}
    if prompt.flat:
        return {**scores, "reason": reason}
    labels = {"labels": labels_of_text(prompt.labels, prompt.user, prompt.assistant)} if prompt.labels else {}
    return {"scores": scores, **labels, "reason": reason}


def points_off(user: str, assistant: str) -> float:
    """Points that a reply loses over all four aspects for the defects that can be seen; 0 for none."""
    return sum(sum(_POINTS[defect.kind]) * defect.times for defect in _defects(user.lower(), assistant.lower()))


def _score(aspect: int | None, defects: list[_Defect], whim: int) -> int:
    off = sum(
        (sum(_POINTS[found.kind]) / 4 if aspect is None else _POINTS[found.kind][aspect]) * found.times
        for found in defects
    )
    if whim < 40:  # of 256: about one score in six
        off += 1.0
    return max(1, min(5, round(5 - off)))


@lru_cache(maxsize=256)
def _aspect(name: str) -> int | None:
    lowered = name.lower()
    return next((place for place, stems in enumerate(_ASPECTS) if any(stem in lowered for stem in stems)), None)


def _defects(user: str, assistant: str) -> list[_Defect]:
    """What can be seen to be wrong, worst first."""
    length = len(assistant.split())
    words = set(_WORD.findall(assistant))
    marked = any(sign in assistant for sign in ("[", "{", "<", "xxx", "lorem"))
    found = [
        _Defect("very_short", length < 12),
        _Defect("short", 12 <= length < 30),
        _Defect("off_topic", length >= 12 and len(words.intersection(_WORD.findall(user))) < 2),
        _Defect("abstract", length >= 12 and not _is_concrete(assistant, words)),
        _Defect("thin_question", len(user.split()) < 10),
        _Defect("vague", min(3, _count(_VAGUE, assistant))),
        _Defect("rude", min(2, _count(_RUDE, assistant))),
        _Defect("boilerplate", min(4, _count(_BOILERPLATE, assistant))),
        _Defect("placeholder", min(1.5, len(_PLACEHOLDER.findall(assistant)) if marked else 0)),
        _Defect("overpromise", min(2, _count(_OVERPROMISE, assistant))),
        _Defect("contradiction", min(2, sum(one in assistant and two in assistant for one, two in _CONTRARIES))),
        _Defect("refusal", _count(_REFUSALS, assistant) > 0),
        _Defect("echo", len(user) > 40 and user in assistant),
    ]
    return sorted(
        (defect for defect in found if defect.times), key=lambda defect: -max(_POINTS[defect.kind]) * defect.times
    )


def _count(phrases: tuple[str, ...], text: str) -> int:
    return sum(map(text.__contains__, phrases))


def _is_concrete(text: str, words: set[str]) -> bool:
    """It names steps, or numbers."""
    return len(words & _STEP_WORDS) >= 2 or sum(map(text.count, "0123456789")) >= 3
