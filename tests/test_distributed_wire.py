"""What crosses between driver and workers."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_async.distributed.wire import failure_of, raised
from synth_async.errors import (
    DiskFailure,
    EndpointRefused,
    RateLimited,
    RequestRejected,
    StoppedEarly,
    SynthAsyncError,
    TransientFailure,
)

_HINTS = st.none() | st.floats(0, 1e6)
_ERRORS: st.SearchStrategy[SynthAsyncError] = st.one_of(
    st.builds(lambda text, hint: RateLimited(text, hint_s=hint), st.text(), _HINTS),
    st.builds(
        lambda text, kind, hint, connected: TransientFailure(text, kind=kind, hint_s=hint, connected=connected),
        st.text(),
        st.text(),
        _HINTS,
        st.booleans(),
    ),
    st.builds(lambda text, status: RequestRejected(text, status=status), st.text(), st.integers(400, 499)),
    st.builds(EndpointRefused, st.text()),
    st.builds(DiskFailure, st.text()),
)


@given(_ERRORS)
def test_an_error_is_the_same_on_the_other_side(error: SynthAsyncError) -> None:
    """Class, message and everything that the limits and the retry policy look at."""
    found = raised(pickle.loads(pickle.dumps(failure_of(error))))  # noqa: S301 - our own bytes
    assert type(found) is type(error)
    assert (str(found), vars(found)) == (str(error), vars(error))


@pytest.mark.parametrize("error", [StoppedEarly("enough"), SynthAsyncError("what?")])
def test_an_error_that_no_exchange_raises_is_a_transient_one(error: SynthAsyncError) -> None:
    """What a worker did not expect ends no run: the request is tried again."""
    found = raised(failure_of(error))
    assert isinstance(found, TransientFailure)
    assert str(found) == str(error)
