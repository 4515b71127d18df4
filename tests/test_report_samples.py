from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_lines import accepted_line, followed, rejected_line, write_lines

from synth_async.report.duplicates import DuplicateClusters
from synth_async.report.examples import chosen_examples, compared
from synth_async.report.follow import Follower
from synth_async.report.samples import HashSample, shown
from synth_async.report.variety import VarietySamples


@given(st.lists(st.integers(0, 500), unique=True, max_size=60), st.integers(1, 20))
def test_a_sample_is_the_lowest_ranks_in_whatever_order_they_come(ranks: list[int], capacity: int) -> None:
    """The same values, lowest rank first, from any order; `wants` is true of just what is taken in."""
    for order in (ranks, ranks[::-1]):
        sample: HashSample[int] = HashSample(capacity)
        for rank in order:
            before = sample.values()
            wanted = sample.wants(rank)
            sample.add(rank, rank)
            assert (rank in sample.values()) == wanted
            assert wanted or sample.values() == before
        assert sample.values() == sorted(ranks)[:capacity]


def test_every_reason_has_a_part_of_the_sample(tmp_path: Path) -> None:
    """A reason that is rare is shown beside one that is frequent; accepted ones come first."""
    rejected = [rejected_line(number, "often") for number in range(500)] + [rejected_line(900, "rare")]
    found = chosen_examples(followed(tmp_path, [accepted_line(1000 + n) for n in range(500)], rejected).report.samples)
    reasons = [example.reason for example in found]
    assert (reasons.count(""), reasons.count("often"), reasons.count("rare")) == (120, 12, 1)
    assert reasons == sorted(reasons, key=lambda reason: (reason != "", reason))


def test_a_long_text_is_cut_and_says_so() -> None:
    """4,000 characters of a turn are shown, and how many are not."""
    found = shown(accepted_line(user="x" * 5_000, topic="t" * 900))
    assert (len(found.turns[0].text), found.turns[0].cut) == (4_000, 1_000)
    assert (found.turns[1].cut, len(found.topic)) == (0, 400)
    assert [turn.role for turn in found.turns] == ["user", "assistant"]


def test_a_file_is_followed_from_where_it_was_left(tmp_path: Path) -> None:
    """Each line counts once, a torn one when it is whole; a file that was made anew is read anew."""
    dataset, rejects = tmp_path / "dataset.jsonl", tmp_path / "rejects.jsonl"
    follower = Follower(dataset, rejects)
    assert follower.read_on()
    write_lines(dataset, accepted_line(1), accepted_line(2))
    with dataset.open("ab") as file:
        file.write(b'{"id": "to')
        file.flush()
        assert follower.read_on()
        assert (follower.report.accepted, follower.behind_bytes) == (2, 10)
        file.write(b'rn"}\n')
    follower.read_on()
    assert (follower.report.accepted, follower.report.unreadable) == (2, 1)
    write_lines(rejects, rejected_line(3))
    follower.read_on()
    assert follower.report.rejected.total() == 1
    anew = write_lines(tmp_path / "anew", accepted_line(4))
    anew.replace(dataset)
    follower.read_on()
    assert (follower.report.accepted, follower.report.unreadable, follower.report.rejected.total()) == (1, 0, 1)


def test_reading_in_slices_adds_up_to_the_whole(tmp_path: Path) -> None:
    """However small the slices: nothing twice, nothing left out, and the last one says that it was the last."""
    accepted = [accepted_line(number, user=f"question {number}") for number in range(40)]
    whole = followed(tmp_path, accepted, [rejected_line(99)])
    sliced = Follower(tmp_path / "dataset.jsonl", tmp_path / "rejects.jsonl")
    looks = 1
    while not sliced.read_on(1_000):
        looks += 1
    sliced.read_on()
    assert looks > 5
    assert sliced.report.as_json() == whole.report.as_json()
    assert sliced.report.samples.accepted.values() == whole.report.samples.accepted.values()


def test_lines_are_found_again_by_id_and_by_place(tmp_path: Path) -> None:
    """What was kept is found by its id wherever it is, what was dropped by the offset of its line."""
    long = rejected_line(6, "near_duplicate", f"0.9 like {2:016x}", user="x" * 10_000)
    follower = followed(tmp_path, [accepted_line(n) for n in range(4)], [rejected_line(5), long, rejected_line(7)])
    (cluster,) = follower.report.clusters.largest(9)
    assert [line["id"] for line in follower.rejected_lines(cluster.places)] == [long["id"]]
    for _ in range(2):
        assert list(follower.accepted_lines([cluster.kept, "nobody"])) == [f"{2:016x}"]


@pytest.mark.parametrize("detail", ["0.91 like a", "same text as a"])
def test_clusters_count_what_repeats_one_example(detail: str) -> None:
    """By the id in the detail; other reasons and other words are none."""
    clusters = DuplicateClusters()
    for place in range(5):
        clusters.add(rejected_line(place, "near_duplicate", detail), place)
    clusters.add(rejected_line(9, "near_duplicate", "0.8 like b"), 9)
    clusters.add(rejected_line(10, "near_duplicate", "no idea"), 10)
    clusters.add(rejected_line(11, "low_score", detail), 11)
    assert [(each.kept, each.count, each.places) for each in clusters.largest(5)] == [
        ("a", 5, [0, 1, 2]),
        ("b", 1, [9]),
    ]
    assert (clusters.sizes(), clusters.duplicates, len(clusters)) == ({1: 1, 5: 1}, 6, 2)


@given(st.text(max_size=80), st.text(max_size=80))
def test_the_pieces_of_a_compared_text_are_the_text(text: str, kept: str) -> None:
    """Whatever differs; of two equal texts nothing is marked."""
    assert "".join(piece.text for piece in compared(text, kept)) == text
    assert not any(piece.is_other for piece in compared(text, text))


def test_both_sides_of_the_comparison_have_one_size() -> None:
    """Ten accepted ones are held against ten of everything, not against all that there is."""
    variety = VarietySamples()
    for rank in range(50):
        words = f"word{rank} word{rank + 1}" if rank % 5 == 0 else "the same words"
        variety.add(rank, accepted_line(rank, user=words), accepted=rank % 5 == 0)
    assert variety.size == 10
    distinct = variety.measures()[0]
    assert distinct.name == "Distinct words"
    assert (distinct.before[0], distinct.after[0]) == (7 / 28, 1.0)
    assert VarietySamples().measures() == []
