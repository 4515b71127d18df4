"""What a scan finds in a journal, beside what its frames say one by one."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_async.endpoint.purse import Lease
from synth_async.pipeline.budget import Amount
from synth_async.pipeline.frames import answer_frame, decision_frame, lease_frame, manifest_frame, task_frame
from synth_async.pipeline.journal_state import JournalState, NotePlan, read_answer, scan
from synth_async.records import ChatRequest, Drop, DropReason, Stage, Task, Topic, Verdict
from synth_async.stages.parsing import MalformedBody, read_completion
from synth_async.store.frames import Frame, encode_frame
from synth_async.store.journal import Journal

_TODAY = "today"
_TEXTS = st.one_of(st.sampled_from([',"messages":', '},"sample":9', '"body"']), st.text(max_size=10))
_VERDICT = Verdict({"quality": 5.0}, 5.0, "good", "m")


def _task(number: int, *, topic: int = 0, sample: int = 0, facets: dict[str, str] | None = None) -> Frame:
    messages = ({"role": "user", "content": ',"messages":['},)
    return task_frame(Task(f"{number:032x}", Topic(topic, ',"messages":[', None), sample, messages, facets or {}))  # type: ignore[arg-type]


def _answer(number: int, body: bytes, stage: Stage = Stage.GENERATE, endpoint: str = "e") -> Frame:
    request = ChatRequest(f"{number:032x}", stage, (), None, None, "text")
    return answer_frame(request, 1, endpoint, body)


def _body(prompt: int = 3, completion: int = 4, **more: Any) -> bytes:
    choice = {"message": {"content": "c"}, "finish_reason": "stop"}
    return orjson.dumps(
        {"choices": [choice], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}, **more}
    )


def _decision(number: int, *, accepted: bool, fingerprint: str = _TODAY, in_place: bool = False) -> Frame:
    drop = None if accepted else Drop(Stage.JUDGE, DropReason.LOW_SCORE, "2.0")
    return decision_frame(f"{number:032x}", fingerprint, drop, _VERDICT, in_place=in_place)


def _key(number: int) -> bytes:
    return number.to_bytes(16)


def _scan(folder: Path, frames: list[Frame], note_plan: NotePlan = lambda *_: None) -> JournalState:
    journal = Journal(folder, fsync="never", writer="test")
    for frame in frames:
        journal.append(frame)
    journal.close()
    return scan(Journal(folder, fsync="never", writer="test"), fingerprint=_TODAY, note_plan=note_plan)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.dictionaries(_TEXTS, _TEXTS, max_size=3)), max_size=8)
)
def test_the_plan_is_read_without_the_prompts(
    tmp_path_factory: pytest.TempPathFactory, planned: list[tuple[int, int, dict[str, str]]]
) -> None:
    """Samples per topic and the facets of each task come out right, whatever the texts around them look like."""
    tasks = [
        _task(number, topic=topic, sample=sample, facets=facets)
        for number, (topic, sample, facets) in enumerate(planned, start=1)
    ]
    noted: list[Mapping[str, str]] = []
    state = _scan(tmp_path_factory.mktemp("journal"), tasks, lambda _, facets: noted.append(facets))
    assert state.last_samples == {
        topic: max(sample for other, sample, _ in planned if other == topic) for topic, _, _ in planned
    }
    assert noted == [facets for _, _, facets in planned]


_BODIES = {
    "usual": (_body(), True),
    "on several lines": (b'{\n"choices": [{"message": {"content": null}}],\n"usage": {"prompt_tokens": 3}}', True),
    "blank lines first": (b"\n\n" + _body(), True),
    "lone surrogate": (_body().replace(b'"c"', b'"\\ud800"'), True),
    "content in parts": (b'{"choices":[{"message":{"content":[{"type":"text","text":"a"}]}}]}', True),
    "no usage": (b'{"choices":[{"message":{"content":"c"}}]}', True),
    "nested too deep for two": (b"[" * 1024 + b"]" * 1024, False),
    "an error": (b'{"error":{"message":"m"},"choices":[{"message":{"content":"c"}}]}', False),
    "an array with an error": (b'[{"error":{"message":"m"}}]', False),
    "no choices": (b'{"choices":[]}', False),
    "ended in an error": (b'{"choices":[{"message":{"content":"c"},"finish_reason":"error"}]}', False),
    "content that is none": (b'{"choices":[{"message":{"content":7}}]}', False),
    "no message": (b'{"choices":[{"text":"c"}]}', False),
    "HTML": (b"<html>", False),
    "nothing": (b"", False),
    "a number": (b"7", False),
}


@pytest.mark.parametrize("name", _BODIES)
def test_an_answer_counts_where_it_is_a_completion(tmp_path: Path, name: str) -> None:
    """A body that the transport did not take for an answer is none here either, however the frame holds it."""
    body, is_completion = _BODIES[name]
    state = _scan(tmp_path, [_task(1), _answer(1, _body(10, 20)), _answer(2, body)])
    assert (_key(2) in state.answers) == is_completion
    assert state.generated == 1 + is_completion
    usage = (
        10 + 3 * (b"prompt_tokens" in body and is_completion),
        20 + 4 * (b"completion_t" in body and is_completion),
    )
    assert state.spent == {"e": list(usage)}


_PARTS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "id": _TEXTS,
        "content": st.one_of(
            st.none(), _TEXTS, st.integers(-9, 9), st.just([]), st.just({"usage": {"prompt_tokens": 9}})
        ),
        "role": st.just("assistant"),
        "error": st.sampled_from([None, "", "bad", {"message": "m"}]),
        "finish_reason": st.sampled_from(["stop", "error", None]),
        "usage": st.one_of(_TEXTS, st.fixed_dictionaries({"prompt_tokens": st.integers(-1, 9)})),
        "details": st.one_of(_TEXTS, st.just({"content": "c", "usage": {"prompt_tokens": 8}, "error": "e"})),
    },
)


def _in_order(parts: dict[str, Any], order: list[str]) -> dict[str, Any]:
    return {name: parts[name] for name in sorted(parts, key=lambda name: order.index(name) if name in order else 99)}


@given(_PARTS, _PARTS, _PARTS, st.permutations(["choices", "usage", "message", "content", "details", "error"]), _TEXTS)
def test_a_scan_reads_answers_as_the_transport_did(
    top: dict[str, Any], choice: dict[str, Any], message: dict[str, Any], order: list[str], text: str
) -> None:
    """Whatever its layout: what the scan makes of an answer is what the transport made of the body."""
    chosen = _in_order({**choice, "message": _in_order({"role": text, **message}, order)}, order)
    body = orjson.dumps(_in_order({"model": text, **top, "choices": [chosen]}, order))
    try:
        expected = ("e", read_completion(body, fallback_model="").usage)
    except MalformedBody:
        with pytest.raises(MalformedBody):
            read_answer(encode_frame(_answer(1, body)))
    else:
        found = read_answer(encode_frame(_answer(1, body)))
        assert ((found.endpoint, found.usage), found.lease, found.batch) == (expected, None, None)


def test_the_last_completion_of_a_key_wins(tmp_path: Path) -> None:
    """A malformed body after a good one leaves the good one standing; all that was charged counts, by endpoint."""
    frames = [_answer(1, _body(1, 1)), _answer(1, _body(2, 2), endpoint="f"), _answer(1, b"<html>")]
    state = _scan(tmp_path, frames)
    journal = Journal(tmp_path, fsync="never", writer="test")
    assert journal.read(state.answers[_key(1)]) == frames[1]
    assert state.spent == {"e": [1, 1], "f": [2, 2]}
    assert state.generated == 1


def test_decisions_stand_in_the_order_that_counts(tmp_path: Path) -> None:
    """A decision made again goes to the end, unless it stands in the place of the earlier one."""
    first = [_task(number) for number in range(1, 5)] + [_decision(number, accepted=True) for number in range(1, 5)]
    again = [_decision(2, accepted=False, in_place=True), _decision(1, accepted=True), _decision(9, accepted=True)]
    state = _scan(tmp_path, first + again)
    assert list(state.decisions) == [_key(number) for number in (2, 3, 4, 1, 9)]
    assert state.accepted == 4


def test_only_the_last_decision_counts_as_stale_or_accepted(tmp_path: Path) -> None:
    """One that was made again with today's fingerprint is not stale any more."""
    state = _scan(
        tmp_path,
        [
            _decision(1, accepted=True, fingerprint="earlier"),
            _decision(2, accepted=True, fingerprint="earlier"),
            _decision(3, accepted=False),
            _decision(1, accepted=False, in_place=True),
        ],
    )
    assert (state.accepted, state.stale) == (1, 1)
    state.decisions.discard(_key(2))
    assert (state.accepted, state.stale, list(state.decisions)) == (0, 0, [_key(1), _key(3)])


def test_damage_takes_back_what_rested_on_it(tmp_path: Path) -> None:
    """Without its task nothing is decided, without its answer nothing is accepted; the rest stands."""
    frames = [frame for number in (1, 2, 3) for frame in (_task(number), _answer(number, _body()))]
    _scan(tmp_path, frames + [_decision(number, accepted=True) for number in (1, 2, 3)])
    segment = tmp_path / "journal-000001.log"
    lines = segment.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"task", b"tusk")
    lines[4] = lines[4].replace(b"answer", b"anwser")
    segment.write_bytes(b"".join(lines))
    state = scan(Journal(tmp_path, fsync="never", writer="test"), fingerprint=_TODAY)
    assert list(state.decisions) == [_key(2), _key(3)]
    assert state.accepted == 1


def test_a_manifest_is_found_and_an_empty_journal_is_empty(tmp_path: Path) -> None:
    """The last manifest counts; it alone does not make a run."""
    state = _scan(tmp_path, [manifest_frame({"target": 1}), manifest_frame({"target": 2})])
    assert state.is_empty
    assert state.manifest == {"target": 2}
    assert not _scan(tmp_path, [_task(1)]).is_empty


def test_a_scan_keeps_no_bodies(tmp_path: Path) -> None:
    """Memory goes with the keys, at most 200 bytes each, and not with what was written or answered."""
    frames = []
    for number in range(1, 1_501):
        judged = _answer(number + 10_000, _body(padding="x" * 300), Stage.JUDGE)
        frames += [
            _task(number, topic=number % 50, facets={"tone": "calm"}),
            _answer(number, _body(padding="y" * 2_000)),
        ]
        frames += [judged, _decision(number, accepted=True)]
    _scan(tmp_path, frames)
    del frames
    journal = Journal(tmp_path, fsync="never", writer="test")
    tracemalloc.start()
    state = scan(journal, fingerprint=_TODAY)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(state.answers) == 3_000
    assert held < 200 * 3_000


def test_the_last_attempt_counts_wherever_its_segment_stands(tmp_path: Path) -> None:
    """Two workers asked for one answer; the second attempt stands in the segment that was begun first."""
    request = ChatRequest(f"{1:032x}", Stage.JUDGE, (), None, None, "text")
    for attempt in (2, 1):
        worker = Journal(tmp_path, fsync="never", writer="test", worker=f"w{attempt}")
        worker.append(answer_frame(request, attempt, "e", _body(attempt=attempt)))
        worker.close()
    journal = Journal(tmp_path, fsync="never", writer="test")
    state = scan(journal, fingerprint=_TODAY)
    assert journal.read(state.answers[_key(1)]).fields["attempt"] == 2
    assert (state.answered, state.spent) == (2, {"e": [6, 8]})


def test_an_answer_closes_a_lease_that_stands_in_a_later_segment(tmp_path: Path) -> None:
    """A worker's segment may be older than the one of the driver that leased: what is closed counts once."""
    request = ChatRequest(f"{1:032x}", Stage.GENERATE, (), None, None, "text")
    worker = Journal(tmp_path, fsync="never", writer="test", worker="w")
    worker.append(answer_frame(request, 1, "e", _body(), lease=4))
    worker.close()
    driver = Journal(tmp_path, fsync="never", writer="test", segment_bytes=1)
    for number in (4, 5):
        driver.append(lease_frame(request.key, Lease(number, "e", 100, 0.0)))
    driver.close()
    state = scan(Journal(tmp_path, fsync="never", writer="test"), fingerprint=_TODAY)
    assert state.leases == {5: Amount(1, 100, 0.0)}
    assert state.next_lease == 6
