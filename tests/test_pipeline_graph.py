"""A whole run in this process, over real HTTP, against an endpoint whose answers the test controls."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import anyio
import orjson
import pytest
from scripted_endpoint import (
    Asked,
    Reply,
    ScriptedEndpoint,
    config_of,
    dataset_of,
    drive,
    good_example,
    names_in_journal,
    prepared_run,
    rejects_of,
    scores,
    scripted_endpoint,
    truth_of,
    usual_reply,
    words,
)

from synth_async.errors import EndpointRefused, ExitCode, Interrupted, StoppedEarly, UsageError
from synth_async.pipeline.run import Run
from synth_async.report.metrics import FUNNEL


def _share(asked: Asked) -> float:
    """A number in [0, 1) that belongs to the request."""
    return int(asked.name[:8], 16) / 2**32


def _reasons(run_folder: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in rejects_of(run_folder):
        found[line["reason"]] = found.get(line["reason"], 0) + 1
    return found


def _funnel(run: Run) -> dict[str, int]:
    return {step: run.metrics[step] for step in FUNNEL}


def _assert_again_changes_nothing(folder: Path, tree: dict[str, object], endpoint: ScriptedEndpoint) -> None:
    before, sent = truth_of(folder / "run"), endpoint.count()
    metrics = (folder / "run" / "metrics.json").read_bytes()
    drive(folder, tree)
    assert truth_of(folder / "run") == before
    assert (folder / "run" / "metrics.json").read_bytes() == metrics
    assert endpoint.count() == sent


def test_run_ends_with_exactly_its_target(tmp_path: Path) -> None:
    """However many answers come in at the end, the dataset has exactly N valid lines with unique ids."""
    with scripted_endpoint() as endpoint:
        run = drive(tmp_path, config_of(endpoint, target=37))
        lines = dataset_of(tmp_path / "run")
        assert len(lines) == len({line["id"] for line in lines}) == 37 == run.metrics["accepted"]
        for line in lines:
            assert list(line) == ["id", "messages", "metadata"]
            assert re.fullmatch(r"[0-9a-f]{16}", line["id"])
            assert [message["role"] for message in line["messages"]] == ["system", "user", "assistant"]
            assert all(message["content"] for message in line["messages"])
            metadata = line["metadata"]
            assert metadata["topic"]
            assert metadata["facets"]["tone"]
            assert (metadata["model"], metadata["scores"], metadata["score"]) == ("scripted", {"quality": 5}, 5)
        _assert_again_changes_nothing(tmp_path, config_of(endpoint, target=37), endpoint)


def _mixed(asked: Asked) -> Reply:
    share = _share(asked)
    if asked.kind == "generate" and share < 0.15:
        return Reply("no JSON at all")
    if asked.kind == "generate" and share < 0.3:
        return Reply(orjson.dumps({"user_message": "too short", "assistant_response": "no"}).decode())
    if asked.kind == "generate" and share < 0.45:
        return Reply(good_example("always the same"))
    if asked.kind == "generate" and share < 0.5:
        return Reply(status=400)
    if asked.kind == "judge" and share < 0.3 and words("always the sameu", 5) not in asked.text:
        return Reply(scores(3))
    return usual_reply(asked)


def test_drops_are_lines_with_reasons(tmp_path: Path) -> None:
    """Every planned and answered task ends as a line of the dataset or of the rejects, with a reason from its stage."""
    with scripted_endpoint(_mixed) as endpoint:
        run = drive(tmp_path, config_of(endpoint, target=40))
        lines = rejects_of(tmp_path / "run")
        stages = {"not_json": "generate", "user_words": "filter", "low_score": "judge", "request_rejected": "generate"}
        for reason, stage in stages.items():
            found = [line for line in lines if line["reason"] == reason]
            assert {line["stage"] for line in found} == {stage}, reason
            assert all(("messages" in line) is (stage != "generate") for line in found), reason
        duplicates = [line for line in lines if line["reason"] == "exact_duplicate"]
        assert duplicates
        assert {line["stage"] for line in duplicates} <= {"screen", "dedup"}
        assert run.metrics["rejected"] == _reasons(tmp_path / "run")
        ids = [line["id"] for line in (*lines, *dataset_of(tmp_path / "run"))]
        assert len(ids) == len(set(ids)) <= run.metrics["asked"]
        _assert_again_changes_nothing(tmp_path, config_of(endpoint, target=40), endpoint)


def test_a_duplicate_of_an_accepted_example_is_not_judged(tmp_path: Path) -> None:
    """What repeats an accepted example is screened out before the judge is paid: all others of 30 are one text."""

    def reply(asked: Asked) -> Reply:
        same = asked.kind == "generate" and _share(asked) < 0.5
        return Reply(good_example("same")) if same else usual_reply(asked)

    with scripted_endpoint(reply) as endpoint:
        drive(tmp_path, config_of(endpoint, target=30, endpoints__max_in_flight=1))
        screened = [line for line in rejects_of(tmp_path / "run") if line["stage"] == "screen"]
        assert len(screened) >= 8
        assert not any("score" in line["metadata"] for line in screened)


def test_without_a_judge_nothing_is_judged(tmp_path: Path) -> None:
    """With `judge: null` no verdict is asked for, and the lines hold no scores."""
    with scripted_endpoint() as endpoint:
        run = drive(tmp_path, config_of(endpoint, judge=None))
        assert len(dataset_of(tmp_path / "run")) == 20
        assert endpoint.count("judge") == 0 == run.metrics["judged"]
        assert "score" not in dataset_of(tmp_path / "run")[0]["metadata"]
        _assert_again_changes_nothing(tmp_path, config_of(endpoint, judge=None), endpoint)


def test_in_flight_stays_within_its_bound(tmp_path: Path) -> None:
    """The server never sees more requests at once than `max_in_flight`, whatever waits."""
    with scripted_endpoint(lambda asked: Reply(usual_reply(asked).content, delay_s=0.002)) as endpoint:
        drive(tmp_path, config_of(endpoint, target=60, endpoints__max_in_flight=5))
        assert 2 <= endpoint.most_in_flight <= 5


# --- topics --------------------------------------------------------------------------------------


def test_topics_of_a_file_are_used_in_turn_and_run_out(tmp_path: Path) -> None:
    """Three listed topics allow 3 x 4 tasks; a judge that likes none of them ends the run with exit 4 after these."""
    (tmp_path / "topics.txt").write_text("late parcel\nbroken cup\nlate  PARCEL\n\nwrong size\n", encoding="utf-8")
    with scripted_endpoint(lambda asked: Reply(scores(2)) if asked.kind == "judge" else usual_reply(asked)) as endpoint:
        tree = config_of(
            endpoint,
            topics={"file": "topics.txt"},
            generation={"examples_per_topic": 2, "max_examples_per_topic": 4},
        )
        with pytest.raises(StoppedEarly, match="no more topics") as stopped:
            drive(tmp_path, tree)
        assert stopped.value.exit_code is ExitCode.STOPPED_EARLY
        assert endpoint.count("topics") == 0
        assert endpoint.count("generate") == len(set(endpoint.names("generate"))) == 12
        used = [line["metadata"] for line in rejects_of(tmp_path / "run")]
        assert sorted((each["topic"], each["sample"]) for each in used) == [
            (topic, sample) for topic in ("broken cup", "late parcel", "wrong size") for sample in range(4)
        ]
        with pytest.raises(StoppedEarly, match="no more topics"):
            drive(tmp_path, tree)
        assert endpoint.count("generate") == 12


def test_categories_of_a_jsonl_file_reach_prompt_and_metadata(tmp_path: Path) -> None:
    """A listed category stands in the prompt and in the line of each example that was made from it."""
    rows = [{"topic": f"topic number {number}", "category": "billing" if number % 2 else None} for number in range(8)]
    (tmp_path / "topics.jsonl").write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    with scripted_endpoint() as endpoint:
        drive(tmp_path, config_of(endpoint, target=8, topics={"file": "topics.jsonl"}))
        expected = {row["topic"]: row["category"] for row in rows}
        for line in dataset_of(tmp_path / "run"):
            assert line["metadata"]["category"] == expected[line["metadata"]["topic"]]
        for asked in endpoint.asked:
            if asked.kind == "generate":
                topic = re.search(r"^Topic: (.*)$", asked.text, re.MULTILINE)
                assert topic is not None
                assert ("\nCategory: billing\n" in asked.text) is (expected[topic[1]] == "billing")


def test_more_topics_are_asked_for_when_the_first_round_is_short(tmp_path: Path) -> None:
    """Topics beyond `topics.count` are asked for when the first round's samples were not enough."""
    with scripted_endpoint() as endpoint:
        run = drive(tmp_path, config_of(endpoint, target=30, topics={"count": 5}, generation={"examples_per_topic": 2}))
        assert len(dataset_of(tmp_path / "run")) == 30
        assert run.metrics["topics"] >= 15
        assert max(line["metadata"]["sample"] for line in dataset_of(tmp_path / "run")) < 2


def test_a_model_without_new_topics_runs_dry(tmp_path: Path) -> None:
    """Three batches without news end the asking; then topics are used again up to the maximum, then exit 4."""

    def reply(asked: Asked) -> Reply:
        if asked.kind == "topics":
            return Reply("the parcel is late\nthe cup is broken")
        return Reply(scores(1)) if asked.kind == "judge" else usual_reply(asked)

    with scripted_endpoint(reply) as endpoint:
        tree = config_of(endpoint, generation={"examples_per_topic": 1, "max_examples_per_topic": 5})
        with pytest.raises(StoppedEarly, match="no more topics"):
            drive(tmp_path, tree)
        assert endpoint.count("topics") == 4
        assert endpoint.count("generate") == 10


def test_topic_requests_without_an_answer_are_no_sign_of_dryness(tmp_path: Path) -> None:
    """A run whose topic requests found no answer asks for topics again when it is taken up, and finishes."""
    with scripted_endpoint(lambda _: Reply(status=422)) as endpoint:
        tree = config_of(endpoint, target=5, topics={"batch_size": 3})
        with pytest.raises(StoppedEarly, match=r"no more topics to write about.*422"):
            drive(tmp_path, tree)
        assert endpoint.count() == endpoint.count("topics") == 3
        endpoint.reply = usual_reply
        drive(tmp_path, tree)
        assert len(dataset_of(tmp_path / "run")) == 5


def test_examples_of_a_prompt_without_its_topic_have_ids_of_their_own(tmp_path: Path) -> None:
    """A user's prompt may be the same for every topic; the ids still differ."""
    with scripted_endpoint() as endpoint:
        numbers = itertools.count()
        endpoint.reply = lambda asked: (
            Reply(good_example(str(next(numbers)))) if asked.kind == "generate" else usual_reply(asked)
        )
        tree = config_of(endpoint, generation={"prompt": "Write anything."}, facets={}, target=12)
        drive(tmp_path, tree)
        assert len({line["id"] for line in dataset_of(tmp_path / "run")}) == 12
        _assert_again_changes_nothing(tmp_path, tree, endpoint)


# --- stops ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_yield_floor_stops_a_run_that_brings_nothing(tmp_path: Path) -> None:
    """After 2,000 decisions with fewer than 2 % accepted the run stops with exit 4, and is not far beyond them."""
    with scripted_endpoint(lambda asked: Reply("{}") if asked.kind == "generate" else usual_reply(asked)) as endpoint:
        tree = config_of(endpoint, target=5000, endpoints__max_in_flight=50)
        with pytest.raises(StoppedEarly, match="fewer than 2 %"):
            drive(tmp_path, tree)
        assert 2000 <= endpoint.count("generate") <= 2000 + 50 + 63 + 8


def test_a_refused_key_costs_one_request(tmp_path: Path) -> None:
    """A 401 ends the run with `EndpointRefused` itself, in no group, after the one request that found it out."""
    with scripted_endpoint(lambda _: Reply(status=401)) as endpoint:
        with pytest.raises(EndpointRefused, match="access refused"):
            drive(tmp_path, config_of(endpoint))
        assert endpoint.count() == 1


def test_an_interruption_keeps_what_was_answered(tmp_path: Path) -> None:
    """After an interruption no further request goes out, and the next process asks nothing that was answered."""
    with scripted_endpoint(lambda asked: Reply(usual_reply(asked).content, delay_s=0.01)) as endpoint:
        tree = config_of(endpoint, target=60)
        run = prepared_run(tmp_path, tree)
        sent_at_interrupt: list[int] = []

        async def driven() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(interrupt)
                await run.drive()

        async def interrupt() -> None:
            while run.tally.accepted < 20:  # noqa: ASYNC110 - a tally is no event
                await anyio.sleep(0.001)
            run.interrupt(Interrupted("by the test"))
            sent_at_interrupt.append(endpoint.count())

        with pytest.raises(BaseExceptionGroup) as stopped:
            anyio.run(driven)
        assert stopped.group_contains(Interrupted)
        # those that the client had sent and the server had not read yet
        assert endpoint.count() <= sent_at_interrupt[0] + 6
        answered = names_in_journal(tmp_path / "run")
        before = endpoint.count()
        drive(tmp_path, tree)
        assert len(dataset_of(tmp_path / "run")) == 60
        assert not answered & endpoint.paid_since(before)
        _assert_again_changes_nothing(tmp_path, tree, endpoint)


def test_an_interruption_before_the_start_sends_nothing(tmp_path: Path) -> None:
    """A run that is interrupted before it begins asks nothing, and can be taken up."""
    with scripted_endpoint() as endpoint:
        run = prepared_run(tmp_path, config_of(endpoint))
        run.interrupt(Interrupted("by the test"))
        with pytest.raises(Interrupted):
            anyio.run(run.drive)
        assert endpoint.count() == 0
        drive(tmp_path, config_of(endpoint))
        assert len(dataset_of(tmp_path / "run")) == 20


def test_transport_failures_leave_tasks_undecided(tmp_path: Path) -> None:
    """Requests that found no answer are in neither file; the next run asks for these alone."""
    (tmp_path / "topics.txt").write_text("\n".join(f"case {number}" for number in range(6)), encoding="utf-8")
    with scripted_endpoint() as endpoint:
        tree = config_of(
            endpoint,
            target=6,
            topics={"file": "topics.txt"},
            generation={"examples_per_topic": 1, "max_examples_per_topic": 1},
            endpoints__timeout_s=0.4,
        )
        endpoint.reply = lambda asked: Reply(fault="hang") if "Topic: case 3" in asked.text else usual_reply(asked)
        with pytest.raises(StoppedEarly, match="1 requests found no answer, the same command tries them again"):
            drive(tmp_path, tree)
        assert len(dataset_of(tmp_path / "run")) == 5
        assert rejects_of(tmp_path / "run") == []
        sent = endpoint.count()
        endpoint.reply = usual_reply
        drive(tmp_path, tree)
        assert len(dataset_of(tmp_path / "run")) == 6
        assert [asked.kind for asked in endpoint.asked[sent:]] == ["generate", "judge"]


def test_a_paid_generation_outlives_a_judge_that_is_down(tmp_path: Path) -> None:
    """When only verdicts failed, the next run asks for verdicts only, and counts no answer twice."""
    (tmp_path / "topics.txt").write_text("one\ntwo\nthree", encoding="utf-8")
    with scripted_endpoint() as endpoint:
        tree = config_of(
            endpoint,
            target=3,
            topics={"file": "topics.txt"},
            generation={"examples_per_topic": 1, "max_examples_per_topic": 1},
            endpoints__timeout_s=0.4,
        )
        endpoint.reply = lambda asked: Reply(fault="hang") if asked.kind == "judge" else usual_reply(asked)
        with pytest.raises(StoppedEarly):
            drive(tmp_path, tree)
        sent = endpoint.count()
        endpoint.reply = usual_reply
        run = drive(tmp_path, tree)
        assert [asked.kind for asked in endpoint.asked[sent:]] == ["judge"] * 3
        assert run.metrics["answered"] == run.metrics["asked"] == 3
        _assert_again_changes_nothing(tmp_path, tree, endpoint)


def test_two_malformed_verdicts_drop_an_example(tmp_path: Path) -> None:
    """A malformed verdict is asked for once more; the second one is `no_verdict`, after exactly two requests each."""

    def reply(asked: Asked) -> Reply:
        if asked.kind == "judge" and _share(asked) < 0.3:
            return Reply(scores("excellent"))
        if asked.kind == "judge" and _share(asked) < 0.6:
            return Reply(scores(9) if asked.time == 1 else scores(4))
        return usual_reply(asked)

    with scripted_endpoint(reply) as endpoint:
        drive(tmp_path, config_of(endpoint, target=30))
        dropped = [line for line in rejects_of(tmp_path / "run") if line["reason"] == "no_verdict"]
        assert {(line["stage"], "messages" in line) for line in dropped} == {("judge", True)}
        asked = endpoint.names("judge")
        times = [asked.count(name) for name in set(asked)]
        assert set(times) == {1, 2}
        retried = [line for line in dataset_of(tmp_path / "run") if line["metadata"]["score"] == 4]
        assert retried
        _assert_again_changes_nothing(tmp_path, config_of(endpoint, target=30), endpoint)


# --- another target ------------------------------------------------------------------------------


def test_a_raised_target_uses_the_surplus_first(tmp_path: Path) -> None:
    """Answers beyond the target are kept, and asked for never again: a higher target needs only the rest."""
    with scripted_endpoint() as endpoint:
        drive(tmp_path, config_of(endpoint, target=40))
        drive(tmp_path, config_of(endpoint, target=10))
        first = dataset_of(tmp_path / "run")
        assert len(first) == 10
        assert _reasons(tmp_path / "run")["over_target"] >= 30
        sent = endpoint.count()
        drive(tmp_path, config_of(endpoint, target=38))
        assert endpoint.count() == sent
        again = dataset_of(tmp_path / "run")
        assert len(again) == len({line["id"] for line in again}) == 38
        assert again[:10] == first
        _assert_again_changes_nothing(tmp_path, config_of(endpoint, target=38), endpoint)
        drive(tmp_path, config_of(endpoint, target=60))
        assert len({line["id"] for line in dataset_of(tmp_path / "run")}) == 60
        assert dataset_of(tmp_path / "run")[:38] == again
        assert len(endpoint.names("generate")) == len(set(endpoint.names("generate")))
        assert len(endpoint.names("judge")) == len(set(endpoint.names("judge")))
        _assert_again_changes_nothing(tmp_path, config_of(endpoint, target=60), endpoint)


def test_surplus_without_a_verdict_is_judged_when_it_is_needed(tmp_path: Path) -> None:
    """Examples without a verdict are judged until the target is met; the rest wait in the rejects, line by line."""
    with scripted_endpoint() as endpoint:
        drive(tmp_path, config_of(endpoint, target=30, judge=None))
        for target in (10, 12):
            tree = config_of(endpoint, target=target)
            drive(tmp_path, tree)
            assert len(dataset_of(tmp_path / "run")) == target
            assert _reasons(tmp_path / "run") == {"over_target": 30 - target}
            assert endpoint.count("judge") < 30
            _assert_again_changes_nothing(tmp_path, tree, endpoint)
        assert endpoint.count("generate") == 30


def test_everything_taken_up_has_its_line_at_the_end(tmp_path: Path) -> None:
    """Examples that were taken up for a verdict and not needed any more, wherever they waited, are in the rejects."""
    with scripted_endpoint() as endpoint:
        drive(tmp_path, config_of(endpoint, target=60, judge=None))
        # Twenty bad ones lower the expected yield, so that much is under way when three good ones meet the target.
        endpoint.reply = lambda _: Reply(scores(2 if endpoint.count("judge") <= 20 else 5))
        tree = config_of(endpoint, target=3, endpoints__max_in_flight=1)
        drive(tmp_path, tree)
        assert len(dataset_of(tmp_path / "run")) == 3
        assert _reasons(tmp_path / "run") == {"low_score": 20, "over_target": 37}
        _assert_again_changes_nothing(tmp_path, tree, endpoint)


def test_a_raised_target_takes_the_surplus_offline_too(tmp_path: Path) -> None:
    """Offline, a higher target is filled from the surplus as far as that goes, without a request."""
    with scripted_endpoint() as endpoint:
        drive(tmp_path, config_of(endpoint, target=30))
        drive(tmp_path, config_of(endpoint, target=10), offline=True)
        assert len(dataset_of(tmp_path / "run")) == 10
        sent = endpoint.count()
        drive(tmp_path, config_of(endpoint, target=25), offline=True)
        assert len(dataset_of(tmp_path / "run")) == 25
        assert endpoint.count() == sent


# --- another config ------------------------------------------------------------------------------


def _graded(asked: Asked) -> Reply:
    return Reply(scores(3 + 2 * _share(asked))) if asked.kind == "judge" else usual_reply(asked)


def test_another_min_score_decides_again_without_a_request(tmp_path: Path) -> None:
    """Raised offline, the bound drops what is below it; put back, the same examples are accepted, for free."""
    with scripted_endpoint(_graded) as endpoint:
        tree = config_of(endpoint, target=30)
        drive(tmp_path, tree)
        before = (tmp_path / "run" / "dataset.jsonl").read_bytes()
        sent = endpoint.count()
        strict = config_of(endpoint, target=30, judge__min_score=4.5)
        drive(tmp_path, strict, offline=True)
        kept = dataset_of(tmp_path / "run")
        assert 0 < len(kept) < 30
        assert all(line["metadata"]["score"] >= 4.5 for line in kept)
        drive(tmp_path, tree, offline=True)
        assert (tmp_path / "run" / "dataset.jsonl").read_bytes() == before
        assert endpoint.count() == sent
        _assert_again_changes_nothing(tmp_path, tree, endpoint)


def test_a_raised_min_score_tops_up_to_the_target(tmp_path: Path) -> None:
    """Online, what the higher bound drops is made up for by new examples; nothing answered is asked again."""
    with scripted_endpoint(_graded) as endpoint:
        drive(tmp_path, config_of(endpoint, target=20))
        strict = config_of(endpoint, target=20, judge__min_score=4.5)
        drive(tmp_path, strict)
        lines = dataset_of(tmp_path / "run")
        assert len(lines) == 20
        assert all(line["metadata"]["score"] >= 4.5 for line in lines)
        for kind in ("generate", "judge"):
            assert len(endpoint.names(kind)) == len(set(endpoint.names(kind)))
        _assert_again_changes_nothing(tmp_path, strict, endpoint)


def test_another_rubric_asks_for_verdicts_only(tmp_path: Path) -> None:
    """After the rubric changed, examples are `pending_judge` offline; online only their verdicts are asked for."""
    with scripted_endpoint() as endpoint:
        drive(tmp_path, config_of(endpoint))
        generated, judged = endpoint.count("generate"), endpoint.count("judge")
        other = config_of(endpoint, judge={"criteria": {"quality": "Would you send this to a customer?"}})
        drive(tmp_path, other, offline=True)
        assert dataset_of(tmp_path / "run") == []
        assert _reasons(tmp_path / "run")["pending_judge"] >= 20
        assert endpoint.count() == endpoint.count("topics") + generated + judged
        drive(tmp_path, other)
        assert len(dataset_of(tmp_path / "run")) == 20
        assert endpoint.count("generate") == generated
        assert judged + 20 <= endpoint.count("judge") <= judged + generated
        _assert_again_changes_nothing(tmp_path, other, endpoint)


def test_other_filters_decide_again_in_place(tmp_path: Path) -> None:
    """A filter that is turned on drops accepted examples, turned off it gives them back in the same order."""
    with scripted_endpoint() as endpoint:
        tree = config_of(endpoint)
        drive(tmp_path, tree)
        before = (tmp_path / "run" / "dataset.jsonl").read_bytes()
        marked = dataset_of(tmp_path / "run")[7]["messages"][1]["content"][:12]
        sent = endpoint.count()
        drive(tmp_path, config_of(endpoint, filters={"patterns": [{"name": "marked", "regex": marked}]}), offline=True)
        assert len(dataset_of(tmp_path / "run")) == 19
        assert _reasons(tmp_path / "run")["marked"] == 1
        drive(tmp_path, tree, offline=True)
        assert (tmp_path / "run" / "dataset.jsonl").read_bytes() == before
        assert endpoint.count() == sent


def test_another_generation_needs_consent(tmp_path: Path) -> None:
    """A changed generation is refused with the name of the field; accepted, the run goes on with both kinds."""
    with scripted_endpoint() as endpoint:
        drive(tmp_path, config_of(endpoint))
        before, sent = truth_of(tmp_path / "run"), endpoint.count()
        changed = config_of(endpoint, target=25, generation={"temperature": 0.3})
        with pytest.raises(UsageError, match=r"generation\.temperature: 0\.8 -> 0\.3"):
            drive(tmp_path, changed)
        assert truth_of(tmp_path / "run") == before
        assert endpoint.count() == sent
        first = dataset_of(tmp_path / "run")
        drive(tmp_path, changed, accept_change=True)
        assert len(dataset_of(tmp_path / "run")) == 25
        assert dataset_of(tmp_path / "run")[:20] == first
        _assert_again_changes_nothing(tmp_path, changed, endpoint)


def test_an_answer_is_read_as_it_was_asked_for(tmp_path: Path) -> None:
    """After `generation.turns` was changed with consent, the earlier one-turn answers still are what they were."""
    with scripted_endpoint() as endpoint:
        drive(tmp_path, config_of(endpoint))
        first = dataset_of(tmp_path / "run")
        drive(tmp_path, config_of(endpoint, generation={"turns": 2}), accept_change=True)
        assert dataset_of(tmp_path / "run") == first


def test_offline_decides_what_was_answered_and_not_decided(tmp_path: Path) -> None:
    """Answers whose decisions a power loss took are decided offline; what was never answered is left alone."""
    with scripted_endpoint() as endpoint:
        tree = config_of(endpoint)
        drive(tmp_path, tree)
        journal = tmp_path / "run" / "journal-000001.log"
        lines = journal.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if not re.search(rb'"t":"(accept|reject)"', line[:80])]
        journal.write_bytes(b"".join(kept))
        sent = endpoint.count()
        drive(tmp_path, tree, offline=True)
        assert len(dataset_of(tmp_path / "run")) == 20
        assert endpoint.count() == sent


# --- what happens to files -----------------------------------------------------------------------


@pytest.mark.parametrize("gone", ["dataset.jsonl", "rejects.jsonl", "run.json"])
def test_a_deleted_file_is_made_again(tmp_path: Path, gone: str) -> None:
    """Everything but the journal can be deleted: it comes back byte for byte, without a request."""
    with scripted_endpoint(_mixed) as endpoint:
        tree = config_of(endpoint)
        drive(tmp_path, tree)
        before, sent = truth_of(tmp_path / "run"), endpoint.count()
        (tmp_path / "run" / gone).unlink()
        drive(tmp_path, tree)
        assert truth_of(tmp_path / "run") == before
        assert endpoint.count() == sent


def test_deleted_metrics_are_counted_again(tmp_path: Path) -> None:
    """The funnel, the reasons and the tokens come out of the journal as they were counted live."""
    with scripted_endpoint(_mixed) as endpoint:
        tree = config_of(endpoint, endpoints__price={"prompt": 1.0, "completion": 2.0})
        first = drive(tmp_path, tree)
        (tmp_path / "run" / "metrics.json").unlink()
        second = drive(tmp_path, tree)
        assert _funnel(second) == _funnel(first)
        for name in ("rejected", "tokens", "topics"):
            assert second.metrics[name] == first.metrics[name], name
        assert second.metrics["cost_usd"] == pytest.approx(first.metrics["cost_usd"])


def test_a_generation_change_is_noticed_without_the_manifest(tmp_path: Path) -> None:
    """The journal knows the generation that the run began with, so deleting run.json does not let another one in."""
    with scripted_endpoint() as endpoint:
        drive(tmp_path, config_of(endpoint))
        (tmp_path / "run" / "run.json").unlink()
        with pytest.raises(UsageError, match=r"generation\.temperature"):
            drive(tmp_path, config_of(endpoint, generation={"temperature": 0.1}))


@pytest.mark.parametrize("name", ["dataset.jsonl", "rejects.jsonl"])
@pytest.mark.parametrize("damage", ["cut", "edited", "added"])
def test_a_foreign_change_of_an_output_is_mended(tmp_path: Path, name: str, damage: str) -> None:
    """A cut last line, an edited line or one too many: the file is what the journal says again."""
    with scripted_endpoint(_mixed) as endpoint:
        tree = config_of(endpoint)
        drive(tmp_path, tree)
        before = truth_of(tmp_path / "run")
        content = before[name]
        half = len(content) // 2
        edited = content[:half] + b"#" + content[half + 1 :]
        mangled = {"cut": content[:-20], "edited": edited, "added": content + b"{}\n"}
        (tmp_path / "run" / name).write_bytes(mangled[damage])
        drive(tmp_path, tree)
        assert truth_of(tmp_path / "run") == before


def _damage(run_folder: Path, kind: str) -> None:
    journal = run_folder / "journal-000001.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    at = next(index for index, line in enumerate(lines) if f'"t":"{kind}"'.encode() in line)
    lines[at] = lines[at][:60] + b"~" + lines[at][61:]
    journal.write_bytes(b"".join(lines))


def test_a_task_that_a_damaged_line_hid_is_not_planned_twice(tmp_path: Path) -> None:
    """Listed topics whose line is damaged come again, their tasks do not: the run stops as before and asks nothing."""
    (tmp_path / "topics.txt").write_text("one\ntwo\nthree", encoding="utf-8")
    with scripted_endpoint(lambda asked: Reply(scores(2)) if asked.kind == "judge" else usual_reply(asked)) as endpoint:
        generation = {"examples_per_topic": 2, "max_examples_per_topic": 2}
        tree = config_of(endpoint, topics={"file": "topics.txt"}, generation=generation, facets={})
        with pytest.raises(StoppedEarly):
            drive(tmp_path, tree)
        sent = endpoint.count()
        _damage(tmp_path / "run", "topics")
        with pytest.raises(StoppedEarly, match="no more topics"):
            drive(tmp_path, tree)
        assert endpoint.count() == sent


@pytest.mark.parametrize("kind", ["task", "topics", "answer-generate", "answer-judge", "accept"])
def test_a_damaged_journal_line_costs_no_more_than_what_it_held(tmp_path: Path, kind: str) -> None:
    """A flipped byte in one frame of any kind: the run goes on to exactly N unique examples, and asks little."""
    with scripted_endpoint() as endpoint:
        tree = config_of(endpoint, target=20)
        drive(tmp_path, tree)
        sent = endpoint.count()
        _damage(tmp_path / "run", kind)
        drive(tmp_path, tree)
        ids = [line["id"] for line in dataset_of(tmp_path / "run")]
        assert len(ids) == len(set(ids)) == 20
        assert endpoint.count() <= sent + 25
        _assert_again_changes_nothing(tmp_path, tree, endpoint)
