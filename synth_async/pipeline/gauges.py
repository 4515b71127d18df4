"""What a run reads off its endpoints and counts: how it uses them, what it measures, what it expects of the rest."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from synth_async.config import Config
from synth_async.endpoint.serving import ServingEndpoint
from synth_async.report.metrics import Tally
from synth_async.report.recent import Recent
from synth_async.stages.forecast import Forecast
from synth_async.stages.measured import Measured, Pace, RecentRate, StageWork, measured_in
from synth_async.stages.projection import projection

__all__ = ["Gauges"]


class Gauges:
    """Reads; it decides nothing. `earlier` is what `metrics.json` held when this process began, at `started_s`."""

    def __init__(self, config: Config, tally: Tally, earlier: Mapping[str, Any], *, started_s: float) -> None:
        self.endpoints: Mapping[str, ServingEndpoint] = {}
        self.recent = RecentRate()
        self._config = config
        self._tally = tally
        self._earlier = measured_in(earlier)
        self._lately = Recent()
        self._cpu_from: tuple[float, int] | None = None
        self._started_s = started_s
        self._start_s = 0.0

    @property
    def attempts(self) -> int:
        return sum(endpoint.counts.attempts for endpoint in self.endpoints.values())

    @property
    def answered(self) -> int:
        return sum(endpoint.counts.answered for endpoint in self.endpoints.values())

    @property
    def http_429(self) -> int:
        return sum(endpoint.counts.http_429 for endpoint in self.endpoints.values())

    @property
    def in_flight(self) -> int:
        return sum(endpoint.in_flight for endpoint in self.endpoints.values())

    @property
    def failures(self) -> dict[str, int]:
        """Requests that were sent again, by what was wrong."""
        return dict(sum((endpoint.counts.failures for endpoint in self.endpoints.values()), start=Counter()))

    @property
    def waiting_for(self) -> str:
        """Why an endpoint is not sent more; empty when nothing is wrong."""
        return "; ".join(why for endpoint in self.endpoints.values() if (why := endpoint.waiting_for()))

    @property
    def batches(self) -> list[dict[str, object]]:
        """Batches that are under way."""
        return [each for endpoint in self.endpoints.values() for each in endpoint.batches()]

    def tick(self, now_s: float) -> None:
        """Look at the counts, twice a second or so."""
        if self._cpu_from is None and self.answered:
            # What comes before the first answer (imports, connections, files) comes once.
            self._cpu_from, self._start_s = (time.process_time(), self.answered), now_s - self._started_s
        self.recent = self._lately.note(
            now_s, accepted=self._tally.accepted, requests=self.attempts, http_429=self.http_429
        )

    def utilisation(self, elapsed_s: float) -> dict[str, dict[str, float | None]]:
        """Share of each declared limit that was used, 0-1; None where none is declared."""
        minutes = max(elapsed_s, 1e-9) / 60
        used: dict[str, dict[str, float | None]] = {}
        for name, endpoint in self.endpoints.items():
            rpm, tpm = endpoint.settings.rpm, endpoint.settings.tpm
            used[name] = {
                "requests": round(endpoint.counts.answered / (rpm * minutes), 4) if rpm else None,
                "tokens": round(endpoint.counts.charged_tokens / (tpm * minutes), 4) if tpm else None,
            }
        return used

    def measured(self) -> Measured:
        """What was measured, by this process and those before it."""
        work: defaultdict[str, dict[str, StageWork]] = defaultdict(dict)
        for name, endpoint in self.endpoints.items():
            for section, done in endpoint.counts.by_stage.items():
                work[section][name] = done
        counted = measured_in({"accepted": self._tally.accepted, "rejected": self._tally.rejected})
        return Measured(
            counted.accepted,
            counted.decided,
            counted.repeats,
            self._tally.topics,
            dict(work),
            {name: _pace(endpoint) for name, endpoint in self.endpoints.items()},
            self._cpu_s(),
            self._start_s,
        ).after(self._earlier)

    def expected(self) -> Forecast | None:
        """What is left to do, where enough was measured to tell; of batches nobody can say how long they take."""
        if any(endpoint.settings.mode == "batch" for endpoint in self.endpoints.values()):
            return None
        measured = self.measured()
        return projection(self._config, measured, measured, recent=self.recent)

    def as_json(self) -> dict[str, Any]:
        """Keys of `metrics.json`: what was measured, the last minute, and what is expected of the rest."""
        found: dict[str, Any] = {**self.measured().as_json(), "recent": _recent_json(self.recent)}
        if (expected := self.expected()) is not None:
            found["expected"] = {
                "time_s": round(expected.time_s.middle, 1),
                "requests": round(expected.requests.middle),
                "tokens": round(expected.tokens.middle),
                "cost_usd": None if expected.cost_usd is None else round(expected.cost_usd.middle, 6),
            }
        return found

    def _cpu_s(self) -> float:
        if self._cpu_from is None:
            return 0.0
        since, answered = self._cpu_from
        return (time.process_time() - since) / max(1, self.answered - answered)


def _recent_json(recent: RecentRate) -> dict[str, float]:
    return {
        "seconds": round(recent.seconds, 1),
        "accepted": recent.accepted,
        "requests": recent.requests,
        "http_429": recent.http_429,
    }


def _pace(endpoint: ServingEndpoint) -> Pace:
    learnt, counts = endpoint.limits.learnt(), endpoint.counts
    return Pace(counts.attempts, counts.answered, endpoint.limits.paused_s, *learnt)
