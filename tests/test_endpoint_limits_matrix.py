"""How much of a limit is used and how little is refused, against servers of every kind, in virtual time.

The servers are those of `benchmarks/limits.py`, over shorter spans; the bounds are what a run may count on.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.limits import Result, Scenario, matrix, simulate

_KINDS = ["bucket", "fixed", "sliding"]
_TOLD = Scenario("told", rpm=1_200.0, tpm=None)
"""Twenty requests a second; with tokens, 300,000 a minute bind before them when they are reserved, 200,000 by use."""


def _tokens(charges: str) -> Scenario:
    return replace(_TOLD, tpm=300_000.0 if charges == "reserved" else 200_000.0, charges=charges)


def _run(one: Scenario, seconds: float, steady_from: float) -> Result:
    """The result of a scenario over so many virtual seconds; no task may be given up in any."""
    result = simulate(one, seconds, steady_from)
    assert result.lost == 0
    return result


# --- told limits ---------------------------------------------------------------------------------


@pytest.mark.parametrize("charges", ["", "reserved", "actual"])
@pytest.mark.parametrize("kind", _KINDS)
def test_a_told_limit_is_used_and_not_passed(kind: str, charges: str) -> None:
    """At least 98.5 % of it, in the unit that is charged, and less than 0.2 % are refused; from the start on."""
    one = _tokens(charges) if charges else _TOLD
    result = _run(replace(one, kind=kind), 60, 20)
    assert 0.985 <= result.used <= 1.0
    assert result.refused < 0.002
    assert result.ramp_s is not None
    assert result.ramp_s <= 5


@pytest.mark.parametrize("charges", ["reserved", "actual"])
def test_headers_are_not_needed_where_limits_are_told(charges: str) -> None:
    """A server that charges max_tokens without saying so is found out by its first refusals, and used as any other."""
    result = _run(replace(_tokens(charges), headers=False), 120, 60)
    assert 0.985 <= result.used <= 1.0
    assert result.refused < 0.002
    assert result.attempts < 1.03


@pytest.mark.parametrize("kind", ["bucket", "fixed"])
def test_a_request_limit_per_second_is_used(kind: str) -> None:
    """At least 95 % of it, with half a per cent of refusals at most."""
    result = _run(replace(_TOLD, kind=kind, period_s=1.0, rpm=3_000.0, headers=False), 30, 10)
    assert 0.95 <= result.used <= 1.0
    assert result.refused <= 0.005


@pytest.mark.slow
@pytest.mark.parametrize("charges", ["reserved", "actual"])
@pytest.mark.parametrize("kind", ["bucket", "fixed"])
def test_a_token_limit_per_second_is_used(kind: str, charges: str) -> None:
    """At least 90 % of it, with 0.4 % of refusals at most: a second holds few requests. A bucket gives 98.5 %."""
    one = Scenario("per second", kind, 1.0, charges=charges, headers=False)
    result = _run(one, 300, 120)
    assert (0.985 if kind == "bucket" else 0.9) <= result.used <= 1.0
    assert result.refused <= 0.004


def test_a_slow_server_is_used_as_well() -> None:
    """Eight seconds for an answer need eight times as many in flight, and nothing else."""
    result = _run(replace(_TOLD, latency_s=8.0), 60, 20)
    assert result.used >= 0.985
    assert result.refused < 0.002


def test_refusals_that_count_are_no_spiral() -> None:
    """A server that charges what it refuses, too, gives us all of its limit."""
    result = _run(replace(_TOLD, counts_rejected=True, kind="sliding"), 70, 20)
    assert result.used >= 0.985
    assert result.refused < 0.002


# --- told wrongly --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "one",
    [
        pytest.param(replace(_TOLD, rpm=600.0, period_s=5.0), id="bucket 5 s"),
        pytest.param(replace(_TOLD, kind="sliding"), id="sliding", marks=pytest.mark.slow),
        pytest.param(replace(_TOLD, kind="fixed"), id="fixed", marks=pytest.mark.slow),
        pytest.param(replace(_tokens("actual"), period_s=5.0), id="tokens, bucket 5 s", marks=pytest.mark.slow),
    ],
)
def test_a_limit_declared_too_high_is_found(one: Scenario) -> None:
    """By 20 %: the rate converges, less than one per cent is refused, and most of the limit is used."""
    result = _run(replace(one, declared=1.2, headers=False), 420, 180)
    assert 0.93 <= result.used <= 1.02
    assert 0 < result.refused < 0.01
    assert result.attempts < 1.1


# --- not told ------------------------------------------------------------------------------------


@pytest.mark.parametrize("charges", ["", "reserved", "actual"])
def test_limits_in_headers_are_enough(charges: str) -> None:
    """At least 95 % of a limit that nobody declared, and next to no refusals."""
    one = _tokens(charges) if charges else _TOLD
    result = _run(replace(one, declared=None), 60, 30)
    assert 0.95 <= result.used <= 1.0
    assert result.refused < 0.002


@pytest.mark.parametrize(
    ("kind", "hint", "least"),
    [
        ("bucket", 1.0, 0.85),
        ("fixed", 1.0, 0.85),
        ("sliding", 1.0, 0.85),
        pytest.param("bucket", None, 0.85, marks=pytest.mark.slow),
        pytest.param("fixed", None, 0.85, marks=pytest.mark.slow),
        pytest.param("sliding", None, 0.75, marks=pytest.mark.slow),
    ],
)
def test_limits_that_nobody_tells_are_found(kind: str, hint: float | None, least: float) -> None:
    """At least 85 % of them (75 % of a sliding window without hints), and at most 1.3 requests for an answer."""
    one = replace(_TOLD, kind=kind, rpm=600.0, declared=None, headers=False, hint=hint)
    result = _run(one, 300, 120)
    assert result.used >= least
    assert result.attempts <= 1.3


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 2.0])
def test_a_limit_that_changes_is_found_again(share: float) -> None:
    """Where nobody tells it: five minutes later at least 85 % of the new one is used, and few requests are refused."""
    one = replace(_TOLD, rpm=600.0, declared=None, headers=False, changes=(120.0, share))
    result = _run(one, 600, 420)
    assert 0.85 <= result.used <= 1.05
    assert result.refused < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("charges", ["reserved", "actual"])
def test_token_limits_that_nobody_tells_are_found(charges: str) -> None:
    """By requests as well as by tokens: at least 85 %, and at most 1.3 requests for an answer."""
    result = _run(replace(_tokens(charges), declared=None, headers=False), 300, 60)
    assert result.used >= 0.85
    assert result.attempts <= 1.3


@pytest.mark.slow
def test_a_small_limit_of_a_slow_server_is_found() -> None:
    """Slots are no limit where a refusal has told a rate: eight seconds for an answer change nothing."""
    result = _run(replace(_TOLD, rpm=600.0, latency_s=8.0, declared=None, headers=False), 300, 120)
    assert result.used >= 0.85
    assert result.attempts <= 1.3


@pytest.mark.slow
@pytest.mark.parametrize("name", [one.name for one in matrix() if one.name.startswith("300 RPM")])
def test_a_small_limit_with_wrong_hints_neither_stalls_nor_storms(name: str) -> None:
    """Hints that are missing, a hundred times too short or too long: 70 % are used, at most 1.05 requests an answer."""
    one = next(one for one in matrix() if one.name == name)
    result = _run(one, 600, 120)
    assert result.used >= 0.7
    assert result.attempts <= 1.05


def test_an_endpoint_without_limits_is_filled() -> None:
    """All of its slots are in use."""
    result = _run(Scenario("none", rpm=None, tpm=None, declared=None, headers=False, max_in_flight=64), 30, 10)
    assert result.used >= 0.9
    assert result.attempts < 1.1


def test_slots_that_nobody_tells_are_found() -> None:
    """32 slots, refusals above: most are in use, few requests are refused."""
    one = Scenario("slots", rpm=None, tpm=None, declared=None, headers=False, slots=32, max_in_flight=256)
    result = _run(one, 90, 30)
    assert result.used >= 0.85
    assert result.refused <= 0.02


# --- away ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("declared", [1.0, None])
def test_an_endpoint_that_is_away_for_half_a_minute_costs_nothing(declared: float | None) -> None:
    """No task is given up, less than 1.2 requests an answer, and the limit is used again afterwards."""
    result = _run(replace(_TOLD, away=(40.0, 70.0), declared=declared), 120, 90)
    assert result.attempts < 1.2
    assert result.used >= 0.98


# --- refused at random ---------------------------------------------------------------------------


@pytest.mark.parametrize(("strays", "hint", "least"), [(0.01, 0.2, 0.9), (0.01, None, 0.8), (0.002, 1.0, 0.9)])
def test_refusals_at_any_rate_do_not_take_the_limit_down(strays: float, hint: float | None, least: float) -> None:
    """A told limit stays in use where one request in a hundred or in five hundred is refused whatever the rate."""
    one = replace(_TOLD, headers=False, strays=strays, hint=hint)
    assert _run(one, 400, 200).used >= least
