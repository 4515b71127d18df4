"""`bench`: measured throughput against rate limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synth_async.cli.console import end_start_up, print_json, print_text, say
from synth_async.errors import DiskFailure, Interrupted, StoppedEarly, UsageError

if TYPE_CHECKING:
    from synth_async.bench.plan import BenchPlan
    from synth_async.bench.results import BenchResult

__all__ = ["BenchWishes", "run_bench"]

DEFAULT_SECONDS = 30.0
_DEFAULTS: Mapping[str, Any] = {"rpm": 3000.0, "tpm": 600_000.0, "latency_s": 1.0, "burst_s": 1.0}
"""The embedded endpoint: `burst_s` 1, so that what it has saved up before the begin is at most a second's worth."""

_DEFAULT_MAX_TOKENS = 512
_DEFAULT_IN_FLIGHT = 256


@dataclass(frozen=True, slots=True)
class BenchWishes:
    """What was asked for on the command line. `embedded` are the options of the embedded endpoint, None where unset."""

    config: Path | None
    client_only: bool
    seconds: float | None
    requests: int | None
    embedded: Mapping[str, float | None]
    max_tokens: int | None
    in_flight: int | None
    overrides: Sequence[str]
    yes: bool
    as_json: bool
    chart: Path | None


def run_bench(wishes: BenchWishes) -> None:
    """Measure and print; raises `UsageError` before anything is sent where something is wrong or not allowed."""
    if wishes.chart is not None and wishes.chart.suffix not in (".svg", ".html"):
        raise UsageError(f"--chart {wishes.chart}: name a file that ends with .svg or .html")
    plan = _plan(wishes)
    _ask_leave(plan, yes=wishes.yes)
    result = _measured(plan)
    if wishes.chart is not None:
        _write_chart(wishes.chart, result)
    if wishes.as_json:
        print_json(result.as_json())
    else:
        from synth_async.bench.text import result_text

        print_text(result_text(result))
    if result.interrupted:
        raise Interrupted("interrupted; what was measured until then is above")
    if not any(one.answered for one in result.endpoints):
        tried = [
            f"{one.name}: {status} {count:,}" for one in result.endpoints for status, count in one.statuses.items()
        ]
        raise StoppedEarly(f"nothing was answered ({', '.join(tried) or 'nothing was sent'}); check base_url and model")


def _plan(wishes: BenchWishes) -> BenchPlan:
    if wishes.config is None:
        return _embedded_plan(wishes)
    given = [name for name, value in wishes.embedded.items() if value is not None]
    given += ["max-tokens"] if wishes.max_tokens is not None else []
    given += ["in-flight"] if wishes.in_flight is not None else []
    if given:
        raise UsageError(f"--{given[0]}: is for the embedded endpoint; with a config, change its keys with --set")
    from synth_async.bench.plan import BenchPlan
    from synth_async.cli.prepared import prepared

    ready = prepared(wishes.config, wishes.overrides)
    return BenchPlan(ready.loaded, ready.resolved, wishes.client_only, _seconds(wishes), wishes.requests)


def _embedded_plan(wishes: BenchWishes) -> BenchPlan:
    from synth_async.bench.plan import BenchPlan, embedded_config
    from synth_async.cli.tools import simulation_of
    from synth_async.config.secrets import resolve_endpoint

    names = {"rpm": "rpm", "tpm": "tpm", "latency": "latency_s"}
    given = {names[name]: value for name, value in wishes.embedded.items() if value is not None}
    limits = {
        key: None if value == 0 and key != "latency_s" else value for key, value in {**_DEFAULTS, **given}.items()
    }
    loaded = embedded_config(
        simulation_of(limits, wishes.overrides),
        max_tokens=wishes.max_tokens or _DEFAULT_MAX_TOKENS,
        max_in_flight=wishes.in_flight or _DEFAULT_IN_FLIGHT,
    )
    resolved = {name: resolve_endpoint(name, one, {}) for name, one in loaded.config.endpoints.items()}
    return BenchPlan(loaded, resolved, wishes.client_only, _seconds(wishes), wishes.requests)


def _seconds(wishes: BenchWishes) -> float | None:
    return DEFAULT_SECONDS if wishes.seconds is None and wishes.requests is None else wishes.seconds


def _ask_leave(plan: BenchPlan, *, yes: bool) -> None:
    """Requests that leave this machine may be paid for: they are not sent without a yes."""
    from synth_async.bench.plan import paid_endpoints, would_send

    away = paid_endpoints(plan)
    told = "\n".join(f"  {would_send(plan, endpoint)}" for endpoint in away)
    if away and not yes:
        raise UsageError(f"this measurement would send\n{told}\nNothing was sent. Add --yes if that is what you want")
    if away:
        say(f"sending\n{told}")


def _measured(plan: BenchPlan) -> BenchResult:
    import anyio

    from synth_async.bench.results import bench_result
    from synth_async.bench.traffic import drive

    end_start_up()
    span = [f"{plan.seconds:g} s"] if plan.seconds is not None else []
    span += [f"{plan.requests:,} requests"] if plan.requests is not None else []
    say(f"measuring for {' or '.join(span)}")
    return bench_result(plan, anyio.run(drive, plan))


def _write_chart(path: Path, result: BenchResult) -> None:
    from synth_async.bench.chart import chart_html, chart_svg, panels_of
    from synth_async.bench.text import result_text

    seconds = round(max((one.sending_s for one in result.endpoints), default=0.0))
    title = f"Throughput over {seconds} s ({'whole run' if result.drove == 'run' else 'client alone'})"
    content = chart_svg(panels_of(result), title=title, simulated=result.simulated)
    if path.suffix == ".html":
        content = chart_html(content, title=title, table=result_text(result))
    try:
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise DiskFailure(f"{path}: could not be written: {error.strerror}") from None
    say(f"chart: {path}")
