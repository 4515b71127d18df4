"""Latencies in bounded memory: a histogram whose buckets grow by one per cent.

Percentiles are by nearest rank and off by at most 0.5 %, or by half a microsecond where that is more; count, mean,
least and most are exact. From a microsecond to a day there are about 2,500 buckets, however many samples they count.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

__all__ = ["RELATIVE_ERROR", "LatencyHistogram", "LatencySummary"]

RELATIVE_ERROR = 0.005
"""Of a percentile."""

SMALLEST_S = 1e-6
_LONGEST_S = 86_400.0
_GROWTH = (1 + RELATIVE_ERROR) ** 2
_LOG_GROWTH = math.log(_GROWTH)


@dataclass(frozen=True, slots=True)
class LatencySummary:
    """Seconds; percentiles by nearest rank."""

    count: int
    min_s: float
    mean_s: float
    p50_s: float
    p90_s: float
    p95_s: float
    p99_s: float
    max_s: float


class LatencyHistogram:
    """Counts of samples by logarithmic bucket."""

    def __init__(self) -> None:
        self.count = 0
        self._sum_s = 0.0
        self._min_s = math.inf
        self._max_s = 0.0
        self._buckets: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Count a sample; negative ones, which only a clock set back can bring, count as 0."""
        seconds = max(0.0, seconds)
        self.count += 1
        self._sum_s += seconds
        self._min_s = min(self._min_s, seconds)
        self._max_s = max(self._max_s, seconds)
        self._buckets[_bucket(seconds)] += 1

    @property
    def buckets(self) -> int:
        """Buckets in use: what the memory grows with."""
        return len(self._buckets)

    def percentile(self, percent: float) -> float:
        """The latency in seconds that `percent` (above 0, at most 100) of the samples do not exceed; 0 without any."""
        rank = max(1, math.ceil(percent / 100 * self.count - 1e-9))
        if rank >= self.count:
            return self._max_s
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= rank:
                return min(self._max_s, max(self._min_s, _middle_s(bucket)))
        return self._max_s

    def summary(self) -> LatencySummary | None:
        """The usual figures; None without samples."""
        if not self.count:
            return None
        p50, p90, p95, p99 = (self.percentile(percent) for percent in (50, 90, 95, 99))
        return LatencySummary(self.count, self._min_s, self._sum_s / self.count, p50, p90, p95, p99, self._max_s)


def _bucket(seconds: float) -> int:
    """0 up to the smallest, then one for every factor of `_GROWTH`."""
    if seconds <= SMALLEST_S:
        return 0
    return math.ceil(math.log(min(seconds, _LONGEST_S) / SMALLEST_S) / _LOG_GROWTH)


def _middle_s(bucket: int) -> float:
    """The value that is off by the same factor at either edge of a bucket."""
    return SMALLEST_S / 2 if bucket == 0 else SMALLEST_S * _GROWTH**bucket / (1 + RELATIVE_ERROR)
