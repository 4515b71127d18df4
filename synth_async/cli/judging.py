"""`judge`: scores a file of chats, and holds the judge against what people said."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synth_async.cli.console import end_start_up, hide, listen_to_libraries, print_json, print_path, print_text, say
from synth_async.cli.tools import progress_shown
from synth_async.config import LoadedConfig, ResolvedEndpoint, load_config, resolve_endpoint
from synth_async.errors import ExitCode, Interrupted, SynthAsyncError, UsageError

if TYPE_CHECKING:
    from synth_async.pipeline.calibration import Calibration
    from synth_async.pipeline.judge_file import FileJudging, OnScored, Scored

__all__ = ["JudgeWishes", "judge_files"]

_BROKEN_TOLD = 20
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_WITHOUT_CONFIG = """\
name: judge
domain: conversations of a user with an assistant
system_prompt: Answer helpfully, correctly and safely.
target: 1
endpoints: {judge: {model: simulator}}
"""


@dataclass(frozen=True, slots=True)
class JudgeWishes:
    """What was asked for on the command line."""

    source: Path | None
    config: Path | None
    out: Path | None
    calibrate: Path | None
    base_url: str | None
    model: str | None
    criteria: str | None
    overrides: Sequence[str]
    as_json: bool


def judge_files(wishes: JudgeWishes) -> None:
    """Score the file, the labelled one, or both; the summary goes to stderr and paths to stdout, or all as JSON."""
    if wishes.source is None and wishes.calibrate is None:
        raise UsageError("name a FILE to score, or people's scores with --calibrate LABELLED.jsonl")
    if wishes.source is None and wishes.out is not None:
        raise UsageError("--out is where FILE's scores go, and there is no FILE")
    loaded = _loaded(wishes)
    resolved = _resolved(loaded)
    end_start_up()
    listen_to_libraries()
    told: dict[str, Any] = {"simulated": any(each.is_simulator for each in resolved.values())}
    if wishes.source is not None:
        out = wishes.out or _scored_name(wishes.source)
        told["file"] = {"out": str(out), **_scored(loaded, resolved, wishes.source, out, as_json=wishes.as_json)}
    if wishes.calibrate is not None:
        told["calibration"] = _calibrated(loaded, resolved, wishes.calibrate, as_json=wishes.as_json)
    if told["simulated"]:
        say("simulated scores: the embedded endpoint gave them, no model did")
    if wishes.as_json:
        print_json(told)


# --- the rubric and the endpoints ----------------------------------------------------------------


def _loaded(wishes: JudgeWishes) -> LoadedConfig:
    overrides = list(wishes.overrides)
    if wishes.criteria is not None:
        overrides.append(f"judge.criteria=[{wishes.criteria}]")
    if wishes.config is not None:
        if wishes.base_url is not None or wishes.model is not None:
            raise UsageError("--config names the endpoint: leave out --base-url and --model, or change it with --set")
        return load_config(wishes.config, overrides)
    from synth_async.config.loading import config_of_text

    if wishes.model is None and wishes.base_url != "simulator":
        raise UsageError("name the judge: --config CONFIG, or --model M and --base-url URL")
    given = {"endpoints.judge.base_url": wishes.base_url, "endpoints.judge.model": wishes.model}
    chosen = [f"{key}={value}" for key, value in given.items() if value is not None]
    return config_of_text(_WITHOUT_CONFIG, Path("judge"), [*chosen, *overrides])


def _resolved(loaded: LoadedConfig) -> dict[str, ResolvedEndpoint]:
    resolved = {}
    for name in loaded.config.endpoints_of("judge"):
        resolved[name] = resolve_endpoint(name, loaded.config.endpoints[name], os.environ)
        hide(resolved[name].api_key.reveal())
    return resolved


def _scored_name(source: Path) -> Path:
    """`chats.jsonl.gz` -> `chats.scored.jsonl`, beside it."""
    name = source.name.removesuffix(".gz")
    return source.with_name(f"{name.rpartition('.')[0] or name}.scored.jsonl")


# --- one file ------------------------------------------------------------------------------------


def _scored(
    loaded: LoadedConfig, resolved: Mapping[str, ResolvedEndpoint], source: Path, out: Path, *, as_json: bool
) -> dict[str, Any]:
    scored = _drive(loaded, resolved, source, out)
    say("\n".join(_scored_lines(scored, source)))
    if not as_json:
        print_path(out)
    return scored.as_json()


def _drive(
    loaded: LoadedConfig,
    resolved: Mapping[str, ResolvedEndpoint],
    source: Path,
    out: Path,
    on_scored: OnScored = lambda *_: None,
) -> Scored:
    import anyio

    from synth_async.pipeline.judge_file import FileJudging

    judging = FileJudging(loaded, source, out)
    with progress_shown() as on_progress:
        try:
            anyio.run(_drive_until_signalled, judging, resolved, on_progress or (lambda _: None), on_scored)
        except BaseExceptionGroup as group:
            raise _first_of(group) from None
    return judging.scored


async def _drive_until_signalled(
    judging: FileJudging,
    resolved: Mapping[str, ResolvedEndpoint],
    on_progress: Callable[[int], None],
    on_scored: OnScored,
) -> None:
    """Drive it; the first signal lets what is in flight finish, the second ends at once."""
    loop = asyncio.get_running_loop()
    received = 0

    def on_signal(number: signal.Signals) -> None:
        nonlocal received
        received += 1
        if received > 1:
            os._exit(int(ExitCode.INTERRUPTED))
        judging.stop(Interrupted(f"interrupted ({number.name}); the same command goes on from here"))

    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        await judging.drive(resolved, on_progress=on_progress, on_scored=on_scored)
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """A deliberate error out of a group stands for it; else the group itself."""
    found = group.subgroup(SynthAsyncError)
    first: BaseException = found or group
    while found is not None and isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first


def _scored_lines(scored: Scored, source: Path) -> Iterator[str]:
    means = scored.as_json()
    sent = f"{scored.requests:,} requests answered" if scored.requests else "nothing had to be asked"
    yield f"{scored.rows:,} rows, {scored.scored:,} scored, {scored.passed:,} of them pass; {sent}"
    if scored.scored:
        each = ", ".join(f"{name} {mean:.2f}" for name, mean in means["mean_scores"].items())
        yield f"mean score {means['mean_score']:.2f} ({each})"
    if scored.disagreement:
        each = ", ".join(f"{name} {mean:.2f}" for name, mean in means["mean_disagreement"].items())
        yield f"mean disagreement: {each}"
    if scored.dropped:
        yield "would be dropped: " + ", ".join(f"{count:,} {why}" for why, count in scored.dropped.most_common())
    yield from (f"{source}:{number}: left out: {why}" for number, why in scored.broken[:_BROKEN_TOLD])
    if scored.broken_count > _BROKEN_TOLD:
        yield f"{source}: and {scored.broken_count - _BROKEN_TOLD:,} more rows left out"


# --- calibration ---------------------------------------------------------------------------------


def _calibrated(
    loaded: LoadedConfig, resolved: Mapping[str, ResolvedEndpoint], labelled: Path, *, as_json: bool
) -> dict[str, Any]:
    from synth_async.pipeline.calibration import Calibration

    calibration = Calibration(loaded.config)
    out = _scored_name(labelled)
    _drive(loaded, resolved, labelled, out, calibration.note)
    report = calibration.report()
    for line in _unlabelled_lines(calibration, labelled):
        say(line)
    if not as_json:
        print_text(_calibration_text(report))
    return {"labelled": str(labelled), "out": str(out), **report}


def _unlabelled_lines(calibration: Calibration, labelled: Path) -> Iterator[str]:
    yield from (f"{labelled}:{number}: no label: {why}" for number, why in calibration.unlabelled[:_BROKEN_TOLD])
    if calibration.unlabelled_count > _BROKEN_TOLD:
        yield f"{labelled}: and {calibration.unlabelled_count - _BROKEN_TOLD:,} more rows without a label"


def _calibration_text(report: Mapping[str, Any]) -> str:
    rows = [f"{'':20} {'rows':>6} {'exact':>7} {'within 1':>9} {'Spearman':>9} {'kappa':>7}"]
    for name, each in report["agreement"].items():
        shares = f"{each['rows']:>6,} {each['exact']:>7.1%} {each['within_one']:>9.1%}"
        rows.append(f"{name:20} {shares} {_figure(each['spearman']):>9} {_figure(each['kappa']):>7}")
    for title, cut in (("min_score now", report["now"]), ("suggested", report["suggested"])):
        if cut is not None:
            decided = f"accuracy {cut['accuracy']:.1%}, precision {cut['precision']:.1%}, recall {cut['recall']:.1%}"
            rows.append(f"{title:20} {cut['min_score']:g}: {decided}, F1 {cut['f1']:.3f}")
    if report["suggested"] is None:
        rows.append("no min_score is suggested: the labels accept all rows, or none")
    return "\n".join(rows)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
