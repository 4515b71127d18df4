"""How a server charges tokens, found out from headers and refusals."""

from __future__ import annotations

import random
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_async.endpoint.accounting import Charge, TokenAccounting
from synth_async.endpoint.headers import LimitWindow
from synth_async.endpoint.learning import Intake

_CHARGE = Charge(used=200, reserved=562)


def _window(remaining: float | None, limit: float = 600_000) -> LimitWindow:
    return LimitWindow(limit, remaining)


def test_what_is_configured_is_not_found_out() -> None:
    """Whatever the headers say."""
    actual, reserved = TokenAccounting("actual"), TokenAccounting("reserved")
    actual.note(_CHARGE, _window(600_000 - 562), 0)
    reserved.note(_CHARGE, _window(600_000 - 200), 0)
    assert actual.found == "actual"
    assert reserved.found == "reserved"


@pytest.mark.parametrize(
    ("fallen", "found"),
    [(562, "reserved"), (500, "reserved"), (200, "actual"), (50, "actual"), (0, None), (350, None), (90_000, None)],
)
def test_one_request_alone_tells_it(fallen: float, found: str | None) -> None:
    """What is missing after the first one is its charge; where it is neither, more is needed."""
    accounting = TokenAccounting("auto")
    assert TokenAccounting("auto").found is None
    accounting.note(_CHARGE, _window(600_000 - fallen), 1)
    assert accounting.found == found
    assert repr(accounting) == f"<TokenAccounting {found or 'unknown'}>"


def test_one_request_whose_two_charges_are_alike_tells_nothing() -> None:
    """An answer that is about as long as max_tokens fits both ways."""
    accounting = TokenAccounting("auto")
    accounting.note(Charge(used=500, reserved=562), _window(600_000 - 562), 1)
    assert accounting.found is None


def test_without_headers_it_is_by_use() -> None:
    """At the first answer; where what is left is not told, at the second."""
    without, untold = TokenAccounting("auto"), TokenAccounting("auto")
    without.note(_CHARGE, None, 0)
    assert without.found == "actual"
    untold.note(_CHARGE, _window(None), 0)
    assert untold.found is None
    untold.note(_CHARGE, _window(None), 1)
    assert untold.found == "actual"


Way = Literal["actual", "reserved"]


def _after_many(way: Way, *, refills: bool, others: float, seed: int, per_second: float = 30) -> TokenAccounting:
    """Answers from a server that others use as well, so that the first one tells nothing."""
    accounting, chance, limit = TokenAccounting("auto"), random.Random(seed), 1_000_000.0
    level = limit - others
    for number in range(600):
        now = number / per_second
        used = chance.uniform(100, 250)
        level -= used if way == "actual" else 562
        level = min(limit, level + (limit / 60 / per_second if refills else 0.0))
        accounting.note(Charge(used, 562), _window(max(0.0, level), limit), now)
        if accounting.found is not None:
            break
    return accounting


@pytest.mark.parametrize("refills", [True, False])
@pytest.mark.parametrize("way", ["actual", "reserved"])
@given(seed=st.integers(0, 10**6), others=st.floats(400_000, 600_000))
def test_many_requests_tell_it(way: Way, refills: bool, seed: int, others: float) -> None:  # noqa: FBT001 - a case
    """By what has fallen over a while, on servers that refill steadily and on those that count in windows."""
    assert _after_many(way, refills=refills, others=others, seed=seed).found == way


def test_a_window_that_begins_anew_is_not_mistaken() -> None:
    """What is left jumps up: the count begins with it."""
    accounting = TokenAccounting("auto")
    accounting.note(_CHARGE, _window(90_000, 100_000), 0)
    accounting.note(_CHARGE, _window(89_500, 100_000), 0.1)
    for number in range(2):
        accounting.note(_CHARGE, _window(89_000 - 562 * number, 100_000), 0.2)
    accounting.note(_CHARGE, _window(99_438, 100_000), 0.21)
    assert accounting.found is None
    for number in range(1, 5):
        accounting.note(_CHARGE, _window(99_438 - 562 * number, 100_000), 0.21)
    assert accounting.found == "reserved"


def test_next_to_nothing_sent_tells_nothing() -> None:
    """A budget that is full again before the next request hides what the last one took; what is dense tells it."""
    accounting, limit = TokenAccounting("auto"), 10_000.0
    accounting.note(_CHARGE, _window(9_000, limit), 0)
    for number in range(1, 10):
        accounting.note(_CHARGE, _window(limit - 400, limit), 30 * number)
    assert accounting.found is None
    for number in range(1, 5):
        accounting.note(_CHARGE, _window(limit - 400 - 562 * number, limit), 270 + 0.01 * number)
    assert accounting.found == "reserved"


def test_a_budget_that_stays_full_is_charged_by_use() -> None:
    """Reservations beyond the refill would have shown."""
    accounting = TokenAccounting("auto")
    for number in range(40):
        accounting.note(_CHARGE, _window(100_000, 100_000), number * 0.01)
    assert accounting.found == "actual"


def test_figures_that_fit_neither_way_mean_use() -> None:
    """They come from a limit of another kind; refusals will tell."""
    accounting = TokenAccounting("auto")
    for number in range(40):
        accounting.note(_CHARGE, _window(500_000 - 5_000 * number, 600_000), number * 0.01)
    assert accounting.found == "actual"


# --- told by refusals ----------------------------------------------------------------------------


def _unseen() -> TokenAccounting:
    """What is thought after an answer without headers: by use, 200 tokens where 562 are reserved."""
    accounting = TokenAccounting("auto")
    accounting.note(_CHARGE, None, 0)
    assert accounting.found == "actual"
    return accounting


@pytest.mark.parametrize(
    ("intake", "found"),
    [
        pytest.param(Intake(600_000 / 2.81, 400, 21, from_start=True), "reserved", id="window, reserved"),
        pytest.param(
            Intake(10_000 * 94 / 2.81, 400, 34, from_start=True),
            "reserved",
            id="bucket, reserved",
        ),
        pytest.param(Intake(10_000 * 6 / 2.81, 400, 6, from_start=False), "reserved", id="refill, reserved"),
        pytest.param(Intake(500_000, 400, 50, from_start=True), "actual", id="window, used, told too high"),
        pytest.param(Intake(8_333 * 360, 400, 300, from_start=True), "actual", id="bucket, used, told too high"),
        pytest.param(Intake(8_333 * 6, 400, 6, from_start=False), "actual", id="refill, used"),
        pytest.param(Intake(10_000 / 2.81, 15, 1, from_start=False), "actual", id="too little to tell"),
    ],
)
def test_a_refusal_that_reservations_explain_tells_how_tokens_are_charged(intake: Intake, found: str) -> None:
    """Where the limit cannot have been met by use, and reservations have just used it up; told once, and remembered."""
    accounting = _unseen()
    assert accounting.note_refused(intake, 10_000, None, 200) == (found == "reserved")
    assert accounting.found == found
    assert found == "actual" or not accounting.note_refused(intake, 10_000, None, 200)


@pytest.mark.parametrize(("named", "found"), [(562, "reserved"), (200, "actual"), (50, "actual"), (9_000, "actual")])
def test_a_refusal_that_names_the_amount_tells_it_at_once(named: float, found: str) -> None:
    """`Requested 562` is prompt + max_tokens; `Requested 50` is not."""
    accounting = _unseen()
    assert accounting.note_refused(None, 10_000, named, 200) == (found == "reserved")
    assert accounting.found == found


def test_a_refusal_does_not_overrule_what_is_certain() -> None:
    """What the config says, or what a request alone has shown, stays."""
    told, shown = TokenAccounting("actual"), TokenAccounting("auto")
    shown.note(_CHARGE, _window(600_000 - 200), 1)
    for accounting in (told, shown):
        assert not accounting.note_refused(None, 10_000, 562, 200)
        assert accounting.found == "actual"
