from __future__ import annotations

from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_async.report.speed import panels_of, thinned
from synth_async.report.timeline import MOST_POINTS, WHOLE_RUN, Timeline

_ACCEPTED = (WHOLE_RUN, "accepted")
_REQUESTS = ("main", "requests")

_TICKS = st.lists(st.tuples(st.floats(0.01, 400.0), st.integers(0, 50)), min_size=1, max_size=1500)


def _noted(
    ticks: list[tuple[float, int]], timeline: Timeline | None = None, at_s: float = 0.0
) -> tuple[Timeline, int, float]:
    """A timeline with these (seconds, accepted) noted one after the other, what was accepted, and when it ended."""
    timeline = Timeline() if timeline is None else timeline
    accepted = 0
    timeline.begin(at_s, {_ACCEPTED: 0})
    for seconds, count in ticks:
        at_s, accepted = at_s + seconds, accepted + count
        timeline.note(at_s, {_ACCEPTED: accepted})
    return timeline, accepted, at_s


@given(_TICKS)
def test_every_sum_is_kept_however_long_the_run(ticks: list[tuple[float, int]]) -> None:
    """Points are bounded, follow one another without a gap, and add up to all that was counted in all the time."""
    timeline, accepted, end_s = _noted(ticks)
    assert len(timeline.points) <= MOST_POINTS
    assert timeline.total(_ACCEPTED) == accepted
    assert sum(point.span_s for point in timeline.points) == pytest.approx(end_s)
    for earlier, later in pairwise(timeline.points):
        assert later.start_s == pytest.approx(earlier.end_s)


@given(_TICKS)
def test_a_resumed_run_goes_on_where_the_file_ended(ticks: list[tuple[float, int]]) -> None:
    """What is read back from the file has the same sums, and the next process adds to them, from its own zero."""
    timeline, accepted, end_s = _noted(ticks)
    found = orjson.loads(orjson.dumps(timeline.as_json()))
    restored = Timeline.from_json(found, until_s=end_s)
    assert restored.as_json() == timeline.as_json()
    again, more, later_s = _noted([(1.5, 3), (2.0, 4)], restored, end_s + 1)
    assert again.total(_ACCEPTED) == accepted + more == accepted + 7
    assert again.starts_s == [0.0, round(end_s + 1, 3)]
    assert again.points[-1].end_s == later_s


def test_a_week_is_a_few_hundred_points() -> None:
    """A tick a second for seven days: half an hour a point, and the file stays small."""
    timeline = Timeline()
    timeline.begin(0.0, {})
    for second in range(1, 7 * 86_400 + 1):
        timeline.note(float(second), {_ACCEPTED: second, _REQUESTS: 2 * second})
    assert MOST_POINTS / 2 < len(timeline.points) <= MOST_POINTS
    assert timeline.step_s == 2048
    assert len(orjson.dumps(timeline.as_json())) < 16_000
    assert timeline.total(_REQUESTS) == 2 * 7 * 86_400


def test_what_an_earlier_process_counted_is_not_counted_again() -> None:
    """The accepted of the whole run are told from the start; only what is more than at the begin is new."""
    timeline = Timeline()
    timeline.begin(60.0, {_ACCEPTED: 500})
    timeline.note(61.0, {_ACCEPTED: 503, _REQUESTS: 9})
    timeline.note(62.0, {_ACCEPTED: 501, _REQUESTS: 9})
    assert (timeline.total(_ACCEPTED), timeline.total(_REQUESTS)) == (3, 9)
    assert timeline.points[0].start_s == 60.0


_WHOLE = _noted([(1.0, 2), (1.0, 3)])[0].as_json()


@pytest.mark.parametrize(
    "found",
    [
        None,
        {},
        {"format": 99},
        _WHOLE | {"span_s": [1]},
        _WHOLE | {"series": None},
        _WHOLE | {"series": [{"endpoint": "", "unit": "accepted", "counts": ["x", "y"]}]},
        _WHOLE | {"limits_per_minute": {"main": 3}},
        _WHOLE | {"end_s": [5000.0, 6000.0]},
    ],
)
def test_a_file_that_cannot_be_read_or_is_of_a_longer_run_begins_anew(found: dict[str, Any] | None) -> None:
    """Nothing of it is taken, and nothing fails: the counts of the run do not come from there."""
    assert Timeline.from_json(found, until_s=10.0).points == []
    assert Timeline.from_json(_WHOLE, until_s=10.0).total(_ACCEPTED) == 5


def test_a_chart_shows_rates_limits_refusals_and_pauses() -> None:
    """Units a minute of each point; the limit where it is near; a 429 and a pause where they were."""
    timeline = Timeline(limits={"main": {"requests": 600.0, "tokens": 1e9}})
    timeline.begin(0.0, {})
    for second, refused in ((1, 0), (2, 1), (3, 1)):
        counts = {"requests": 10 * second, "tokens": 100 * second, "http_429": refused, "paused_s": refused * 0.5}
        totals = {("main", unit): float(count) for unit, count in counts.items()}
        timeline.note(float(second), totals)
    accepted, requests, tokens = panels_of(timeline)
    assert (accepted.peak, accepted.limit) == (0.0, None)
    assert [rate for _, _, rate in requests.readings] == [600.0, 600.0, 600.0]
    assert requests.limit == 600.0
    assert requests.limit_at == pytest.approx(100 / 1.08, abs=0.01)
    assert (tokens.limit, tokens.limit_at) == (1e9, None)
    assert [(round(mark.x), mark.count) for mark in requests.refused] == [(33, 1)]
    assert (requests.http_429, requests.paused_s, len(requests.paused)) == (1, 0.5, 1)
    assert panels_of(Timeline()) == []


def test_a_line_breaks_where_nothing_ran() -> None:
    """Points that are minutes apart are not joined."""
    timeline, _, _ = _noted([(1.0, 1), (1.0, 1)])
    timeline, _, _ = _noted([(1.0, 1), (1.0, 1)], timeline, 300.0)
    assert panels_of(timeline)[0].line.count("M") == 2


@given(_TICKS)
def test_thinned_points_keep_every_sum(ticks: list[tuple[float, int]]) -> None:
    """What is drawn adds up to what was noted, in at most 160 points, and the timeline stays as it is."""
    timeline, accepted, _ = _noted(ticks)
    before = orjson.dumps(timeline.as_json())
    drawn = thinned(timeline.points)
    assert len(drawn) <= 160
    assert sum(point.counts.get(_ACCEPTED, 0) for point in drawn) == accepted
    assert orjson.dumps(timeline.as_json()) == before
