from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from small_config import small_config

from synth_async.records import Task, Topic
from synth_async.stages.planner import YIELD_WINDOW, Planner, StopReason


def _planner(target: int = 100, first: int = 3, most: int = 30, count: int | None = None) -> Planner:
    generation = {"examples_per_topic": first, "max_examples_per_topic": most}
    return Planner(small_config(target=target, topics={"count": count}, generation=generation))


def _topics(number: int, start: int = 0) -> list[Topic]:
    return [Topic(index, f"topic {index}") for index in range(start, start + number)]


_TASK = Task("0" * 32, Topic(0, "topic 0"), 0, ())
"""Where no category and no facet is wished for, the planner only counts."""


def _issue(planner: Planner) -> tuple[int, int] | None:
    found = planner.next_sample()
    if found is None:
        return None
    planner.note_issued(_TASK)
    return found[0].index, found[1]


def _wanted(planner: Planner) -> int:
    (wanted,) = planner.topics_wanted().values()
    return wanted


def _issue_what_is_wanted(planner: Planner) -> None:
    while planner.wants_task:
        assert _issue(planner) is not None


class PlannerMachine(RuleBasedStateMachine):
    """Any order of topics coming, tasks issued, decided, left undecided, and the source running dry."""

    @initialize(wanted=st.integers(1, 60), first=st.integers(1, 4), more=st.integers(0, 4))
    def begin(self, wanted: int, first: int, more: int) -> None:
        self.target, self.first, self.most = wanted, first, first + more
        self.planner = _planner(wanted, first, self.most)
        self.issued: Counter[int] = Counter()
        self.topics = self.accepted = self.under_way = 0

    @rule(number=st.integers(1, 5))
    @precondition(lambda self: not self.planner.source_is_dry)
    def topics_come(self, number: int) -> None:
        self.planner.add_topics(_topics(number, self.topics))
        self.topics += number

    @rule()
    def source_runs_dry(self) -> None:
        self.planner.note_all_dry()

    @rule(times=st.integers(1, 10))
    def issue(self, times: int) -> None:
        for _ in range(times):
            if not self.planner.wants_task:
                return
            needed = self.target - self.accepted
            assert self.under_way * self.planner.expected_yield < needed
            found = _issue(self.planner)
            if found is None:
                assert all(self.issued[index] >= self.allowed for index in range(self.topics))
                return
            topic, sample = found
            assert sample == self.issued[topic] < self.allowed
            self.issued[topic] += 1
            self.under_way += 1

    @rule(accepted=st.booleans())
    @precondition(lambda self: self.under_way)
    def decide(self, accepted: bool) -> None:  # noqa: FBT001 - drawn
        is_surplus = self.planner.target_is_met
        self.planner.note_decided(_TASK, accepted=accepted and not is_surplus)
        self.accepted += accepted and not is_surplus
        self.under_way -= 1

    @rule()
    @precondition(lambda self: self.under_way)
    def leave_undecided(self) -> None:
        self.planner.note_undecided(_TASK)
        self.under_way -= 1

    @property
    def allowed(self) -> int:
        return self.most if self.planner.source_is_dry else self.first

    @invariant()
    def counts_agree(self) -> None:
        assert self.planner.outstanding == self.under_way
        assert self.planner.accepted == self.accepted <= self.target
        assert self.planner.target_is_met is (self.accepted == self.target)

    @invariant()
    def it_stops_only_for_a_reason(self) -> None:
        used_up = self.planner.source_is_dry and all(self.issued[index] >= self.most for index in range(self.topics))
        expected = None
        if self.accepted == self.target:
            expected = StopReason.TARGET
        elif used_up and not self.under_way:
            expected = StopReason.TOPICS
        assert self.planner.stop_reason() is expected


TestPlannerMachine = PlannerMachine.TestCase
TestPlannerMachine.settings = settings(max_examples=60, stateful_step_count=40)


@given(target=st.integers(1, 300), at_once=st.integers(1, 40), quality=st.floats(0.15, 1.0), seed=st.integers(0, 1000))
def test_a_run_reaches_exactly_its_target(target: int, at_once: int, quality: float, seed: int) -> None:
    """With any yield and any number in flight the target is met exactly, from first-round samples of enough topics."""
    chance = random.Random(seed)
    planner = _planner(target, first=3, most=1000)
    issued = topics = 0
    while planner.stop_reason() is None:
        while planner.outstanding < at_once and planner.wants_task:
            if (found := planner.next_sample()) is None:
                wanted = _wanted(planner)
                assert wanted > topics
                planner.add_topics(_topics(wanted - topics, topics))
                topics = wanted
                continue
            assert found[1] < 3
            planner.note_issued(_TASK)
            issued += 1
        planner.note_decided(_TASK, accepted=chance.random() < quality and not planner.target_is_met)
    assert planner.stop_reason() is StopReason.TARGET
    assert planner.accepted == target
    assert planner.outstanding <= at_once
    assert issued == planner.decided + planner.outstanding


def test_nothing_is_wanted_while_enough_is_under_way() -> None:
    """At the start every task is expected to be accepted; afterwards the yield says how many are worth asking for."""
    planner = _planner(target=10)
    planner.add_topics(_topics(50))
    _issue_what_is_wanted(planner)
    assert planner.outstanding == 10
    for number in range(8):
        planner.note_decided(_TASK, accepted=number % 2 == 0)
    assert planner.expected_yield == pytest.approx(5 / 9)
    _issue_what_is_wanted(planner)
    assert planner.outstanding == math.ceil(6 / (5 / 9))


def test_topics_are_used_in_turn() -> None:
    """Each topic once before any is used twice, in their order; beyond the first round only when the source is dry."""
    planner = _planner(first=2, most=5)
    planner.add_topics(_topics(3))
    assert [_issue(planner) for _ in range(7)] == [*((topic, sample) for sample in (0, 1) for topic in range(3)), None]
    planner.note_all_dry()
    rest = [_issue(planner) for _ in range(10)]
    assert rest == [*((topic, sample) for sample in (2, 3, 4) for topic in range(3)), None]
    assert planner.stop_reason() is None
    for _ in range(15):
        planner.note_decided(_TASK, accepted=False)
    assert planner.stop_reason() is StopReason.TOPICS


@given(number=st.integers(0, 40), dry=st.booleans())
def test_a_restored_planner_goes_on_where_it_was(number: int, dry: bool) -> None:  # noqa: FBT001 - drawn
    """Samples that an earlier process planned are not issued again, and the order goes on as if never stopped."""
    planner, resumed = _planner(first=2, most=5), _planner(first=2, most=5)
    for each in (planner, resumed):
        if dry:
            each.note_all_dry()
        each.add_topics(_topics(7))
    for _ in range(number):
        if (found := _issue(planner)) is not None:
            resumed.restore(*found)
    assert [_issue(planner) for _ in range(8)] == [_issue(resumed) for _ in range(8)]


def test_a_restored_run_that_has_used_up_its_topics_says_so() -> None:
    """With everything decided and nothing left to issue there is a reason to stop at once, and no waiting for one."""
    planner = _planner(first=2, most=5)
    planner.add_topics(_topics(2))
    for topic in (0, 1):
        planner.restore(topic, 4)
    planner.note_all_dry()
    assert planner.stop_reason() is StopReason.TOPICS


def test_a_backlog_is_something_to_issue() -> None:
    """Tasks that an earlier process left undone keep the run going when there are no topics."""
    planner = _planner()
    planner.note_all_dry()
    planner.backlog = 1
    assert planner.stop_reason() is None
    planner.backlog = 0
    assert planner.stop_reason() is StopReason.TOPICS


def test_the_first_round_is_sized_by_the_config() -> None:
    """`topics.count`, or half the target, is what the source is asked for at first, whatever the target."""
    assert _wanted(_planner(target=1000, count=10)) == 10
    assert _wanted(_planner(target=1000)) == 500
    assert _wanted(_planner(target=1)) == 1


def test_more_topics_are_wanted_when_the_first_round_is_used_up() -> None:
    """Then as many as the missing examples take at the present yield, less what is under way."""
    planner = _planner(target=100, first=2, count=10)
    planner.add_topics(_topics(10))
    for _ in range(20):
        assert _wanted(planner) == 10
        _issue(planner)
    assert _wanted(planner) == 10 + (100 - 20) / 2
    for number in range(20):
        planner.note_decided(_TASK, accepted=number < 10)
    assert _wanted(planner) == 10 + math.ceil(90 / (11 / 21) / 2)
    for _ in range(90):
        planner.note_decided(_TASK, accepted=True, live=False)
    assert _wanted(planner) == 10


@pytest.mark.parametrize(("accepted", "reason"), [(39, StopReason.YIELD), (40, None), (0, StopReason.YIELD)])
def test_the_yield_floor_is_two_percent_of_the_last_2000(accepted: int, reason: StopReason | None) -> None:
    """Fewer than 40 of the last 2,000 decisions stop the run; 1,999 say nothing yet, older ones nothing more."""
    planner = _planner(target=10_000)
    planner.add_topics(_topics(9))
    assert YIELD_WINDOW == 2000
    for number in range(2000):
        assert planner.stop_reason() is None
        planner.note_decided(_TASK, accepted=number < accepted, live=False)
    assert planner.stop_reason() is reason
    for number in range(2000):
        planner.note_decided(_TASK, accepted=number < 1000, live=False)
    assert planner.stop_reason() is None
    for _ in range(960):
        planner.note_decided(_TASK, accepted=False, live=False)
    assert planner.stop_reason() is None
    planner.note_decided(_TASK, accepted=False, live=False)
    assert planner.stop_reason() is StopReason.YIELD
    planner.forget_yield()
    assert planner.stop_reason() is None
    assert planner.expected_yield == 1


def test_a_met_target_is_the_first_reason() -> None:
    """A run whose target is met has succeeded, however poor its yield and dry its source."""
    planner = _planner(target=1)
    planner.note_all_dry()
    planner.note_decided(_TASK, accepted=True, live=False)
    assert planner.stop_reason() is StopReason.TARGET
    assert not planner.wants_task


# --- categories ----------------------------------------------------------------------------------


def _categories(shares: dict[str, float], target: int = 100, **changes: Any) -> Planner:
    return Planner(small_config(target=target, topics={"categories": shares, **changes}))


def test_samples_come_from_each_category_by_its_share() -> None:
    """At any time each category has had its share of the samples, within one."""
    planner = _categories({"a": 1, "b": 2, "c": 5}, target=800)
    names = [name for name in "abc" for _ in range(300)]
    planner.add_topics(Topic(index, f"topic {index}", name) for index, name in enumerate(names))
    counts: Counter[str | None] = Counter()
    for number in range(1, 401):
        found = planner.next_sample()
        assert found is not None
        counts[found[0].category] += 1
        for name, share in {"a": 1 / 8, "b": 2 / 8, "c": 5 / 8}.items():
            assert abs(counts[name] - share * number) <= 1


def test_each_category_wants_topics_by_its_share() -> None:
    """The first round is divided by the shares; nested categories multiply theirs."""
    planner = _categories({"a": 1, "b": {"share": 3, "categories": {"x": 1, "y": 2}}}, count=120)  # type: ignore[dict-item]
    assert planner.topics_wanted() == {"a": 30, "b / x": 30, "b / y": 60}


def test_a_category_without_topics_to_come_is_given_up() -> None:
    """Where one category has nothing to write about, the others take its share, and that is known."""
    planner = _categories({"a": 1, "b": 1}, target=10)
    planner.add_topics(Topic(index, f"topic {index}", "a") for index in range(20))
    assert planner.next_sample() is not None
    planner.note_dry("b")
    for _ in range(10):
        assert planner.next_sample() is not None
    assert [each.value for each in planner.coverage.standings() if each.given_up] == ["b"]


def test_topics_of_a_category_that_is_not_wished_for_are_not_used() -> None:
    """What the config does not name has no share."""
    planner = _categories({"a": 1, "b": 1}, target=10)
    planner.add_topics([Topic(0, "one", "z"), Topic(1, "two", None)])
    assert planner.next_sample() is None
