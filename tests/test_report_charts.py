from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_async.report.charts import bins_of, paths, percent, round_ticks, short_number, time_ticks


@given(st.lists(st.integers(0, 20_000), min_size=1, max_size=300))
def test_a_histogram_counts_every_value_once(values: list[int]) -> None:
    """At most 32 bins of one width side by side, from the least value to the greatest, with all of them in it."""
    bins = bins_of(Counter(values))
    assert len(bins) <= 32
    assert sum(each.count for each in bins) == len(values)
    assert (bins[0].low, bins[-1].high) == (min(values), max(values))
    for each in bins:
        assert each.count == sum(each.low <= value <= each.high for value in values)
        assert 0 <= each.x <= each.x + each.width <= 100.001
    assert max(each.height for each in bins) == 100
    assert [later.low - earlier.high for earlier, later in pairwise(bins)] == [1] * (len(bins) - 1)


@given(st.floats(0, 1e6), st.floats(0.01, 1e7))
def test_instants_are_few_in_order_and_on_the_axis(start_s: float, span_s: float) -> None:
    """At most six, each with a label of its own."""
    ticks = time_ticks(start_s, start_s + span_s)
    assert len(ticks) <= 6
    assert [tick.at for tick in ticks] == sorted(tick.at for tick in ticks)
    assert all(0 <= tick.at <= 100 for tick in ticks)
    assert len({tick.label for tick in ticks}) == len(ticks)


@given(st.floats(1e-300, 1e300))
def test_ticks_are_round_and_below_the_highest(highest: float) -> None:
    """From 0 in equal steps of 1, 2 or 5 times a power of ten."""
    ticks = round_ticks(highest)
    assert ticks[0] == 0
    assert 2 <= len(ticks) <= 8
    assert ticks[-1] <= highest * (1 + 1e-6)
    assert re.match(r"[125]e|1\.0*e|2\.0*e|5\.0*e", f"{ticks[1]:.6e}")


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0"), (7.25, "7.25"), (999, "999"), (999.6, "1k"), (1234, "1.23k"), (999_900, "1M"), (2.5e9, "2.5B")],
)
def test_a_short_number_has_three_digits(number: float, said: str) -> None:
    """And the next unit where it would need a fourth."""
    assert short_number(number) == said


@pytest.mark.parametrize(("part", "whole", "found"), [(1, 3, 33.33), (0, 0, 0.0), (5, 4, 100.0), (-1, 4, 0.0)])
def test_per_cent_stay_on_the_chart(part: float, whole: float, found: float) -> None:
    """Of nothing it is nothing; beyond the whole it is the whole."""
    assert percent(part, whole) == found


def test_paths_are_drawn_from_the_floor_up() -> None:
    """100 per cent of the height is the top of the box; an area ends on the floor; an empty line is none."""
    line, area = paths([[(0, 0), (50, 100)], [], [(100, 50)]])
    assert line == "M0 100L500 0M1000 50"
    assert area == "M0 100L0 100L500 0L500 100ZM1000 100L1000 50L1000 100Z"
