"""What several rules need: an exchange at a time, and a finding in few words."""

from __future__ import annotations

from collections.abc import Iterator

from synth_async.records import Example

__all__ = ["exchanges", "quoted"]


def exchanges(example: Example) -> Iterator[tuple[str, str]]:
    """Each user turn with the assistant turn that follows it."""
    question = ""
    for message in example.messages:
        if message["role"] == "user":
            question = message["content"]
        elif message["role"] == "assistant":
            yield question, message["content"]


def quoted(found: str) -> str:
    """What was found, on one line and at most 40 characters of it."""
    shown = " ".join(found.split())
    return f'"{shown[:40]}…"' if len(shown) > 40 else f'"{shown}"'
