"""What the server was asked, what it answered and what it charged: the log that utilisation is computed from."""

from __future__ import annotations

import resource
import sys
import time
from collections import Counter, OrderedDict
from typing import Any

# A day and a bit at one entry a second: a run that lasts longer loses its oldest seconds, and nothing else.
_SECONDS_KEPT = 100_000


class Ledger:
    """Counts since the server started. A body is known by 64 bits of its hash: about 100 bytes of memory each."""

    def __init__(self) -> None:
        self.started_at = time.time()
        self.cpu_s_at_start = time.process_time()
        self.arrivals = 0
        self.open = 0
        self.most_open = 0
        self.by_status: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.answered = 0
        self.tokens_charged = 0
        self.tokens_used = 0
        self.first_accepted_at: float | None = None
        self.last_accepted_at: float | None = None
        self._seconds: OrderedDict[int, list[int]] = OrderedDict()
        self._times_asked: Counter[int] = Counter()
        self._answered_bodies: set[int] = set()
        self._asked_again: set[int] = set()
        self._answered_again: set[int] = set()

    def arrive(self, body_hash: int) -> tuple[int, int]:
        """Count a chat request: (its number, from 0; how often this very body was asked before)."""
        if body_hash in self._answered_bodies:
            self._asked_again.add(body_hash)
        self.arrivals += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        self._times_asked[body_hash] += 1
        return self.arrivals - 1, self._times_asked[body_hash] - 1

    def accept(self, tokens: int, unix_time: float) -> None:
        """A request passed the limits and was charged `tokens`."""
        self.tokens_charged += tokens
        if self.first_accepted_at is None:
            self.first_accepted_at = unix_time
        self.last_accepted_at = unix_time
        second = int(unix_time)
        entry = self._seconds.get(second)
        if entry is None:
            entry = self._seconds[second] = [0, 0]
            if len(self._seconds) > _SECONDS_KEPT:
                self._seconds.popitem(last=False)
        entry[0] += 1
        entry[1] += tokens

    def answer(self, body_hash: int, tokens: int) -> None:
        """A whole, well-formed 200 was made; `tokens` is its `usage.total_tokens`."""
        self.answered += 1
        self.tokens_used += tokens
        if body_hash in self._answered_bodies:
            self._answered_again.add(body_hash)
        self._answered_bodies.add(body_hash)

    def close(self, status: str) -> None:
        """The exchange ended: an HTTP status, `reset`, or `abandoned` where the client left first."""
        self.open -= 1
        self.by_status[status] += 1

    def as_json(self) -> dict[str, Any]:
        """The body of `GET /_simulator/stats`. Seconds and bytes are in the names; times are Unix times."""
        return {
            "simulated": True,
            "started_at": self.started_at,
            "now": time.time(),
            "requests": self.arrivals,
            "requests_by_status": dict(self.by_status),
            "faults": dict(self.faults),
            "answered": self.answered,
            "open": self.open,
            "most_open": self.most_open,
            "tokens_charged": self.tokens_charged,
            "tokens_used": self.tokens_used,
            "first_accepted_at": self.first_accepted_at,
            "last_accepted_at": self.last_accepted_at,
            "accepted": sum(count for count, _ in self._seconds.values()),
            "accepted_per_second": [[second, count, tokens] for second, (count, tokens) in self._seconds.items()],
            "distinct_bodies_answered": len(self._answered_bodies),
            "bodies_asked_again_after_answer": len(self._asked_again),
            "bodies_answered_more_than_once": len(self._answered_again),
            "cpu_s": time.process_time() - self.cpu_s_at_start,
            "cpu_s_with_start": time.process_time(),
            "max_rss_bytes": _max_rss_bytes(),
        }


def _max_rss_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux kibibytes
