"""`report.html`: one file that needs no other, asks for nothing, and shows text as text.

The template escapes whatever is put into it; the policy in the head allows the one style sheet and the one script that
the page brings, by their hashes, and nothing else: no image, no font, no connection, no frame.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import jinja2

from synth_async.report.charts import short_number
from synth_async.report.examples import chosen_examples, cluster_views, labels_of, opening
from synth_async.report.follow import Follower
from synth_async.report.overview import funnel, reasons, tiles
from synth_async.report.quality import safety_panels, score_panels
from synth_async.report.shares import coverage_axes
from synth_async.report.speed import Panel, panels_of
from synth_async.report.spread import cluster_sizes, lengths, measure_rows
from synth_async.report.summary import duration, money
from synth_async.report.timeline import Timeline

__all__ = ["report_page", "visible"]

_MOST_MODELS = 20
_MOST_LABELS = 200
_MOST_NAME = 160
_MOST_SETTING = 600
_SETTINGS_CHARACTERS = 60_000
_ROW_CHARACTERS = 60

_PICTURES = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
"""Control characters have pictures in Unicode; HTML would drop them or turn them into something else."""

_STATES = {
    "running": "running",
    "finished": "finished",
    "stopped": "stopped with work left",
    "new": "nothing yet",
}


def visible(text: str) -> str:
    """Text that a page can hold: control characters as their pictures, half characters as question marks."""
    return text.replace("\r\n", "\n").translate(_PICTURES).encode("utf-8", "replace").decode()


def report_page(
    follower: Follower,
    manifest: Mapping[str, Any],
    metrics: Mapping[str, Any] | None,
    timeline: Timeline,
    *,
    name: str,
    state: str,
) -> bytes:
    """The page as UTF-8. From the same files always the same bytes; `metrics` may not be there yet."""
    report = follower.report
    settings = _settings(manifest)
    panels = panels_of(timeline)
    examples = chosen_examples(report.samples)
    clusters = report.clusters
    page = _template().render(
        name=_shortened(name, _MOST_NAME),
        state=state,
        state_words=_STATES.get(state, state),
        simulated=report.simulated or bool(manifest.get("simulated")),
        manifest=manifest,
        metrics=metrics,
        report=report,
        tiles=tiles(report, metrics),
        funnel=funnel(metrics) if metrics is not None else [],
        reasons=reasons(report),
        scores=score_panels(report, _number(settings.get("judge.min_score"))),
        safety=safety_panels(report),
        min_score=settings.get("judge.min_score"),
        is_judged="judge.min_score" in settings,
        panels=panels,
        readings=_readings(panels),
        starts=timeline.starts_s[1:],
        axes=coverage_axes(report, metrics),
        lengths=lengths(report),
        measures=measure_rows(report.variety),
        compared=report.variety.size,
        topics=sorted(report.topics.top(10).items(), key=lambda row: (-row[1], row[0])),
        clusters=cluster_views(follower),
        cluster_sizes=cluster_sizes(clusters),
        examples=[(example, labels_of(example), opening(example)) for example in examples],
        example_reasons=sorted({example.reason for example in examples if example.stage}),
        example_labels=sorted({label for example in examples for label in labels_of(example)})[:_MOST_LABELS],
        models=sorted(report.models.top(_MOST_MODELS).items()),
        judge_models=sorted(report.judge_models.top(_MOST_MODELS).items()),
        settings=_setting_rows(settings),
        system_prompt=settings.get("system_prompt") or "",
        domain=_shortened(settings.get("domain") or "", _MOST_SETTING),
    )
    return page.encode("utf-8", "replace")


@cache
def _template() -> jinja2.Template:
    assets = {name: _asset(name) for name in ("report.html.j2", "report.css", "report.js")}
    style, script = assets["report.css"], assets["report.js"]
    # Plain templates of our own: what the user's config brings is rendered in a sandbox, elsewhere.
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(assets),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": duration, "money": money, "short": short_number}
    environment.globals |= {"style": style, "script": script, "policy": _policy(style, script)}
    return environment.get_template("report.html.j2")


def _finalized(value: object) -> object:
    """What is put into the page: text that is no markup of the template's own loses its control characters."""
    return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _asset(name: str) -> str:
    return resources.files("synth_async.report").joinpath("assets", name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    allowed = f"style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _readings(panels: list[Panel]) -> str:
    """The figures that a pointer reads off the charts, as JSON of numbers alone: nothing in it ends its element."""
    return json.dumps([panel.readings for panel in panels], separators=(",", ":"))


def _settings(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """All that the manifest says of the config, key by key."""
    return {key: value for part in (manifest.get("parts") or {}).values() for key, value in part.items()}


def _setting_rows(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Those that say anything, in words, in the order of their names, as far as they have room."""
    rows, left = [], _SETTINGS_CHARACTERS
    for key, value in sorted(settings.items()):
        if value in (None, [], {}, ""):
            continue
        row = _shortened(key, _MOST_NAME), _shortened(_in_words(value), _MOST_SETTING)
        left -= _ROW_CHARACTERS + len(row[0]) + len(row[1])
        if left < 0:
            break
        rows.append(row)
    return rows


def _in_words(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
