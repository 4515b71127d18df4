from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_async.records import Drop, DropReason, Example, Preference, Revision, Stage, Task, Topic, Verdict
from synth_async.report.metrics import FUNNEL, Tally

_STEPS = {
    Stage.GENERATE: (0, 0),
    Stage.FILTER: (1, 0),
    Stage.SCREEN: (1, 1),
    Stage.JUDGE: (1, 1),
    Stage.DEDUP: (1, 1),
    Stage.TARGET: (1, 1),
}


@pytest.mark.parametrize("stage", list(_STEPS))
@pytest.mark.parametrize("judged", [False, True])
def test_a_drop_counts_for_the_steps_that_it_had_passed(stage: Stage, judged: bool) -> None:  # noqa: FBT001 - drawn
    """Dropped by a filter: parsed and not passed; dropped later: both; judged where a verdict was read."""
    tally = Tally()
    tally.note_rejected(Drop(stage, "reason"), judged=judged)
    assert (tally.parsed, tally.passed) == _STEPS[stage]
    assert tally.judged == judged
    assert tally.accepted == 0
    assert tally.rejected == {"reason": 1}


@given(st.lists(st.one_of(st.none(), st.sampled_from(list(_STEPS)))))
def test_the_funnel_never_widens(ends: list[Stage | None]) -> None:
    """Each step of the funnel counts no more than the one before, and the ends add up to what was answered."""
    tally = Tally(asked=len(ends) + 3, answered=len(ends))
    for stage in ends:
        if stage is None:
            tally.note_accepted(judged=True)
        else:
            tally.note_rejected(Drop(stage, stage.value), judged=stage in (Stage.DEDUP, Stage.TARGET))
    counts = list(tally.funnel().values())
    assert counts == sorted(counts, reverse=True)
    assert list(tally.funnel()) == list(FUNNEL)
    assert tally.accepted + sum(tally.rejected.values()) == tally.answered


def test_cost_is_known_only_while_every_price_is() -> None:
    """Dollars per million tokens add up; one answer without a price makes the sum unknown, not smaller."""
    tally = Tally()
    costs: list[float | None] = []
    for prompt, completion, price in ((1_000_000, 500_000, (0.5, 2.0)), (10, 10, None), (10, 10, (1.0, 1.0))):
        tally.note_usage(prompt, completion, price)
        costs.append(tally.cost_usd)
    assert costs == [pytest.approx(1.5), None, None]
    assert (tally.prompt_tokens, tally.completion_tokens) == (1_000_020, 500_020)


def test_metrics_hold_the_whole_life_of_a_run() -> None:
    """Attempts, 429s and seconds of this process are added to those of the earlier ones; the rest is as counted."""
    tally = Tally(asked=3, answered=3, topics=2, earlier_attempts=10, earlier_http_429=1, earlier_elapsed_s=2.5)
    tally.note_accepted(judged=True)
    for _ in range(2):
        tally.note_rejected(Drop(Stage.TARGET, DropReason.OVER_TARGET), judged=False)
    found = tally.as_json(attempts=5, http_429=2, elapsed_s=1.25, more={"target": 1})
    assert found == {
        "asked": 3,
        "answered": 3,
        "parsed": 3,
        "passed": 3,
        "judged": 1,
        "accepted": 1,
        "rejected": {"over_target": 2},
        "attempts": 15,
        "http_429": 3,
        "tokens": {"prompt": 0, "completion": 0},
        "cost_usd": 0.0,
        "elapsed_s": 3.75,
        "topics": 2,
        "target": 1,
    }
    assert orjson.loads(orjson.dumps(found)) == found


_DRAFT = Verdict({"quality": 3.5}, 3.5, "vague", "m")


def _made(revision: Revision | None = None, preference: Preference | None = None) -> Example:
    return Example(Task("0" * 32, Topic(0, "t"), 0, ()), (), "m", revision=revision, preference=preference)


def test_revisions_are_held_against_the_run_without_them() -> None:
    """Two of three revisions of 100 tokens accepted, of 10 examples and 2,300 tokens: 4.35 against 4 per 1,000.

    A run in which nothing was revised says nothing of it.
    """
    tally = Tally(accepted=10, prompt_tokens=2000, completion_tokens=300)
    assert "revised" not in tally.as_json(attempts=0, http_429=0, elapsed_s=0, more={})
    for accepted in (True, True, False):
        tally.note_made(_made(Revision("1" * 32, _DRAFT, 100)), accepted=accepted)
    tally.note_made(_made(), accepted=True)
    assert tally.as_json(attempts=0, http_429=0, elapsed_s=0, more={})["revised"] == {
        "asked": 3,
        "accepted": 2,
        "tokens": 300,
        "accepted_per_1k_tokens": 4.3478,
        "accepted_per_1k_tokens_without": 4.0,
    }


def test_pairs_are_counted_with_their_mean_margin() -> None:
    """Only accepted ones; where replies were compared there is no margin to speak of."""
    tally = Tally()
    for margin, accepted in ((1.0, True), (2.0, True), (4.0, False)):
        tally.note_made(_made(None, Preference("a", "b", "no", "w", _DRAFT, margin)), accepted=accepted)
    assert tally.as_json(attempts=0, http_429=0, elapsed_s=0, more={})["preference"] == {"pairs": 2, "mean_margin": 1.5}
    compared = Tally()
    compared.note_made(_made(None, Preference("a", "b", "no", "w")), accepted=True)
    found = compared.as_json(attempts=0, http_429=0, elapsed_s=0, more={})["preference"]
    assert found == {"pairs": 1, "mean_margin": None}
