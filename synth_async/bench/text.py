"""A measurement as a table."""

from __future__ import annotations

from synth_async.bench.latency import LatencySummary
from synth_async.bench.measures import Utilisation
from synth_async.bench.results import BenchResult, EndpointResult

__all__ = ["result_text"]

_LABEL = 34
_LIMIT_NAMES = {"requests": "RPM", "tokens": "TPM"}


def result_text(result: BenchResult) -> str:
    """The table, without a final line feed."""
    drove = "a whole run, journal and all" if result.drove == "run" else "the client alone, no journal"
    lines = (
        [f"benchmark of {drove}", "simulated endpoint: no model was asked"]
        if result.simulated
        else [f"benchmark of {drove}"]
    )
    lines += ["interrupted: the figures are of a shorter time than was asked for"] if result.interrupted else []
    lines += [f"ended early: {result.stopped_early}"] if result.stopped_early else []
    for one in result.endpoints:
        lines += ["", *_endpoint(one)]
    client = result.client
    rows = [
        ("CPU per request (ms)", f"{client.cpu_ms_per_request:.2f}"),
        ("CPU user + system, start apart (s)", f"{client.user_cpu_s:.2f} + {client.system_cpu_s:.2f}"),
        ("CPU until the first answer (s)", f"{client.start_cpu_s:.2f}"),
        ("peak memory (MiB)", f"{client.max_rss_bytes / 2**20:.0f}"),
    ]
    if result.accepted is not None:
        rows.append(("examples accepted", f"{result.accepted:,}"))
    return "\n".join([*lines, "", "client process", *map(_row, rows)])


def _endpoint(one: EndpointResult) -> list[str]:
    kind = "simulated" if one.simulated else "real"
    rows = [
        ("benchmark duration (s)", f"{one.duration_s:.1f}, sending {one.sending_s:.1f}"),
        ("successful requests", f"{one.answered:,}"),
        ("request throughput (req/s)", f"{one.request_throughput:.2f}"),
        ("prompt token throughput (tok/s)", f"{one.prompt_token_throughput:,.0f}"),
        ("completion token throughput (tok/s)", f"{one.completion_token_throughput:,.0f}"),
        ("total token throughput (tok/s)", f"{one.total_token_throughput:,.0f}"),
    ]
    lines = [f"endpoint {one.name} ({kind}, model {one.model})", *map(_row, rows), ""]
    lines += [*_latencies(one), "", *map(_row, _requests(one)), "", *_limits(one)]
    if one.server is not None:
        cost = one.server
        took = f"{cost.cpu_ms_per_request:.2f} ms per request, peak {cost.max_rss_bytes / 2**20:.0f} MiB"
        lines += ["", _row(("the server's own CPU and memory", took))]
    return lines


def _latencies(one: EndpointResult) -> list[str]:
    heads = "".join(f"{head:>9}" for head in ("min", "mean", "p50", "p90", "p95", "p99", "max"))
    lines = [f"  {'latency (s)':<{_LABEL}}{heads if one.answered else '  nothing was answered'}"]
    for label, summary in (
        ("sent to answered", one.latency),
        ("with limiter wait", one.latency_with_wait),
    ):
        if summary is not None:
            lines.append(f"  {label:<{_LABEL}}{''.join(f'{value:>9.3f}' for value in _values(summary))}")
    return lines


def _values(summary: LatencySummary) -> tuple[float, ...]:
    return (
        summary.min_s,
        summary.mean_s,
        summary.p50_s,
        summary.p90_s,
        summary.p95_s,
        summary.p99_s,
        summary.max_s,
    )


def _requests(one: EndpointResult) -> list[tuple[str, str]]:
    split = ", ".join(f"{status} {count:,}" for status, count in one.statuses.items())
    per_success = "-" if one.attempts_per_success is None else f"{one.attempts_per_success:.4f}"
    return [
        ("requests by outcome", split or "none"),
        ("attempts per success", per_success),
        ("429 share", f"{one.http_429_share:.2%}"),
        ("throttled: pauses after a 429 (s)", f"{one.throttled_s:.1f}"),
    ]


def _limits(one: EndpointResult) -> list[str]:
    if not one.utilisation:
        return [_row(("rate limits", "none declared: nothing to compare with"))]
    source = "the server's own log" if one.counted_by == "server log" else "our own counts"
    rows = [("rate-limit utilisation", f"whole, after the ramp (by {source})")]
    rows += [_utilisation(used, one) for used in one.utilisation]
    ramp = "90 % of the binding limit was not reached" if one.ramp_s is None else f"{one.ramp_s:.1f}"
    rows.append((f"ramp to 90 % of the {one.binding_limit} limit (s)", ramp))
    return [_row(row) for row in rows]


def _utilisation(used: Utilisation, one: EndpointResult) -> tuple[str, str]:
    label = f"  of {used.limit_per_minute:,.0f} {_LIMIT_NAMES[used.unit]}"
    steady = "-" if used.after_ramp is None else f"{used.after_ramp:.1%}"
    unit = f"  ({one.token_unit})" if used.unit == "tokens" else ""
    return label, f"{used.whole:.1%}, {steady}{unit}"


def _row(row: tuple[str, str]) -> str:
    return f"  {row[0]:<{_LABEL}}  {row[1]}"
