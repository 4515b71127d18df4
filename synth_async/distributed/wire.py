"""What driver and workers say to each other: plain tuples, sent in blocks.

Errors cross as their name and what they were made of, and are the same errors on the other side.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from synth_async.errors import (
    DiskFailure,
    EndpointRefused,
    RateLimited,
    RequestRejected,
    SynthAsyncError,
    TransientFailure,
)

__all__ = ["Failure", "Head", "Opened", "Question", "Reply", "failure_of", "raised"]


class Head(NamedTuple):
    """What an answer is journaled under: the frame without its body."""

    key: str
    kind: str
    fields: dict[str, Any]


class Question(NamedTuple):
    """A request that the limits have let go: its number with the driver, where to, and the body."""

    number: int
    endpoint: str
    body: bytes
    head: Head


class Failure(NamedTuple):
    """An error: its class by name, its message, and what else it was made of."""

    name: str
    message: str
    fields: dict[str, Any]


class Reply(NamedTuple):
    """What came of a question. `headers` are those about limits; `is_kept` where the worker has journaled the body."""

    number: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    latency_s: float
    is_kept: bool
    failure: Failure | None


class Opened(NamedTuple):
    """A worker that is ready: the process, the host, and whether it writes into the run folder.

    Where there is a `problem`, it is not, and the user has to put that right.
    """

    pid: int
    host: str
    is_shared: bool
    problem: str


_ATTRIBUTES: Mapping[type[SynthAsyncError], tuple[str, ...]] = {
    RateLimited: ("hint_s",),
    TransientFailure: ("kind", "hint_s", "connected"),
    RequestRejected: ("status",),
    EndpointRefused: (),
    DiskFailure: (),
}
_CLASSES = {cls.__name__: cls for cls in _ATTRIBUTES}


def failure_of(error: SynthAsyncError) -> Failure:
    """An error as it is sent. One that no exchange raises arrives as a transient one of the kind `worker`."""
    cls = next((cls for cls in _ATTRIBUTES if type(error) is cls), None)
    if cls is None:
        return Failure("TransientFailure", str(error), {"kind": "worker", "hint_s": None, "connected": True})
    return Failure(cls.__name__, str(error), {name: getattr(error, name) for name in _ATTRIBUTES[cls]})


def raised(failure: Failure) -> SynthAsyncError:
    """The error to raise for what was sent."""
    return _CLASSES[failure.name](failure.message, **failure.fields)
