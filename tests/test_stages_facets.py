from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_config import small_config

from synth_async.stages.facets import FacetPlan, facet_lines

_names = st.text("abcdefgh", min_size=1, max_size=3)
_axis = st.one_of(
    st.lists(_names, min_size=1, max_size=12, unique=True),
    st.dictionaries(_names, st.floats(min_value=0.02, max_value=50), min_size=1, max_size=8),
)


def _share_of(values: Any, value: str) -> float:
    weights = values if isinstance(values, dict) else dict.fromkeys(values, 1.0)
    return float(weights[value] / sum(weights.values()))


@given(facets=st.dictionaries(_names, _axis, min_size=1, max_size=4), seed=st.integers(0, 1000))
def test_every_count_stays_within_one_of_its_share(facets: dict[str, Any], seed: int) -> None:
    """At every prefix of 100 draws each value's count is within 1 of its share, on every axis, for any weights."""
    plan = FacetPlan(small_config(facets=facets, seed=seed))
    counts: dict[str, Counter[str]] = {axis: Counter() for axis in facets}
    for number in range(1, 101):
        drawn = plan.draw()
        assert list(drawn) == list(facets)
        for axis, values in facets.items():
            counts[axis][drawn[axis]] += 1
            for value in values:
                assert abs(counts[axis][value] - number * _share_of(values, value)) <= 1 + 1e-6


@given(facets=st.dictionaries(_names, _axis, min_size=1, max_size=3), before=st.integers(0, 60))
@settings(max_examples=20)
def test_a_restored_plan_goes_on_as_if_never_stopped(facets: dict[str, Any], before: int) -> None:
    """Counts restored from the tasks give the draws that would have come next."""
    config = small_config(facets=facets)
    plan, resumed = FacetPlan(config), FacetPlan(config)
    for _ in range(before):
        resumed.note(plan.draw())
    assert [plan.draw() for _ in range(10)] == [resumed.draw() for _ in range(10)]


@pytest.mark.parametrize(
    "facets",
    [
        {"a": {"x": 3, "y": 1}, "b": {"u": 3, "v": 1}},
        {"a": list("abcdef"), "b": list("wxyz"), "c": {"k": 2, "l": 1}},
        {"a": list("abc"), "b": list("def"), "c": list("ghi"), "d": {"k": 5, "l": 2, "m": 1}},
    ],
)
def test_pairs_of_values_are_covered_evenly(facets: dict[str, Any]) -> None:
    """After 1,600 draws each pair of values of two axes has come within 3 of its share; by chance it would be 30."""
    plan = FacetPlan(small_config(facets=facets))
    draws = [plan.draw() for _ in range(1600)]
    for one, other in itertools.combinations(facets, 2):
        pairs = Counter((drawn[one], drawn[other]) for drawn in draws)
        for first, second in itertools.product(facets[one], facets[other]):
            expected = 1600 * _share_of(facets[one], first) * _share_of(facets[other], second)
            assert abs(pairs[first, second] - expected) <= 3


def test_other_weights_than_the_restored_ones_are_caught_up_with() -> None:
    """Counts that earlier weights made are drawn even again; no draw fails on the way."""
    plan = FacetPlan(small_config(facets={"tone": {"calm": 1, "angry": 9}}))
    for _ in range(50):
        plan.note({"tone": "calm", "gone": "x"})
    drawn = Counter(plan.draw()["tone"] for _ in range(450))
    assert drawn == {"angry": 450}


def test_without_facets_nothing_is_drawn() -> None:
    """`facets: {}` turns them off."""
    assert FacetPlan(small_config(facets={})).draw() == {}


_LENGTHS = {
    "channel": ["chat", "email"],
    "length": {
        "values": {"short": 1, "long": 1},
        "when": [
            {"given": {"channel": "chat"}, "values": {"short": 9, "long": 1}},
            {"given": {"category": "legal"}, "values": ["long"]},
        ],
    },
}


def test_conditional_weights_hold_where_their_condition_does() -> None:
    """The first rule that fits decides; where none fits, the facet's own weights do; each is balanced by itself."""
    plan = FacetPlan(small_config(facets=_LENGTHS))
    counts = Counter(tuple(plan.draw(category).values()) for category in ("legal", None) * 100)
    assert counts["chat", "short"] == pytest.approx(90, abs=1)
    assert counts["chat", "long"] == pytest.approx(10, abs=1)
    assert counts["email", "short"] == pytest.approx(counts["email", "long"] - counts["email", "short"], abs=60)
    only_legal = FacetPlan(small_config(facets=_LENGTHS))
    drawn = [only_legal.draw("legal") for _ in range(40)]
    assert {each["length"] for each in drawn if each["channel"] == "email"} == {"long"}


@given(wanted=st.sets(st.sampled_from("abcdef"), max_size=6))
def test_only_wanted_values_are_drawn(wanted: set[str]) -> None:
    """Values that have had their share are left out; where none is wanted all are drawn as ever."""
    plan = FacetPlan(small_config(facets={"tone": list("abcdef"), "free": ["x", "y"]}))
    counts = Counter(plan.draw(None, {"tone": wanted})["tone"] for _ in range(60))
    assert set(counts) == (wanted or set("abcdef"))
    if wanted:
        assert max(counts.values()) - min(counts.values()) <= 60 // len(wanted)


def test_a_facet_says_itself_in_the_prompt() -> None:
    """By its own template where it has one, else by its name and value; a facet of earlier days keeps its value."""
    facets = {"tone": ["calm"], "reply_length": {"values": ["brief"], "prompt": "Answer {{ value }}ly on {{ topic }}."}}
    lines = facet_lines(
        small_config(facets=facets),
        {"tone": "calm", "reply_length": "brief", "gone_axis": "x"},
        topic="refunds",
        category=None,
    )
    assert lines == ["Tone: calm", "Answer briefly on refunds.", "Gone axis: x"]
