from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from synth_async.config.models import Config
from synth_async.records import Topic
from synth_async.stages.coverage import YIELD_WINDOW, Planner, StopReason


def _planner(target: int = 100, first: int = 3, most: int = 30, count: int | None = None) -> Planner:
    config = Config.model_validate({
        "name": "n",
        "domain": "d",
        "system_prompt": "s",
        "target": target,
        "topics": {"count": count},
        "generation": {"examples_per_topic": first, "max_examples_per_topic": most},
        "endpoints": {"only": {"base_url": "http://localhost/v1", "model": "m"}},
    })  # fmt: skip
    return Planner(config)


def _topics(number: int, start: int = 0) -> list[Topic]:
    return [Topic(index, f"topic {index}") for index in range(start, start + number)]


def _issue(planner: Planner) -> tuple[int, int] | None:
    found = planner.next_sample()
    if found is None:
        return None
    planner.note_issued()
    return found[0].index, found[1]


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
        self.planner.source_is_dry = True

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
        self.planner.note_decided(accepted=accepted and not is_surplus)
        self.accepted += accepted and not is_surplus
        self.under_way -= 1

    @rule()
    @precondition(lambda self: self.under_way)
    def leave_undecided(self) -> None:
        self.planner.note_undecided()
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
                wanted = planner.topics_wanted()
                assert wanted > topics
                planner.add_topics(_topics(wanted - topics, topics))
                topics = wanted
                continue
            assert found[1] < 3
            planner.note_issued()
            issued += 1
        planner.note_decided(accepted=chance.random() < quality and not planner.target_is_met)
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
        planner.note_decided(accepted=number % 2 == 0)
    assert planner.expected_yield == pytest.approx(5 / 9)
    _issue_what_is_wanted(planner)
    assert planner.outstanding == math.ceil(6 / (5 / 9))


def test_topics_are_used_in_turn() -> None:
    """Each topic once before any is used twice, in their order; beyond the first round only when the source is dry."""
    planner = _planner(first=2, most=5)
    planner.add_topics(_topics(3))
    assert [_issue(planner) for _ in range(7)] == [*((topic, sample) for sample in (0, 1) for topic in range(3)), None]
    planner.source_is_dry = True
    rest = [_issue(planner) for _ in range(10)]
    assert rest == [*((topic, sample) for sample in (2, 3, 4) for topic in range(3)), None]
    assert planner.stop_reason() is None
    for _ in range(15):
        planner.note_decided(accepted=False)
    assert planner.stop_reason() is StopReason.TOPICS


@given(number=st.integers(0, 40), dry=st.booleans())
def test_a_restored_planner_goes_on_where_it_was(number: int, dry: bool) -> None:  # noqa: FBT001 - drawn
    """Samples that an earlier process planned are not issued again, and the order goes on as if never stopped."""
    planner, resumed = _planner(first=2, most=5), _planner(first=2, most=5)
    for each in (planner, resumed):
        each.source_is_dry = dry
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
    planner.source_is_dry = True
    assert planner.stop_reason() is StopReason.TOPICS


def test_a_backlog_is_something_to_issue() -> None:
    """Tasks that an earlier process left undone keep the run going when there are no topics."""
    planner = _planner()
    planner.source_is_dry = True
    planner.backlog = 1
    assert planner.stop_reason() is None
    planner.backlog = 0
    assert planner.stop_reason() is StopReason.TOPICS


def test_the_first_round_is_sized_by_the_config() -> None:
    """`topics.count`, or half the target, is what the source is asked for at first, whatever the target."""
    assert _planner(target=1000, count=10).topics_wanted() == 10
    assert _planner(target=1000).topics_wanted() == 500
    assert _planner(target=1).topics_wanted() == 1


def test_more_topics_are_wanted_when_the_first_round_is_used_up() -> None:
    """Then as many as the missing examples take at the present yield, less what is under way."""
    planner = _planner(target=100, first=2, count=10)
    planner.add_topics(_topics(10))
    for _ in range(20):
        assert planner.topics_wanted() == 10
        _issue(planner)
    assert planner.topics_wanted() == 10 + (100 - 20) / 2
    for number in range(20):
        planner.note_decided(accepted=number < 10)
    assert planner.topics_wanted() == 10 + math.ceil(90 / (11 / 21) / 2)
    for _ in range(90):
        planner.note_decided(accepted=True, live=False)
    assert planner.topics_wanted() == 10


@pytest.mark.parametrize(("accepted", "reason"), [(39, StopReason.YIELD), (40, None), (0, StopReason.YIELD)])
def test_the_yield_floor_is_two_percent_of_the_last_2000(accepted: int, reason: StopReason | None) -> None:
    """Fewer than 40 of the last 2,000 decisions stop the run; 1,999 say nothing yet, older ones nothing more."""
    planner = _planner(target=10_000)
    planner.add_topics(_topics(9))
    assert YIELD_WINDOW == 2000
    for number in range(2000):
        assert planner.stop_reason() is None
        planner.note_decided(accepted=number < accepted, live=False)
    assert planner.stop_reason() is reason
    for number in range(2000):
        planner.note_decided(accepted=number < 1000, live=False)
    assert planner.stop_reason() is None
    for _ in range(960):
        planner.note_decided(accepted=False, live=False)
    assert planner.stop_reason() is None
    planner.note_decided(accepted=False, live=False)
    assert planner.stop_reason() is StopReason.YIELD
    planner.forget_yield()
    assert planner.stop_reason() is None
    assert planner.expected_yield == 1


def test_a_met_target_is_the_first_reason() -> None:
    """A run whose target is met has succeeded, however poor its yield and dry its source."""
    planner = _planner(target=1)
    planner.source_is_dry = True
    planner.note_decided(accepted=True, live=False)
    assert planner.stop_reason() is StopReason.TARGET
    assert not planner.wants_task
