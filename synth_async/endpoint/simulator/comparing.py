"""The embedded judge's word on two replies: by the defects that it sees in each, and with a liking for the first.

Where it sees next to no difference it says tie, or takes the one that it was shown first, as judges do.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from synth_async.endpoint.simulator.further_prompts import ComparisonPrompt
from synth_async.endpoint.simulator.scoring import points_off

__all__ = ["choice_between"]

_NOTICED = 1.0
"""Points, over all aspects, that make a difference which is seen in any order."""

_FIRST_OF_256 = 128
"""Of near equals about half go to the one that is shown first."""


def choice_between(prompt: ComparisonPrompt) -> dict[str, Any]:
    """`{"winner", "reason"}`."""
    one, two = (points_off(prompt.user, reply) for reply in prompt.replies)
    if abs(one - two) >= _NOTICED:
        return {"winner": "a" if one < two else "b", "reason": "it has fewer faults that can be seen"}
    draw = blake2b("\0".join(sorted(prompt.replies)).encode("utf-8", "replace"), digest_size=1).digest()[0]
    if draw < _FIRST_OF_256:
        return {"winner": "a", "reason": "about as good, and it comes to the point"}
    return {"winner": "tie", "reason": "about as good"}
