"""Which worker asks for a key."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from synth_async.distributed.partition import worker_for

_KEYS = st.binary(min_size=16, max_size=16).map(bytes.hex)
_WORKERS = st.sets(st.integers(0, 1000), min_size=2, max_size=12)


@given(_KEYS, st.lists(st.integers(0, 1000), min_size=1, unique=True))
def test_the_order_of_the_workers_does_not_matter(key: str, workers: list[int]) -> None:
    """A key has one worker, whichever way they are listed."""
    assert worker_for(key, workers) == worker_for(key, reversed(workers)) == worker_for(key, sorted(workers))


@given(st.sets(_KEYS, min_size=1, max_size=20), _WORKERS, st.data())
def test_only_the_keys_of_a_lost_worker_move(keys: set[str], workers: set[int], data: st.DataObject) -> None:
    """Who had another worker keeps it: its journal holds what was answered, in the order of the attempts."""
    lost = data.draw(st.sampled_from(sorted(workers)))
    for key in keys:
        before, after = worker_for(key, workers), worker_for(key, workers - {lost})
        assert after != lost
        assert before in {after, lost}


def test_keys_are_shared_evenly_also_after_a_loss() -> None:
    """Of 20,000 keys each of five workers has a fifth, within 5 %; of four that are left, a quarter."""
    keys = [f"{number * 0x9E3779B97F4A7C15 % 2**128:032x}" for number in range(20_000)]
    for workers in ([0, 1, 2, 3, 4], [0, 1, 3, 4]):
        counts = Counter(worker_for(key, workers) for key in keys)
        assert all(abs(counts[worker] * len(workers) / len(keys) - 1) < 0.05 for worker in workers)
