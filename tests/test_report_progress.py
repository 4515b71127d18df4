"""What progress says, in the room that there is."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_async.report.metrics import Tally
from synth_async.report.progress import BarProgress, LineProgress, ObjectProgress, facts_of, fitted, left_s
from synth_async.report.recent import Recent
from synth_async.stages.forecast import Forecast, Range
from synth_async.stages.measured import RecentRate

REST = Forecast(1000, (), (), Range(1, 3), Range(90, 110), (), ())


@dataclass
class State:
    """A run in the middle."""

    tally: Tally = field(default_factory=lambda: Tally(accepted=400, prompt_tokens=900_000, cost_usd=1.5))
    target: int = 1000
    elapsed_s: float = 200.0
    in_flight: int = 32
    utilisation: Mapping[str, Mapping[str, float | None]] = field(
        default_factory=lambda: {"e": {"requests": 0.96, "tokens": 0.4}}
    )
    waiting_for: str = ""
    http_429: int = 3
    recent: RecentRate = field(default_factory=lambda: RecentRate(60.0, accepted=120))
    expected: Forecast | None = REST


def test_the_facts_come_in_the_order_in_which_they_matter() -> None:
    """Speed, pause, time left, dollars so far and in all, share of the limit, 429s; then the rest."""
    facts = facts_of(State(waiting_for="e asked for a pause, 4 s left"))
    assert facts == [
        "120/min", "e asked for a pause, 4 s left", "1:40 left", "$1.50 of $3.50", "96% of rpm", "429: 3",
        "32 in flight", "900k tokens",
    ]  # fmt: skip


def test_nothing_is_said_that_is_not_known() -> None:
    """Without a price no dollars, without a limit no share, without a forecast the time by the last minute."""
    bare = State(Tally(accepted=400, cost_usd=None), utilisation={"e": {"requests": None}}, http_429=0, expected=None)
    assert facts_of(bare) == ["120/min", "5:00 left", "32 in flight", "0 tokens"]
    assert left_s(State(expected=None, recent=RecentRate(2.0, accepted=9))) is None


@given(st.lists(st.text(min_size=1, max_size=30)), st.integers(0, 100))
def test_what_has_no_room_is_left_out_from_the_end(facts: list[str], width: int) -> None:
    """The text is never wider than its room, and is a beginning of all facts."""
    text = fitted(facts, width)
    assert len(text) <= max(width, 1)
    assert text.rstrip("…") in ", ".join(facts) or not facts


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_bar_keeps_to_the_width_of_the_terminal(columns: int) -> None:
    """No line is wider, no colour is in it, and the count is always there; a wider terminal says more."""
    leader, follower = os.openpty()
    with os.fdopen(follower, "w", encoding="utf-8") as stream:
        _resize(follower, columns)
        bar = BarProgress(1000, stream)
        bar(State(waiting_for="e does not answer: HTTP 503: the server is overloaded or not ready yet"))
        bar(State())
        bar.close()
    shown = _rest_of(leader)
    lines = shown.replace("\n", "\r").split("\r")
    assert max(len(line) for line in lines) <= columns
    assert "\x1b[3" not in shown
    assert "400/1,000" in shown
    assert "1:40 left" in shown
    assert ("in flight" in shown) is (columns == 120)


def _rest_of(leader: int) -> str:
    """What was written on the other side, which is closed."""
    found = b""
    with suppress(OSError):
        while part := os.read(leader, 65536):
            found += part
    os.close(leader)
    return found.decode()


def _resize(descriptor: int, columns: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


def test_a_terminal_that_was_closed_is_left_alone() -> None:
    """Drawing on it raises nothing."""
    leader, follower = os.openpty()
    stream = os.fdopen(follower, "w", encoding="utf-8")
    bar = BarProgress(1000, stream)
    os.close(leader)
    bar(State())
    bar.note("a note")
    bar.close()
    with suppress(OSError):
        stream.close()


def test_lines_come_often_at_first_and_seldom_later() -> None:
    """Every ten seconds in the first minute, then every minute; at once where a wait begins."""
    said: list[str] = []
    lines = LineProgress(said.append)
    for second in range(301):
        lines(State(elapsed_s=float(second)))
    assert len(said) == 6 + 4
    assert said[0].startswith("400/1,000 accepted (40%), 120/min, 1:40 left, $1.50 of $3.50")
    lines(State(elapsed_s=302.0, waiting_for="e asked for a pause, 9 s left"))
    lines(State(elapsed_s=303.0, waiting_for="e asked for a pause, 8 s left"))
    assert len(said) == 11


def test_objects_hold_what_lines_say() -> None:
    """One object at the pace of the lines, with plain numbers; unknown is null."""
    told: list[Mapping[str, Any]] = []
    objects = ObjectProgress(told.append, lambda _: None)
    for second in (0.0, 10.0):
        objects(State(elapsed_s=second, expected=None, tally=Tally(accepted=400, cost_usd=None)))
    (found,) = told
    assert (found["accepted"], found["target"], found["per_minute"], found["left_s"]) == (400, 1000, 120.0, 300.0)
    assert found["cost_usd"] is found["cost_left_usd"] is None


def test_the_last_minute_forgets_what_was_before_it() -> None:
    """Counts of a fast start are gone a minute later; before that, the time since the start counts."""
    recent = Recent()
    assert recent.note(0.0, accepted=0, requests=0, http_429=0) == RecentRate(0.0, 0, 0, 0)
    assert recent.note(10.0, accepted=100, requests=300, http_429=2) == RecentRate(10.0, 100, 300, 2)
    found = [recent.note(float(second), accepted=90 + second, requests=300, http_429=2) for second in range(11, 131)]
    assert found[-1] == RecentRate(60.0, 60, 0, 0)
