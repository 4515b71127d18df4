"""`preview`: a small run in a folder that is thrown away, and what the whole run would take by what it measured."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from synth_async.cli.console import print_json, print_text, say
from synth_async.cli.forecasting import forecast_lines, price_lines
from synth_async.cli.prepared import Prepared, in_mode
from synth_async.cli.preview import preview_text, read_preview
from synth_async.cli.running import drive, open_log, progress_to
from synth_async.config import Config, LoadedConfig, ResolvedEndpoint
from synth_async.errors import StoppedEarly
from synth_async.pipeline.run import Run, Snapshot
from synth_async.stages.measured import Measured, measured_in
from synth_async.stages.projection import LEAST_DECIDED, projection
from synth_async.store.run_folder import RunFolder

__all__ = ["preview_config", "preview_run"]

_MOST_DECISIONS = 3
"""A preview gives up on its number of accepted examples when so many times as many were decided."""

_FEWEST_TOPICS = 10
"""Of a short preview every example is about a topic of its own."""


def preview_run(ready: Prepared, *, number: int, as_json: bool) -> None:
    """Generate examples in a folder that is thrown away; show prompts, examples, verdicts, and a forecast by them."""
    ready = in_mode(ready, "online")  # nobody waits a day for a preview
    config = ready.loaded.config
    loaded = replace(ready.loaded, config=preview_config(config, number))
    say(f"synth-async: generating {number} {'example' if number == 1 else 'examples'}; nothing is kept")
    with tempfile.TemporaryDirectory(prefix="synth-async-preview-") as scratch:
        folder = RunFolder(Path(scratch))
        measured = _generate(loaded, folder, ready.resolved, number=number)
        shown = read_preview(folder, loaded)
    found = projection(config, measured)
    if as_json:
        print_json({**shown, "forecast": None if found is None else asdict(found)})
        return
    print_text(preview_text(shown))
    if found is None:
        advice = f"-n {2 * LEAST_DECIDED} or more measures what the whole run takes"
        print_text(f"\n{measured.decided} decided examples are too few for a forecast; {advice}")
    else:
        headline = f"By that, {config.target:,} accepted examples are expected to take:"
        print_text("\n".join(["", headline, "", *forecast_lines(found), *price_lines(loaded)]))


def preview_config(config: Config, number: int) -> Config:
    """The config with a smaller target, and with as many topics less: repetitions come as often as in the whole run."""
    topics = max(min(number, _FEWEST_TOPICS), math.ceil(config.topic_count * number / config.target))
    changes: Mapping[str, object] = {
        "target": number,
        "topics": config.topics.model_copy(update={"count": topics}),
        "fsync": "never",
    }
    return config.model_copy(update=changes)


def _generate(
    loaded: LoadedConfig, folder: RunFolder, resolved: dict[str, ResolvedEndpoint], *, number: int
) -> Measured:
    """Run until `number` are accepted or three times as many were decided; stopping early is said, and no failure."""
    progress = progress_to(number)

    def on_progress(snapshot: Snapshot) -> None:
        progress(snapshot)
        decided = snapshot.tally.accepted + sum(snapshot.tally.rejected.values())
        if decided >= _MOST_DECISIONS * number:
            run.interrupt(StoppedEarly(f"{snapshot.tally.accepted} of {decided} examples accepted, no more are tried"))

    run = Run(loaded, folder, resolved, on_progress=on_progress, on_note=progress.note)
    log = open_log(folder)
    try:
        drive(run, log)
    except StoppedEarly as stopped:
        progress.note(f"synth-async: {stopped}")
    finally:
        progress.close()
        log.close()
    return measured_in(run.metrics)
