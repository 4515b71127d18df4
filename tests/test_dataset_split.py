"""No topic stands on both sides, nothing leaks, and a growing dataset moves nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chat_rows import example, write_rows
from hypothesis import given
from hypothesis import strategies as st

from synth_async.dataset.decontaminate import Leak, Leaks
from synth_async.dataset.split import Suite, is_held_out, topic_of
from synth_async.stages.conversations import conversation_of_row

topics = st.text(min_size=1, max_size=20)


@given(topics, st.integers(0, 5), st.floats(0.01, 0.9), st.floats(0.0, 0.09))
def test_a_side_is_the_topics_own(topic: str, seed: int, share: float, more: float) -> None:
    """The side asks for nothing but topic, seed and share; a larger share keeps what a smaller one held out."""
    first = is_held_out(topic, share=share, seed=seed)
    assert first == is_held_out(topic, share=share, seed=seed)
    assert not first or is_held_out(topic, share=share + more, seed=seed)


def test_the_share_is_that_of_the_topics_and_the_seed_draws_anew() -> None:
    """Of 20,000 topics a tenth is held out, within the spread of chance; another seed holds out others."""
    drawn = [{number for number in range(20_000) if is_held_out(f"t{number}", share=0.1, seed=seed)} for seed in (0, 1)]
    assert all(1_850 < len(each) < 2_150 for each in drawn)
    assert len(drawn[0] & drawn[1]) < 300


def test_a_topic_is_the_same_in_any_spelling() -> None:
    """Case, white space and typography make no other topic; without one, the first user turn stands for it."""
    row = example(1, topic="Refund \u2013 after  a trial")
    assert topic_of(conversation_of_row(row), row) == "refund - after a trial"
    bare = {"prompt": "Where IS it?", "completion": "Here."}
    assert topic_of(conversation_of_row(bare), bare) == "where is it?"


def test_a_suite_has_one_test_a_topic_and_keeps_most_of_them_as_the_data_grows() -> None:
    """The draw goes by the hash of the topic: among twice as many topics, what stays drawn was drawn before."""

    def drawn(count: int) -> list[dict[str, Any]]:
        suite = Suite(10, seed=0, rubric={"accuracy": "Is it right?"})
        for number in [*range(count), *range(count)]:
            row = example(number, topic=f"topic {number}")
            suite.offer(topic_of(conversation_of_row(row), row), conversation_of_row(row))
        return suite.tests()

    few, many = drawn(50), drawn(100)
    assert len({test["topic"] for test in few}) == len(few) == len(many) == 10
    assert {test["topic"] for test in many if int(test["topic"].split()[1]) < 50} <= {test["topic"] for test in few}
    assert set(few[0]) == {"id", "topic", "prompt", "reference", "rubric"}
    assert few[0]["prompt"][-1]["role"] == "user"
    assert few[0]["reference"].startswith("a")


QUESTION = "When the card on file has expired, which page lets the owner of a workspace put in a new one today?"
GRAM = "the first of the month is the day on which every open invoice of a workspace is sent out again by mail"


def leak(folder: Path, evaluation: object, asked: str, said: str) -> Leak | None:
    """What the example repeats of one evaluation row."""
    leaks = Leaks((write_rows(folder / "eval.jsonl", {"unrelated": "x"}, evaluation),), threshold=0.80)
    return leaks.find(conversation_of_row({"prompt": asked, "completion": said}))


def test_a_planted_leak_of_each_kind_is_found(tmp_path: Path) -> None:
    """13 words in a row, a near-duplicate of the whole, and of the question alone, each with file and line."""
    said = "Open Billing, Payment method, and choose Replace card; the next charge goes to the new one."
    overlap = leak(tmp_path, {"text": GRAM}, "When?", f"As we said, {GRAM.upper()}!")
    assert overlap is not None
    assert (overlap.reason, overlap.line) == ("ngram_overlap", 2)
    thirteen = " ".join(GRAM.split()[:13])
    assert leak(tmp_path, {"text": thirteen}, "When?", f"{QUESTION} {thirteen}") is not None
    whole = leak(tmp_path, {"prompt": "How do I pay?", "completion": said[:60]}, "How do I pay ?", said[:59])
    assert whole is not None
    assert whole.reason == "near_duplicate"
    short = "Which page replaces an expired card?"
    asked = leak(tmp_path, {"question": short, "answer": "Billing"}, f"{short} ", "Something else entirely.")
    assert asked is not None
    assert (asked.reason, asked.line, asked.file.name) == ("near_duplicate", 2, "eval.jsonl")


def test_what_shares_less_is_no_leak(tmp_path: Path) -> None:
    """Twelve words in a row are not thirteen, and short phrases of every conversation are not evaluation text."""
    twelve = " ".join(GRAM.split()[:12])
    assert (
        leak(tmp_path, {"text": f"{twelve} zebra quokka"}, "When?", f"{twelve} in other words, and {QUESTION}") is None
    )
    assert leak(tmp_path, {"prompt": QUESTION, "completion": "Yes, please."}, "Yes, please.", "Done, it is on.") is None


def test_plain_text_files_hold_a_text_a_line(tmp_path: Path) -> None:
    """`.txt` needs no JSON."""
    path = tmp_path / "eval.txt"
    path.write_text(f"nothing\n{GRAM}\n")
    found = Leaks((path,), threshold=0.8).find(conversation_of_row({"prompt": GRAM, "completion": "x"}))
    assert found is not None
    assert found.line == 2
