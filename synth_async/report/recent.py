"""The speed of the last minute, from counts that are noted now and then."""

from __future__ import annotations

from collections import deque

from synth_async.stages.measured import RecentRate

__all__ = ["Recent"]

_WINDOW_S = 60.0
_EVERY_S = 1.0


class Recent:
    """Notes counts against a clock in seconds, and tells what a minute (or the time since the start) added to them."""

    def __init__(self) -> None:
        self._noted: deque[tuple[float, int, int, int]] = deque()

    def note(self, now: float, *, accepted: int, requests: int, http_429: int) -> RecentRate:
        """The counts of this moment; returns what the last minute added."""
        if not self._noted or now - self._noted[-1][0] >= _EVERY_S:
            self._noted.append((now, accepted, requests, http_429))
        while len(self._noted) > 1 and now - self._noted[1][0] >= _WINDOW_S:
            self._noted.popleft()
        since, accepted_before, requests_before, refused_before = self._noted[0]
        return RecentRate(
            now - since, accepted - accepted_before, requests - requests_before, http_429 - refused_before
        )
