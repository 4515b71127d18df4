"""`export` and `validate-dataset`: what is asked for, and what is said about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synth_async.cli.console import end_start_up, print_json, print_path, print_text, say
from synth_async.cli.tools import interrupted_by_signals, progress_shown
from synth_async.errors import ExitCode

if TYPE_CHECKING:
    from synth_async.dataset.export import ExportSummary
    from synth_async.dataset.validation import Validation

__all__ = ["check_dataset", "export_dataset"]

_BREACHES_TOLD = 50


# --- export --------------------------------------------------------------------------------------


def export_dataset(source: Path, choices: Mapping[str, Any], *, as_json: bool) -> None:
    """Write an export; the summary goes to stderr and the path of the examples to stdout, or all of it as JSON."""
    end_start_up()
    from synth_async.dataset.export import ExportWishes, export

    with interrupted_by_signals(), progress_shown() as on_progress:
        summary = export(ExportWishes(source, **choices), on_progress)
    if as_json:
        print_json(summary.as_json())
        return
    say("\n".join(_export_lines(summary)))
    print_path(summary.out)


def _export_lines(summary: ExportSummary) -> Iterator[str]:
    real = f", {summary.real:,} of them real" if summary.real else ""
    yield f"{summary.rows:,} examples as {summary.format}{real}; {summary.read:,} rows read"
    if summary.held_out:
        topics = f"{summary.held_out_topics:,} of {summary.topics:,} topics"
        yield f"held out: {summary.held_out:,} examples ({topics}), {summary.suite:,} of them in the suite"
    if summary.surplus:
        yield f"{summary.surplus:,} examples left over by the share of the mix"
    if summary.dropped:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in summary.dropped.most_common())
        yield f"left out: {reasons}"
        yield from (f"  {line}" for line in summary.first_dropped)
    yield from _token_lines(summary)
    yield from (f"warning: {warning}" for warning in summary.warnings)
    yield from (f"wrote {file}" for file in summary.files)


def _token_lines(summary: ExportSummary) -> Iterator[str]:
    tokens = summary.tokens
    if tokens and tokens["examples"]:
        lengths = f"{tokens['median']:,} (median), {tokens['p95']:,} (95 %), {tokens['longest']:,} (longest)"
        yield f"tokens: {tokens['tokens']:,}, of which {tokens['trained']:,} are trained on; an example has {lengths}"
    if summary.over_length:
        yield f"over length: {summary.over_length:,} examples"
    if summary.packing is not None:
        yield f"packed: {summary.packing.blocks:,} blocks, {summary.packing.fill:.1%} full"


# --- validate-dataset ----------------------------------------------------------------------------


def check_dataset(file: Path, format_name: str, *, show: int | None, as_json: bool) -> None:
    """Print the breaches of a file; raises `SystemExit` with 1 where there is one."""
    end_start_up()
    from synth_async.dataset.formats import FORMATS
    from synth_async.dataset.validation import validate_file

    found = validate_file(file, FORMATS[format_name])
    if as_json:
        print_json(_validation_json(found, file, format_name, len(found.breaches) if show is None else show))
    else:
        _print_validation(found, file, format_name, _BREACHES_TOLD if show is None else show)
    if found.breach_count:
        raise SystemExit(int(ExitCode.UNEXPECTED))


def _print_validation(found: Validation, file: Path, format_name: str, show: int) -> None:
    told = found.breaches[:show]
    for breach in told:
        place = file if breach.line is None else f"{file}:{breach.line}"
        print_text(f"{place}: {breach.message}")
    if not found.breach_count:
        say(f"{file}: {found.rows:,} rows, all as {format_name} wants them")
        return
    unshown = found.breach_count - len(told)
    more = f"; {unshown:,} are not shown" if unshown else ""
    say(f"{file}: {found.breach_count:,} breaches in {found.rows_in_breach:,} of {found.rows:,} rows{more}")


def _validation_json(found: Validation, file: Path, format_name: str, show: int) -> dict[str, Any]:
    return {
        "file": str(file),
        "format": format_name,
        "rows": found.rows,
        "rows_in_breach": found.rows_in_breach,
        "breach_count": found.breach_count,
        "breaches": [{"line": breach.line, "message": breach.message} for breach in found.breaches[:show]],
    }
