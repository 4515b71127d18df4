"""`validate`, and the forecast that `preview` ends with: what a run would take, and where the figures come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synth_async.cli.console import print_json, print_text, say
from synth_async.cli.prepared import prepared
from synth_async.config import Config, LoadedConfig, fingerprints
from synth_async.report.charts import short_number
from synth_async.report.summary import duration
from synth_async.store.run_folder import RunFolder, read_json, run_folder_of

if TYPE_CHECKING:
    from synth_async.stages.batch_forecast import WayForecast
    from synth_async.stages.forecast import Forecast, Range

__all__ = ["forecast_lines", "price_lines", "validate_config"]

_NO_MATTER = ("output",)
"""Parts of a config that change nothing of what a run takes."""


def validate_config(path: Path, out: Path | None, overrides: Sequence[str], *, as_json: bool) -> None:
    """Check a config and its key variables, then say what a run would take, or what is left of it."""
    loaded = prepared(path, overrides).loaded
    folder = run_folder_of(loaded.config, out)
    found, ways = _with_ways(loaded.config, _by_the_folder(loaded.config, folder) or _by_assumptions(loaded))
    for warning in found.warnings:
        say(f"{path}: warning: {warning}")
    if as_json:
        more = {"ways": [asdict(way) for way in ways], "price_sources": dict(loaded.price_sources)}
        print_json({"config": str(path), "name": loaded.config.name, **asdict(found), **more})
    else:
        lines = [
            _headline(path, loaded.config.name, folder, found),
            "",
            *forecast_lines(found, ways),
            *price_lines(loaded),
        ]
        print_text("\n".join(lines))


def _with_ways(config: Config, found: Forecast) -> tuple[Forecast, tuple[WayForecast, ...]]:
    """The forecast with the time of its batches, and both ways to ask beside each other."""
    from synth_async.stages.batch_forecast import compare_ways, time_of_ways

    ways = compare_ways(config, found)
    return replace(found, time_s=time_of_ways(found, ways)), ways


def _by_assumptions(loaded: LoadedConfig) -> Forecast:
    from synth_async.stages.forecast import forecast
    from synth_async.stages.task_plan import task_plan

    return forecast(loaded.config, loaded.context or "", loaded.topics, task_plan(loaded))


def _by_the_folder(config: Config, folder: RunFolder) -> Forecast | None:
    """What is left by what the run folder has measured; None where that was another config, or too little."""
    from synth_async.stages.measured import measured_in
    from synth_async.stages.projection import projection

    manifest, metrics = read_json(folder.manifest), read_json(folder.metrics)
    if manifest is None or metrics is None:
        return None
    made_by: dict[str, Any] = manifest.get("fingerprints", {})
    changed = [
        part for part, now in fingerprints(config).items() if part not in _NO_MATTER and made_by.get(part) != now
    ]
    if changed:
        say(f"{folder.path}: was made with another config ({', '.join(changed)}), so nothing is forecast from it")
        return None
    measured = measured_in(metrics)
    return projection(config, measured, measured)


def _headline(path: Path, name: str, folder: RunFolder, found: Forecast) -> str:
    if not found.measured_on:
        return f"{path}: no mistakes. For {found.target:,} accepted examples, the run {name!r} is expected to take:"
    return (
        f"{path}: no mistakes. {found.accepted:,} of {found.target:,} examples are accepted in {folder.path};"
        " what is left is expected to take:"
    )


def forecast_lines(found: Forecast, ways: Sequence[WayForecast] = ()) -> list[str]:
    """The forecast for a person: tables, then time and cost, then what they rest on."""
    stages = [("stage", "endpoint", "requests", "prompt tokens", "completion tokens", "cost")]
    for stage in found.stages:
        tokens = _tokens(stage.prompt_tokens), _tokens(stage.completion_tokens)
        stages.append((stage.stage, stage.endpoint, _counts(stage.requests), *tokens, _cost(stage.cost_usd)))
    endpoints = [("endpoint", "time by rpm", "time by tpm", "time by concurrency")]
    for endpoint in found.endpoints:
        limited = _time(endpoint.by_rpm_s), _time(endpoint.by_tpm_s)
        endpoints.append((endpoint.endpoint, *limited, _time(endpoint.by_concurrency_s)))
    machine = [f"machine   {_time(found.by_machine_s)} of CPU here"] if found.by_machine_s is not None else []
    return [
        *_table(stages),
        "",
        *_table(endpoints),
        "",
        *_way_lines(ways),
        *machine,
        f"requests  {_counts(found.requests)}",
        f"tokens    {_tokens(found.tokens)}",
        f"time      {_time(found.time_s)}",
        f"cost      {_cost(found.cost_usd)}",
        "",
        "measured:" if found.measured_on else "assumed:",
        *(f"  - {line}" for line in found.assumptions),
    ]


def _way_lines(ways: Sequence[WayForecast]) -> list[str]:
    """Batches and online requests beside each other; nothing where no stage could go in batches."""
    if not ways:
        return []
    rows = [("stage", "endpoint", "online", "", "in batches", "", "chosen")]
    for way in ways:
        online, batch = (_time(way.online_s), _cost(way.online_usd)), (_time(way.batch_s), _cost(way.batch_usd))
        rows.append((way.stage, way.endpoint, *online, *batch, "batch" if way.in_batches else "online"))
    return [*_table(rows), ""]


def price_lines(loaded: LoadedConfig) -> list[str]:
    """Where prices are from that the config does not give, and how to give those that are not known."""
    lines = []
    for name in loaded.config.used_endpoints:
        endpoint = loaded.config.endpoints[name]
        if endpoint.price is None and not endpoint.is_simulator:
            lines.append(
                f"  - no price of {endpoint.model} is known: give endpoints.{name}.price, in dollars per million tokens"
                + ("" if find_spec("genai_prices") else ", or pip install 'synth-async[prices]'")
            )
        elif endpoint.price is not None and name in loaded.price_sources:
            price = endpoint.price
            lines.append(
                f"  - {endpoint.model} costs ${price.prompt:g} prompt and ${price.completion:g} completion a million"
                f" tokens by {loaded.price_sources[name]}; endpoints.{name}.price goes before it"
            )
    return lines


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows with columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["   ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _counts(numbers: Range) -> str:
    low, high = f"{numbers.low:,.0f}", f"{numbers.high:,.0f}"
    return low if low == high else f"{low} - {high}"


def _tokens(numbers: Range) -> str:
    low, high = short_number(numbers.low), short_number(numbers.high)
    return low if low == high else f"{low} - {high}"


def _time(seconds: Range | None) -> str:
    if seconds is None:
        return "no limit"
    low, high = duration(seconds.low), duration(seconds.high)
    return low if low == high else f"{low} - {high}"


def _cost(usd: Range | None) -> str:
    if usd is None:
        return "unknown (no price)"
    return f"${usd.low:,.2f} - ${usd.high:,.2f}" if usd.high >= 1 else f"${usd.low:.4f} - ${usd.high:.4f}"
