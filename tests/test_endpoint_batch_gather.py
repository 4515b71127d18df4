"""Which requests go into a batch file, and when, by a clock that the test holds."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from synth_async.config.models import Batch
from synth_async.endpoint.batch.gather import Gatherer
from synth_async.records import ChatRequest, Message, Stage


def _request(number: int, size: int = 40) -> ChatRequest:
    message: Message = {"role": "user", "content": "x" * size}
    return ChatRequest(f"{number:032x}", Stage.GENERATE, (message,), None, 8, "text")


def _encode(request: ChatRequest) -> bytes:
    return orjson.dumps({"model": "m", "messages": request.messages})


def _gathered(settings: dict[str, Any], sizes: list[int]) -> Gatherer:
    gatherer = Gatherer(Batch.model_validate(settings))
    for number, size in enumerate(sizes):
        request = _request(number, size)
        gatherer.add(request.key, request, 0.0)
    return gatherer


def test_a_file_is_sent_when_nothing_new_has_come_for_a_while() -> None:
    """Every request that comes begins the wait anew; without one there is nothing to wait for."""
    gatherer = Gatherer(Batch(gather_s=30))
    assert gatherer.due_s(0.0, None) is None
    gatherer.add("a", _request(1), 0.0)
    assert gatherer.due_s(10.0, None) == 20.0
    gatherer.add("b", _request(2), 10.0)
    assert gatherer.due_s(29.0, None) == 11.0
    assert gatherer.due_s(40.0, None) == 0.0
    gatherer.discard("a")
    gatherer.discard("b")
    assert gatherer.due_s(41.0, None) is None


def test_a_full_file_is_sent_at_once() -> None:
    """Full by its lines, its bytes, or by the tokens that the account has room for."""
    assert _gathered({"max_requests": 3}, [40] * 3).due_s(0.0, None) == 0.0
    assert _gathered({"max_bytes": 10_000}, [4_000] * 3).due_s(0.0, None) == 0.0
    assert _gathered({}, [4_000] * 3).due_s(0.0, 3_000) == 0.0
    assert _gathered({}, [4_000] * 3).due_s(0.0, 4_000) == 30.0


@given(
    st.lists(st.integers(0, 30_000), min_size=1, max_size=40),
    st.integers(1, 10),
    st.integers(10_000, 50_000),
    st.none() | st.integers(1, 20_000),
)
def test_files_keep_their_bounds_and_hold_every_request_once(
    sizes: list[int], most: int, most_bytes: int, room: int | None
) -> None:
    """In the order in which they came; only a request that is too large by itself passes a bound, and goes alone."""
    gatherer = _gathered({"max_requests": most, "max_bytes": most_bytes}, sizes)
    taken = []
    while len(gatherer):
        file = list(gatherer.take(_encode, room))
        assert 0 < len(file) <= most
        if len(file) > 1:
            assert sum(len(line.text) for line in file) <= most_bytes
            assert room is None or sum(line.tokens for line in file) <= room
        taken += [line.custom_id for line in file]
    assert taken == [_request(number).key for number in range(len(sizes))]


@given(st.integers(1, 12), st.integers(0, 12))
def test_lines_that_are_put_back_come_first_again(count: int, kept: int) -> None:
    """As if they had not been taken: order, and what makes a file full."""
    gatherer = _gathered({}, [400] * count)
    lines = list(gatherer.take(_encode, None))
    gatherer.put_back(lines[kept:])
    again = list(gatherer.take(_encode, None))
    assert [line.custom_id for line in again] == [line.custom_id for line in lines[kept:]]
    assert gatherer.due_s(0.0, 0) is None
