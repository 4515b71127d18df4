"""`cancel`, `export-requests` and `import-responses`: the batches of a run, from outside it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from synth_async.cli.console import end_start_up, hide, listen_to_libraries, print_json, print_text, say
from synth_async.cli.prepared import Prepared, in_mode
from synth_async.errors import UsageError
from synth_async.store.run_folder import RunFolder

if TYPE_CHECKING:
    from synth_async.config import ResolvedEndpoint

__all__ = ["cancel_run", "export_requests", "import_answers"]


# --- cancel --------------------------------------------------------------------------------------


def cancel_run(path: Path, *, as_json: bool) -> None:
    """Ask for the end of the batches that a run left open, one line each."""
    end_start_up()
    listen_to_libraries()
    from synth_async.pipeline.batch_desk import cancel_batches

    def hide_key(resolved: ResolvedEndpoint) -> None:
        hide(resolved.api_key.reveal())

    ended = anyio.run(cancel_batches, _run_folder(path), os.environ, hide_key)
    if as_json:
        print_json({"folder": str(path), "batches": [asdict(each) for each in ended]})
        return
    lines = [
        f"{each.batch} of endpoint {each.endpoint}: {each.outcome}, {each.taken_in:,} of {each.lines:,} answers kept"
        for each in ended
    ]
    print_text("\n".join(lines) if lines else "no batch is open")


def _run_folder(path: Path) -> RunFolder:
    if not any(path.glob("journal-*.log")):
        raise UsageError(f"{path}: is not a run folder, it holds no journal; give the one that `synth-async run` named")
    return RunFolder(path)


# --- by hand -------------------------------------------------------------------------------------


def export_requests(ready: Prepared, target: Path, out: Path | None, *, as_json: bool) -> None:
    """Write what the run would ask next as batch files; topics are asked for online where the model brings them."""
    from synth_async.cli.running import drive_run
    from synth_async.endpoint.batch.exporting import Exported
    from synth_async.pipeline.endpoints import BatchExport
    from synth_async.pipeline.run import Run

    batched = in_mode(ready, "batch")
    loaded, resolved = batched.loaded, batched.resolved
    folder = RunFolder(out or loaded.config.output.dir or Path("runs") / loaded.config.name)
    files: list[Path] = []
    run = Run(
        loaded,
        folder,
        resolved,
        on_note=lambda note: say(f"synth-async: {note}"),
        export=BatchExport(target, files.append),
    )
    try:
        drive_run(run)
    except Exported:
        say(f"when they are answered: synth-async import-responses {folder.path} FILE...; then export again, or run")
    if as_json:
        print_json({"folder": str(folder.path), "files": [str(path) for path in files]})
        return
    if not files:
        say("synth-async: there is nothing to ask: the target is met")
    sys.stdout.write("".join(f"{path}\n" for path in files))
    sys.stdout.flush()


def import_answers(path: Path, sources: Sequence[Path], *, as_json: bool) -> None:
    """Journal the answers in files that `run-batch` wrote."""
    end_start_up()
    from synth_async.pipeline.batch_desk import import_responses

    imported = import_responses(_run_folder(path), sources)
    again = imported.failed + imported.missing
    if as_json:
        print_json({"folder": str(path), **asdict(imported), "batches": len(imported.batches)})
        return
    say(
        f"{imported.lines:,} lines: {imported.answered:,} answers, {imported.failed:,} failed, {imported.known:,} known"
        f" or of other requests, {imported.unreadable:,} unreadable; {again:,} requests are asked for again"
    )
    sys.stdout.write(f"{path}\n")
    sys.stdout.flush()
