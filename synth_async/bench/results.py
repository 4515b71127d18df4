"""What a measurement found, as frozen records that JSON, the table and the chart are made from.

Throughput is per second of the benchmark's duration: from its begin to the last answer. Utilisation is over the time in
which requests were sent, by the log of the server where it is simulated, and by our own counts elsewhere.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from synth_async import __version__
from synth_async.bench.latency import LatencySummary
from synth_async.bench.measures import Second, Utilisation, binding, ramp_s, utilisation
from synth_async.bench.plan import BenchPlan
from synth_async.bench.recorder import Recorder
from synth_async.bench.servers import ServerLog
from synth_async.bench.traffic import Traffic
from synth_async.config.models import Endpoint

__all__ = ["BenchResult", "ClientCost", "EndpointResult", "ServerCost", "bench_result"]


@dataclass(frozen=True, slots=True)
class ServerCost:
    """What the simulated endpoint's own process took; none of it is in the client's figures."""

    cpu_s: float
    cpu_ms_per_request: float
    max_rss_bytes: int


@dataclass(frozen=True, slots=True)
class ClientCost:
    """What this process took, user and system CPU time apart, from the first answer on; until then it is `start_cpu_s`.

    `cpu_ms_per_request` leaves the start out, and with it the request that was answered first.
    """

    start_cpu_s: float
    user_cpu_s: float
    system_cpu_s: float
    cpu_ms_per_request: float
    max_rss_bytes: int


@dataclass(frozen=True, slots=True)
class EndpointResult:
    """One endpoint. Throughput is per second; `latency` is from sending to the answer, seconds.

    `latency_with_wait` begins when the client asked for permission to send. `counted_by` is `server log` or `client`;
    `token_unit` is what was counted against a limit on tokens.
    """

    name: str
    model: str
    simulated: bool
    duration_s: float
    sending_s: float
    attempts: int
    answered: int
    statuses: dict[str, int]
    attempts_per_success: float | None
    http_429_share: float
    throttled_s: float
    request_throughput: float
    prompt_token_throughput: float
    completion_token_throughput: float
    total_token_throughput: float
    latency: LatencySummary | None
    latency_with_wait: LatencySummary | None
    counted_by: str
    token_unit: str
    limits_per_minute: dict[str, float]
    binding_limit: str | None
    ramp_s: float | None
    utilisation: tuple[Utilisation, ...]
    seconds: tuple[Second, ...]
    server: ServerCost | None


@dataclass(frozen=True, slots=True)
class BenchResult:
    """A whole measurement. `drove` is `run` or `client`; `accepted` counts the examples of a run."""

    drove: str
    simulated: bool
    interrupted: bool
    stopped_early: str
    accepted: int | None
    python: str
    synth_async: str
    client: ClientCost
    endpoints: tuple[EndpointResult, ...]

    def as_json(self) -> dict[str, Any]:
        """The same as plain values; a second is a row of start, requests and tokens."""
        found = asdict(self)
        for one, shown in zip(self.endpoints, found["endpoints"], strict=True):
            shown["seconds"] = [[round(each.start_s, 3), each.requests, each.tokens] for each in one.seconds]
        return found


def bench_result(plan: BenchPlan, traffic: Traffic) -> BenchResult:
    """The figures of what was driven."""
    endpoints = tuple(
        _endpoint_result(recorder, traffic.logs.get(name), _settings(plan, name), traffic.sending_s)
        for name, recorder in traffic.recorders.items()
    )
    attempts = sum(one.attempts for one in endpoints)
    cpu_s = traffic.user_cpu_s + traffic.system_cpu_s
    return BenchResult(
        drove="client" if plan.client_only else "run",
        simulated=bool(endpoints) and all(one.simulated for one in endpoints),
        interrupted=traffic.interrupted,
        stopped_early=traffic.stopped_early,
        accepted=traffic.metrics.get("accepted"),
        python=platform.python_version(),
        synth_async=__version__,
        client=ClientCost(
            start_cpu_s=traffic.start_cpu_s,
            user_cpu_s=traffic.user_cpu_s,
            system_cpu_s=traffic.system_cpu_s,
            cpu_ms_per_request=1000 * cpu_s / max(1, attempts - 1),
            max_rss_bytes=traffic.max_rss_bytes,
        ),
        endpoints=endpoints,
    )


def _settings(plan: BenchPlan, name: str) -> Endpoint:
    return plan.loaded.config.endpoints[name]


def _endpoint_result(recorder: Recorder, log: ServerLog | None, settings: Endpoint, sending_s: float) -> EndpointResult:
    counts = recorder.endpoint.counts
    duration_s = max(recorder.last_answer_s, 1e-9)
    seconds = list(log.seconds) if log is not None else recorder.seconds()
    limits = _limits(settings)
    bound = binding(seconds, limits)
    ramped_at_s = None if bound is None else ramp_s(seconds, bound, limits[bound], end_s=sending_s)
    attempts = sum(recorder.statuses.values())
    return EndpointResult(
        name=recorder.endpoint.name,
        model=settings.model,
        simulated=log is not None,
        duration_s=recorder.last_answer_s,
        sending_s=sending_s,
        attempts=attempts,
        answered=recorder.latency.count,
        statuses=dict(recorder.statuses.most_common()),
        attempts_per_success=attempts / recorder.latency.count if recorder.latency.count else None,
        http_429_share=recorder.statuses["http_429"] / max(1, attempts),
        throttled_s=min(recorder.endpoint.limits.paused_s, sending_s),
        request_throughput=recorder.latency.count / duration_s,
        prompt_token_throughput=counts.prompt_tokens / duration_s,
        completion_token_throughput=counts.completion_tokens / duration_s,
        total_token_throughput=(counts.prompt_tokens + counts.completion_tokens) / duration_s,
        latency=recorder.latency.summary(),
        latency_with_wait=recorder.latency_with_wait.summary(),
        counted_by="server log" if log is not None else "client",
        token_unit="prompt + max_tokens" if log is not None or recorder.charges_reserved else "tokens used",
        limits_per_minute=limits,
        binding_limit=bound,
        ramp_s=ramped_at_s,
        utilisation=_utilisations(seconds, limits, sending_s, ramped_at_s),
        seconds=tuple(seconds),
        server=None if log is None else _server_cost(log),
    )


def _limits(settings: Endpoint) -> dict[str, float]:
    """The limits by unit: what the embedded endpoint enforces, or what the config declares."""
    simulation = settings.simulation
    rpm = simulation.rpm if simulation is not None else settings.rpm
    tpm = simulation.tpm if simulation is not None else settings.tpm
    return {unit: limit for unit, limit in (("requests", rpm), ("tokens", tpm)) if limit is not None}


def _utilisations(
    seconds: Sequence[Second], limits: dict[str, float], sending_s: float, ramped_at_s: float | None
) -> tuple[Utilisation, ...]:
    return tuple(
        utilisation(seconds, unit, limit, end_s=sending_s, ramped_at_s=ramped_at_s) for unit, limit in limits.items()
    )


def _server_cost(log: ServerLog) -> ServerCost:
    return ServerCost(log.cpu_s, 1000 * log.cpu_s / max(1, log.requests), log.max_rss_bytes)
