from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_config import small_config

from synth_async.stages.topics import (
    DRY_BATCHES,
    TopicBatch,
    TopicPool,
    categories_request,
    planned_topics_request,
    read_topic_lines,
    topics_request,
)

_MARKS = ["", "1. ", "12) ", "(3) ", "[4] ", "5: ", "- ", "* ", "• ", "– ", "a) ", "**2.** ", "3. - ", "Topic 7: "]
_AROUND = ["{}", '"{}"', "“{}”", "'{}'", "**{}**", "*{}*", "`{}`", "__{}__", '"{}",']
_TOPICS = [
    "3D printer invoice is missing",
    "24-hour refund was promised",
    "2 factor login fails after a new phone",
    "1.5 kg parcel charged as 15 kg",
    "50% discount code is refused",
    "A. Smith's account is locked",
    "I was charged twice for order #4411",
    'Customer says "it never came" and wants a refund',
    "#1 complaint of the week: late parcels",
    "-20 °C and the heater is broken",
]


@pytest.mark.parametrize("topic", _TOPICS)
@pytest.mark.parametrize("mark", _MARKS)
def test_numbering_and_bullets_are_taken_off(mark: str, topic: str) -> None:
    """What a list puts before a line goes, what the topic itself begins with stays."""
    assert read_topic_lines(f"{mark}{topic}") == [topic]


@pytest.mark.parametrize("around", _AROUND)
@pytest.mark.parametrize("mark", ["", "1. ", "- "])
def test_quotes_and_emphasis_are_taken_off(mark: str, around: str) -> None:
    """Quotes and emphasis around a whole line are not part of the topic."""
    assert read_topic_lines(mark + around.format("the parcel is late")) == ["the parcel is late"]


def test_an_apostrophe_at_the_end_stays() -> None:
    """Only pairs of quotes are taken off."""
    assert read_topic_lines("refund for the Smiths'") == ["refund for the Smiths'"]
    assert read_topic_lines('"Late" and "broken"') == ['"Late" and "broken"']


@pytest.mark.parametrize("refusal", ["I'm sorry, but I can't help with that request.", "I cannot assist with this."])
def test_a_refusal_is_no_topic(refusal: str) -> None:
    """Nobody writes about what an answer declined; a single topic that speaks of what cannot be done is one."""
    assert read_topic_lines(refusal) == []
    assert read_topic_lines("Unable to log in after a password reset") == ["Unable to log in after a password reset"]
    assert read_topic_lines("I cannot find my invoice") == ["I cannot find my invoice"]


@pytest.mark.parametrize(
    "line",
    ["Here are 25 topics:", "Here is a list", "Sure! Here you go", "Certainly, topics follow", "## Edge cases",
     "Topics:", "**Common cases:**", "```", "```text", "", "  ", "ok", "x" * 401],
)  # fmt: skip
def test_what_is_no_topic_is_left_out(line: str) -> None:
    """Headings, introductions, fences, and lines that are too short or too long are not topics."""
    assert read_topic_lines(f"{line}\nthe parcel is late\n{line}") == ["the parcel is late"]


@pytest.mark.parametrize(
    "thought", ["<think>\none idea here\n</think>\n", "<Thinking>one idea</Thinking>", "one idea here\n</think>"]
)
def test_reasoning_is_not_read(thought: str) -> None:
    """Lines of the reasoning before the answer are not topics."""
    assert read_topic_lines(f"{thought}\nthe parcel is late") == ["the parcel is late"]
    assert read_topic_lines("<think>\nthe parcel is late") == []


def test_the_last_line_of_a_cut_answer_is_not_read() -> None:
    """An answer that ended for its length ends in the middle of a topic."""
    assert read_topic_lines("the parcel is late\nthe cup is br", is_cut=True) == ["the parcel is late"]


@given(st.text())
def test_any_text_gives_clean_lines(text: str) -> None:
    """Whatever comes, a topic is one line of 3 to 400 characters without blanks at its ends."""
    for topic in read_topic_lines(text):
        assert 3 <= len(topic) <= 400
        assert topic == " ".join(topic.split())


# --- the pool ------------------------------------------------------------------------------------


def _rows(*texts: str) -> list[tuple[str, str | None]]:
    return [(text, None) for text in texts]


def test_near_repeats_of_a_models_topics_are_refused() -> None:
    """A model's topic that differs in one word's ending is a repeat; another situation is not."""
    pool = TopicPool(near=True)
    first = "Customer wants a refund for a parcel that arrived two weeks late"
    other = "Customer cannot log in after changing the phone number"
    taken, fresh = pool.new_among(_rows(first, first.replace("parcel", "parcels"), other), most=9)
    assert [topic.text for topic in taken] == [first, other]
    assert [topic.index for topic in taken] == [0, 1]
    assert (fresh, pool.refused) == (2, 1)


def test_a_files_topics_are_refused_only_when_they_are_the_same() -> None:
    """A user's list is taken at its word: only case and white space do not count."""
    pool = TopicPool(near=False)
    first = "Customer wants a refund for a parcel that arrived two weeks late"
    near = first.replace("parcel", "parcels")
    taken, _ = pool.new_among(_rows(first, near, first.upper(), first.replace(" ", "  ")), most=9)
    assert [topic.text for topic in taken] == [first, near]


def test_no_more_are_taken_than_wanted_and_the_rest_counts_as_new() -> None:
    """`most` bounds what is added; the surplus is no sign that the source is running dry."""
    pool = TopicPool(near=True)
    taken, fresh = pool.new_among(_rows("aaa bbb", "ccc ddd", "eee fff"), most=2)
    assert (len(taken), fresh, len(pool)) == (2, 3, 2)


def test_three_poor_batches_in_a_row_are_dry() -> None:
    """Fewer than a tenth new, three times in a row; a good batch in between begins the count anew."""
    pool = TopicPool(near=True)
    for fresh in (2, 2, 3, 2, 2):
        pool.note_batch(25, fresh)
        assert not pool.is_dry()
    pool.note_batch(25, 2)
    assert pool.is_dry()
    assert DRY_BATCHES == 3


def test_each_category_runs_dry_by_itself() -> None:
    """Poor batches of one category say nothing about another."""
    pool = TopicPool(near=True)
    for _ in range(3):
        pool.note_batch(25, 0, "billing")
    assert pool.is_dry("billing")
    assert not pool.is_dry("refunds")
    assert not pool.is_dry()


def test_a_pool_that_evolves_is_dry_when_that_brings_nothing_either() -> None:
    """First nothing new comes, then batches grow out of what is there, and only when those are poor it is over."""
    pool = TopicPool(near=True, evolves=True)
    for _ in range(3):
        assert not pool.next_evolves()
        pool.note_batch(25, 0)
    assert pool.next_evolves()
    assert not pool.is_dry()
    for _ in range(3):
        assert not pool.is_dry()
        pool.note_batch(25, 0, evolves=True)
    assert pool.is_dry()


def test_an_evolving_batch_shows_what_it_grows_out_of() -> None:
    """Ten topics at the most, and in which way to go on from them; a category is named."""
    known = [f"topic number {number}" for number in range(100)]
    batch = TopicBatch(4, 25, category="refunds", evolves=True)
    prompt = topics_request(small_config(), "", batch, known).messages[0]["content"]
    assert sum(line in known for line in prompt.splitlines()) == 10
    assert "write new ones that go broader" in prompt
    assert "belongs to the category: refunds" in prompt


def test_the_request_for_categories_is_no_batch() -> None:
    """Its key is that of no batch with the same words."""
    asked = categories_request(small_config(), 8)
    assert "Write 8 categories" in asked.messages[0]["content"]
    assert asked.key != planned_topics_request(small_config(), 0, asked.messages).key


def test_exactly_a_tenth_is_not_poor() -> None:
    """The bound itself is good enough, and a file's batches (asked: 0) are never poor."""
    pool = TopicPool(near=True)
    for _ in range(4):
        pool.note_batch(20, 2)
        pool.note_batch(0, 0)
    assert not pool.is_dry()


def test_restored_topics_are_known() -> None:
    """What an earlier process took is in its place again, and refused when it comes once more."""
    pool = TopicPool(near=True)
    assert [topic.index for topic in pool.restore([("the parcel is late", "a"), ("the cup is broken", None)])] == [0, 1]
    assert pool.topics[0].category == "a"
    assert pool.new_among(_rows("The Parcel is late"), most=5) == ([], 0)


# --- the request ---------------------------------------------------------------------------------


def test_a_batchs_request_depends_on_its_number_and_what_is_known() -> None:
    """The same batch told the same is the same request, so that a resumed run finds its answer."""
    known = [f"topic number {number}" for number in range(100)]

    def key(batch: int, known: list[str], **changes: Any) -> str:
        return topics_request(small_config(**changes), "", TopicBatch(batch, 25), known).key

    assert key(3, known) == key(3, list(known))
    assert len({key(3, known), key(4, known), key(3, known[:50]), key(3, known, seed=1)}) == 4
    assert key(3, known) == key(3, known, target=5000, generation={"temperature": 0.1})


def test_at_most_forty_known_topics_are_shown() -> None:
    """The prompt does not grow with the run."""
    known = [f"topic number {number}" for number in range(1000)]
    prompt = topics_request(small_config(), "", TopicBatch(0, 25), known).messages[0]["content"]
    assert sum(line in known for line in prompt.splitlines()) == 40
    assert "Write 25 diverse" in prompt
