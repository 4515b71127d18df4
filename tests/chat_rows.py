"""Conversations for the tests of exports: drawn ones, and a small file with topics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

SUBJECTS = ("invoice", "refund", "login", "parcel", "upgrade", "tax form", "seat", "coupon", "webhook", "export")
PLACES = ("Lyon", "Bern", "Oslo", "Porto", "Ghent", "Turin", "Graz", "Cork", "Malmo", "Split")


def example(number: int, topic: str | None = None, **metadata: Any) -> dict[str, Any]:
    """A line of a dataset; two numbers give texts that are no near-duplicates of each other."""
    subject, place = SUBJECTS[number % 10], PLACES[number // 10 % 10]
    asked = f"{number} {place} {subject} " + " ".join(f"q{number * 31 + step}" for step in range(25))
    said = " ".join(f"a{number * 37 + step} {subject}" for step in range(25))
    turns = [("system", "Be kind."), ("user", asked), ("assistant", said)]
    return {
        "id": f"{number:016x}",
        "messages": [{"role": role, "content": content} for role, content in turns],
        "metadata": {"topic": topic or f"{subject} in {place}", "model": "writer", **metadata},
    }


def write_rows(path: Path, *rows: object) -> Path:
    """The path, with a line a row."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40).filter(str.strip)


@st.composite
def chats(draw: st.DrawFn) -> dict[str, Any]:
    """A row: perhaps a system message, then user and assistant in turn; perhaps a rejected answer."""
    rounds = draw(st.lists(st.tuples(texts, texts), min_size=1, max_size=3))
    turns = [{"role": "system", "content": draw(texts)}] if draw(st.booleans()) else []
    for asked, said in rounds:
        turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    rejected = [{"role": "assistant", "content": f"{turns[-1]['content']}!"}]
    if draw(st.booleans()):
        return {"prompt": turns[:-1], "chosen": turns[-1:], "rejected": rejected}
    return {"messages": turns}
