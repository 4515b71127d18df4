"""What a request is paid from, as the endpoint sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from synth_async.errors import EndpointRefused, RateLimited, RequestRejected, TransientFailure
from synth_async.records import ChatRequest, Usage

__all__ = ["Lease", "Purse", "is_free"]


@dataclass(slots=True)
class Lease:
    """The most that one request, or a batch of them, can take. `is_sent` from the moment on in which it is sent."""

    number: int
    endpoint: str
    tokens: int
    usd: float
    is_sent: bool = False
    requests: int = 1
    is_batch: bool = False


class Purse(Protocol):
    """Leases room for a request before it is sent, and takes back what it did not need."""

    async def lease(self, request: ChatRequest, prompt_tokens: int) -> Lease:
        """A lease for a request whose prompt has at most so many tokens; raises `StoppedEarly` when all is spent."""
        ...

    def settle(self, request: ChatRequest, lease: Lease, usage: Usage | None, *, is_free: bool) -> None:
        """The request came to its end."""
        ...

    async def lease_batch(self, batch: str, lines: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """(number of the lease, how many of the first lines it is for); a line is (prompt, completion) at the most.

        Raises `StoppedEarly` when all is spent.
        """
        ...

    def settle_batch(self, batch: str, usage: Usage, *, answered: int, failed: int) -> None:
        """The batch came to its end: so many lines were answered now with `usage` together, so many for nothing."""
        ...


def is_free(error: BaseException | None) -> bool:
    """Whether a failed request was certainly not charged: the endpoint refused it, or was never reached."""
    if isinstance(error, TransientFailure):
        return not error.connected or error.kind.startswith("http_")
    return isinstance(error, RateLimited | RequestRejected | EndpointRefused)
