from __future__ import annotations

from typing import Any

import pytest

from synth_async import Deduplicator, Duplicate
from synth_async.errors import UsageError

QUESTION = "My card was charged twice for the March invoice, and the second charge has not been refunded yet."
REPLY = "I can see both charges. The second one is a pending authorisation that drops off within five working days."


def test_what_is_new_is_kept_and_what_repeats_is_named() -> None:
    """`add` keeps a document or says what it repeats; a duplicate is not kept."""
    seen = Deduplicator()
    assert seen.add("a", QUESTION) is None
    assert seen.add("b", f"{QUESTION.upper()}  ") == Duplicate("a", 1.0, exact=True)
    near = seen.add("c", QUESTION.replace("twice", "two times"))
    assert near is not None
    assert (near.of, near.exact) == ("a", False)
    assert 0.8 < near.similarity < 1
    assert seen.add("d", REPLY) is None
    assert len(seen) == 2


def test_find_keeps_nothing() -> None:
    """Looking up changes nothing, whether something is found or not."""
    seen = Deduplicator()
    assert seen.find(QUESTION) is None
    assert seen.find(QUESTION) is None
    assert len(seen) == 0
    seen.add("a", QUESTION)
    assert seen.find(QUESTION) == Duplicate("a", 1.0, exact=True)


def test_the_threshold_is_the_verified_similarity() -> None:
    """Strictly above it is a duplicate; at 1 only equal texts are."""
    edited = QUESTION.replace("twice", "two times")
    strict, loose = Deduplicator(threshold=1), Deduplicator(threshold=0.5)
    strict.add("a", QUESTION)
    loose.add("a", QUESTION)
    assert strict.find(edited) is None
    assert loose.find(edited) is not None


MESSAGES = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": REPLY}]


@pytest.mark.parametrize(
    "same",
    [
        [{"role": "system", "content": "Help."}, *MESSAGES],
        {"messages": MESSAGES},
        {"prompt": QUESTION, "completion": REPLY},
        {"instruction": QUESTION, "output": REPLY},
        {"conversations": [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": REPLY}]},
    ],
    ids=["messages", "row", "prompt", "alpaca", "sharegpt"],
)
def test_a_conversation_is_one_in_any_shape(same: Any) -> None:
    """Messages and chat rows of the common shapes are compared by their turns, the system message left out."""
    seen = Deduplicator()
    seen.add("a", MESSAGES)
    assert seen.add("b", same) == Duplicate("a", 1.0, exact=True)


def test_fields_say_which_turns_are_compared() -> None:
    """With `fields="user"` another answer to the same question is a duplicate."""
    other = [MESSAGES[0], {"role": "assistant", "content": "No idea, sorry about that one."}]
    both, user = Deduplicator(), Deduplicator(fields="user")
    both.add("a", MESSAGES)
    user.add("a", MESSAGES)
    assert both.find(other) is None
    assert user.find(other) == Duplicate("a", 1.0, exact=True)


@pytest.mark.parametrize("wrong", [{"no": "turns"}, [{"role": "user", "content": 7}], []])
def test_what_holds_no_text_is_refused(wrong: Any) -> None:
    """The error says that it cannot be compared."""
    with pytest.raises(UsageError, match="not a document that can be compared"):
        Deduplicator().add("a", wrong)


@pytest.mark.parametrize("threshold", [0, 1.01, 80])
def test_a_threshold_is_a_share(threshold: float) -> None:
    """80 is not 0.80."""
    with pytest.raises(UsageError, match="above 0 and up to 1"):
        Deduplicator(threshold)
