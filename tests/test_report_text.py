from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from synth_async.report.facts import BoundedCounter, LengthHistogram, RunReport
from synth_async.report.follow import Follower
from synth_async.report.text import report_text


def line(topic: str = "refund", **more: Any) -> dict[str, Any]:
    """A dataset line."""
    origin = {"topic": topic, "category": None, "facets": {"tone": "calm"}, "sample": 0, "model": "m"}
    messages = [{"role": "user", "content": "one two three"}, {"role": "assistant", "content": "four five"}]
    return {"id": "0", "messages": messages, "metadata": origin | more}


def write(path: Path, *lines: dict[str, Any], tail: str = "") -> Path:
    """The path of a JSONL file that ends with `tail`."""
    path.write_text("".join(json.dumps(each) + "\n" for each in lines) + tail)
    return path


def read_report(dataset: Path, rejects: Path) -> RunReport:
    """What both files add up to."""
    follower = Follower(dataset, rejects)
    follower.read_on()
    return follower.report


@given(st.lists(st.integers(0, 300), min_size=1, max_size=60))
def test_quantiles_are_those_of_the_sorted_lengths(lengths: list[int]) -> None:
    """Least, median (the lower of two) and greatest are exact."""
    histogram = LengthHistogram()
    for length in lengths:
        histogram.add(length)
    found = histogram.as_json()
    assert found["min"] == min(lengths)
    assert found["max"] == max(lengths)
    assert found["median"] == statistics.median_low(lengths)


@given(st.lists(st.sampled_from("abcdefgh"), max_size=80))
def test_a_bounded_counter_never_counts_too_much_nor_grows(values: list[str]) -> None:
    """At most its capacity of values; exact while it says so; a lower bound after."""
    counter = BoundedCounter(4)
    for value in values:
        counter.add(value)
        assert len(counter.counts) <= 4
    for value, count in counter.counts.items():
        assert count == values.count(value) if counter.is_exact else count <= values.count(value)


def test_the_torn_last_line_of_a_running_run_is_left_out(tmp_path: Path) -> None:
    """A line without its line feed is not counted, nor told as unreadable; a broken line within is told."""
    dataset = write(tmp_path / "d.jsonl", line(scores={"help": 5}), line(scores={"help": 4}), tail='{"id": "2", "mess')
    report = read_report(dataset, tmp_path / "none.jsonl")
    assert (report.accepted, report.unreadable) == (2, 0)
    assert report.as_json()["scores"]["help"] == {"mean": 4.5, "histogram": {"1": 0, "2": 0, "3": 0, "4": 1, "5": 1}}
    dataset.write_text("not json\n" + dataset.read_text())
    assert read_report(dataset, tmp_path / "none.jsonl").unreadable == 1


def test_rejections_are_counted_by_stage_and_reason_with_one_sample(tmp_path: Path) -> None:
    """The sample is the first one's detail and question; lengths and topics are of accepted lines only."""
    drop = {"stage": "judge", "reason": "low_score", "detail": "2 < 4"}
    rejects = write(tmp_path / "r.jsonl", line() | drop, line() | drop | {"detail": "3 < 4"})
    found = read_report(write(tmp_path / "d.jsonl", line("a"), line("b"), line("a")), rejects)
    assert found.as_json()["rejected"] == [
        {"stage": "judge", "reason": "low_score", "count": 2, "sample": "2 < 4 | one two three"}
    ]
    assert found.as_json()["topics"] == {"different": 2, "top": {"a": 2, "b": 1}}
    assert found.as_json()["user_words"] == {"min": 3, "median": 3, "p90": 3, "max": 3}
    text = report_text(found, None, name="r")
    assert "low_score" in text
    assert "3 examples accepted" in text


def test_nothing_yet_is_a_report_too(tmp_path: Path) -> None:
    """Without a line and without metrics there is a text, and no division by nothing."""
    report = read_report(tmp_path / "d.jsonl", tmp_path / "r.jsonl")
    assert "0 examples accepted" in report_text(report, None, name="r")
