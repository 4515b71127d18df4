"""Cheap named rules before the judge is paid. The first one that an example breaches drops it, counted under its name.

A rule looks at an example alone and says in a few words what it found. The order is fixed, cheapest first, so that most
bad examples cost next to nothing, and the same example is always counted under the same name. Bounds are inclusive.
"""

from __future__ import annotations

from synth_async.stages.filters.leakage import prompt_texts
from synth_async.stages.filters.pii import build_redaction, marks_in
from synth_async.stages.filters.rules import NamedFilter, build_filters, first_breach

__all__ = ["NamedFilter", "build_filters", "build_redaction", "first_breach", "marks_in", "prompt_texts"]
