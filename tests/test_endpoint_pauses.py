"""Pauses, with an explicit clock: who ends one, how far hints are believed, when single requests try."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_async.endpoint.pauses import Pauses


def test_an_answer_to_an_earlier_request_does_not_end_a_trial() -> None:
    """Requests sent before the pause began say nothing of its end: only the trial's own answer opens it for all."""
    pauses = Pauses()
    pauses.note_refused(number=3, sent=10, hint_s=7_200, now=0)
    pauses.note_answered(number=9, now=1)
    assert pauses.left_s(1) == 7_199
    pauses.note_sent(65)
    pauses.note_answered(number=8, now=66)
    pauses.note_over(8)
    assert pauses.left_s(66) == 7_134
    assert pauses.wait_s(66) == 4
    pauses.note_answered(number=10, now=67)
    pauses.note_over(10)
    assert pauses.wait_s(67) == pauses.left_s(67) == 0
    assert not pauses.is_trial


def test_a_trial_that_hangs_is_joined_by_another() -> None:
    """Five seconds later, one more; and at once when the first is over without an answer."""
    pauses = Pauses()
    pauses.note_refused(0, 1, 7_200, 0)
    assert pauses.wait_s(0) == 65
    pauses.note_sent(65)
    assert pauses.wait_s(66) == 4
    assert pauses.wait_s(70) == 0
    pauses.note_sent(70)
    assert pauses.wait_s(71) == 4
    pauses.note_over(1)
    assert pauses.wait_s(71) == 0


def test_a_hint_that_was_too_long_halves_the_trust_in_the_next() -> None:
    """Down to two seconds; one that holds doubles it again."""
    pauses, now, waits = Pauses(), 0.0, []
    for number in range(0, 14, 2):
        pauses.note_refused(number + 1, number + 2, 7_200, now)
        waits.append(pauses.wait_s(now))
        now += waits[-1]
        pauses.note_sent(now)
        pauses.note_answered(number + 2, now)
    assert waits == [65, 32.5, 16.25, 8.125, 4.0625, 2.03125, 2]
    pauses.note_refused(21, 22, 7_200, now)
    for expected in (2, 4, 8):
        assert pauses.wait_s(now) == pytest.approx(expected)
        now += expected
        pauses.note_refused(pauses._sent_before, pauses._sent_before + 1, 7_200, now)  # noqa: SLF001 - the trial


def test_refusals_of_what_was_sent_before_a_pause_do_not_lengthen_the_guess() -> None:
    """However many come, and however late: a burst that is refused is one sign."""
    pauses = Pauses()
    pauses.note_refused(5, 50, None, 0)
    for number in range(6, 50):
        pauses.note_refused(number, 50, None, 0.4 + number / 100)
    assert pauses.wait_s(0.4) == pytest.approx(0.1)
    assert not pauses.is_news(49)


def test_a_server_that_takes_some_between_refusals_is_not_closed() -> None:
    """Guesses grow only where the very first request after a pause is refused as well."""
    taking, closed, now = Pauses(), Pauses(), 0.0
    for turn in range(1, 6):
        taking.note_refused(turn * 10, turn * 10 + 5, None, now)
        closed.note_refused(turn, turn + 1, None, now)
        now = 100.0 * turn
    assert taking.wait_s(400) == pytest.approx(0.5)
    assert closed.wait_s(400) == pytest.approx(8)
    assert closed.is_trial


_REFUSALS = st.lists(
    st.tuples(st.booleans(), st.one_of(st.none(), st.floats(0.001, 1e5)), st.floats(0, 100)), max_size=40
)


@given(_REFUSALS)
def test_nobody_waits_longer_than_asked_or_half_an_hour(events: list[tuple[bool, float | None, float]]) -> None:
    """Whatever comes in whatever order, a request can go out after at most 30 minutes, and pauses add up."""
    pauses, now, waited = Pauses(), 0.0, 0.0
    for number, (is_answer, hint_s, elapsed_s) in enumerate(events):
        now += max(elapsed_s, pauses.wait_s(now))
        pauses.note_sent(now)
        if is_answer:
            pauses.note_answered(number, now)
            assert pauses.wait_s(now) == 0
        else:
            pauses.note_refused(number, number + 1, hint_s, now)
            waited += pauses._resume_at - now  # noqa: SLF001 - what is added up
        pauses.note_over(number)
        assert pauses.wait_s(now) <= 1_800
        assert pauses.total_s == pytest.approx(waited)
