"""A run from Python: `run` awaits its end, `generate` yields what is accepted while it goes on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from synth_async.api.winding_down import raise_what_stopped, start, wind_down
from synth_async.config import Config, LoadedConfig, load_config, resolve_endpoints
from synth_async.config.extensions import function_name
from synth_async.config.loading import config_of_tree, tree_of
from synth_async.errors import UsageError
from synth_async.pipeline.run import Run, RunOptions, Snapshot
from synth_async.records import DatasetLine
from synth_async.stages.few_shot import read_examples
from synth_async.store.following import FollowedFile
from synth_async.store.run_folder import RunFolder, run_folder_of, write_atomically

__all__ = ["ConfigLike", "Filter", "RunResult", "generate", "run"]

ConfigLike = str | os.PathLike[str] | Mapping[str, Any] | Config
"""The path of a YAML file, the same keys as a mapping, or a checked `Config`.

Paths in a file are relative to it, those in a mapping or a `Config` to the working folder.
"""

Filter = Callable[[DatasetLine], str | None]
"""Says what is wrong with an example, or None. It has to say the same of the same example whenever it is asked."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """A finished run: its folder, how many examples are in `dataset.jsonl`, and what `metrics.json` says."""

    folder: Path
    accepted: int
    metrics: Mapping[str, Any]

    @property
    def dataset(self) -> Path:
        """The accepted examples, one a line."""
        return self.folder / "dataset.jsonl"

    @property
    def rejects(self) -> Path:
        """What was dropped, with its reason."""
        return self.folder / "rejects.jsonl"

    def examples(self) -> Iterator[DatasetLine]:
        """The accepted examples in the order of the file, read one by one."""
        with self.dataset.open("rb") as lines:
            yield from map(orjson.loads, lines)


async def run(
    config: ConfigLike,
    out: str | os.PathLike[str] | None = None,
    *,
    topics: Iterable[str] | None = None,
    filters: Iterable[Filter] = (),
    options: RunOptions | None = None,
    on_progress: Callable[[Snapshot], None] = lambda _: None,
    on_note: Callable[[str], None] = lambda _: None,
    grace_s: float | None = None,
) -> RunResult:
    """The result of a run that has met its target; a folder that holds a part of it already is gone on with.

    * `out` is the run folder; None: as on the command line, `output.dir`, then `runs/<name>`
    * `topics` are seed topics in the place of those of the config; they are kept in the folder as `topics.jsonl`
    * `filters` are functions at the top of a module; they count and resume as those that `filters.custom` names
    * `options` are those of the command line: `RunOptions(offline=True)` and the like
    * `on_progress` is told twice a second, `on_note` of what is worth a line; both on the event loop's thread

    Keys come from the variables that the config names, as on the command line. Raises the errors of
    `synth_async.errors`: `ConfigError` with all mistakes before anything is sent, `EndpointRefused`, `StoppedEarly`,
    `RunLocked`, `DiskFailure`; after each of them but the first the same call goes on.

    Cancelling it stops the run as Ctrl-C does: nothing new is sent, what is in flight is let finish, since it may be
    paid for, up to `grace_s` seconds (None: up to its deadline). A second `cancel()` of the task does not wait for that
    either. The event loop has to be asyncio's.
    """
    prepared = _prepared(config, out, topics, filters, options or RunOptions())
    prepared.on_progress, prepared.on_note = on_progress, on_note
    driver = start(prepared)
    try:
        await asyncio.wait([driver])
    except asyncio.CancelledError:
        await wind_down(prepared, driver, grace_s)
        raise
    raise_what_stopped(driver)
    return RunResult(prepared.folder.path, prepared.tally.accepted, prepared.metrics)


async def generate(
    config: ConfigLike,
    out: str | os.PathLike[str] | None = None,
    *,
    topics: Iterable[str] | None = None,
    filters: Iterable[Filter] = (),
    options: RunOptions | None = None,
    on_progress: Callable[[Snapshot], None] = lambda _: None,
    on_note: Callable[[str], None] = lambda _: None,
    grace_s: float | None = None,
) -> AsyncGenerator[DatasetLine]:
    """The accepted examples of a run in the order of `dataset.jsonl`, those of earlier processes first.

    Arguments, errors and cancellation are those of `run`; an error comes after every example that was accepted. The run
    does not wait for a slow reader, and memory does not grow with what is unread: it stands in the file.

    Leaving the loop early stops the run as Ctrl-C does, when the generator is closed; `contextlib.aclosing` does that
    at once and waits for it. What was accepted and not read is in the folder, and comes first the next time.
    """
    prepared = _prepared(config, out, topics, filters, options or RunOptions())
    news = _News(on_progress)
    prepared.on_progress, prepared.on_note, prepared.on_endpoints = news.tell, on_note, news.begin
    driver = start(prepared)
    driver.add_done_callback(news.end)
    written = FollowedFile(prepared.folder.dataset)
    try:
        while True:
            is_over = driver.done()
            # Until the journal has been gone through, the file may be that of another config, or of another process.
            if news.has_begun or (is_over and prepared.has_begun):
                for line in written.new_lines():
                    yield orjson.loads(line)
            if is_over:
                break
            await news.wait()
    finally:
        written.close()
        if not driver.done():
            await wind_down(prepared, driver, grace_s)
    raise_what_stopped(driver)


class _News:
    """Wakes the reader of a run: twice a second while the run goes on, and at its end."""

    def __init__(self, on_progress: Callable[[Snapshot], None]) -> None:
        self.has_begun = False
        self._on_progress = on_progress
        self._event = asyncio.Event()

    def begin(self, _endpoints: object) -> None:
        self.has_begun = True

    def tell(self, snapshot: Snapshot) -> None:
        self._on_progress(snapshot)
        self._event.set()

    def end(self, _driver: object) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()
        self._event.clear()


# --- preparing -----------------------------------------------------------------------------------


def _prepared(
    config: ConfigLike,
    out: str | os.PathLike[str] | None,
    topics: Iterable[str] | None,
    filters: Iterable[Filter],
    options: RunOptions,
) -> Run:
    """A run that can be driven; raises `UsageError` for all that only the caller can put right."""
    loaded = _loaded(config)
    folder = run_folder_of(loaded.config, None if out is None else Path(out))
    loaded = _with_own(loaded, folder, topics, filters)
    read_examples(loaded)
    resolved = {} if options.offline else resolve_endpoints(loaded.config, os.environ)
    return Run(loaded, folder, resolved, options)


def _loaded(config: ConfigLike) -> LoadedConfig:
    if isinstance(config, Config):
        return config_of_tree(tree_of(config), Path("config"))
    if isinstance(config, Mapping):
        return config_of_tree(config, Path("config"))
    return load_config(Path(config))


def _with_own(
    loaded: LoadedConfig, folder: RunFolder, topics: Iterable[str] | None, filters: Iterable[Filter]
) -> LoadedConfig:
    """The config with the caller's topics and functions in it, as a file would name them."""
    names = [function_name(each) for each in filters]
    if topics is None and not names:
        return loaded
    tree = tree_of(loaded.config)
    if names:
        tree["filters"] = {**tree.get("filters", {}), "custom": [*loaded.config.filters.custom, *names]}
    if topics is not None:
        if loaded.config.topics.file is not None:
            raise UsageError(f"{loaded.path}: topics.file names topics, and the call brings others: leave out one")
        tree["topics"] = {**tree.get("topics", {}), "file": str(_kept_topics(folder, topics).absolute())}
    return config_of_tree(tree, loaded.path)


def _kept_topics(folder: RunFolder, topics: Iterable[str]) -> Path:
    """The topics as a file of the run folder, written where it says something else."""
    content = b"".join(map(_topic_line, topics))
    path = folder.path / "topics.jsonl"
    folder.create()
    if not path.exists() or path.read_bytes() != content:
        write_atomically(path, content)
    return path


def _topic_line(topic: str) -> bytes:
    return orjson.dumps({"topic": topic}) + b"\n"
