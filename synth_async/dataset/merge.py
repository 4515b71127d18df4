"""Merges finished runs, or chat JSON Lines files, into one dataset without duplicates across them.

Theory of operation
-------------------
1. Every line is read and sketched, by several processes. Lines, texts and signatures wait in nameless files.
2. `merge_order` puts the lines in an order that depends on what they say alone.
3. `candidate_pairs` groups the band keys of all signatures at once and gives each document its earlier look-alikes.
4. In that order, a document is dropped where a kept earlier one is equal, or verified to be similar: the rules and
   constants are those of `stages.dedup`, so the decisions are those of one pass of its `Deduplicator` over the lines in
   this order (but for `candidate_pairs.MAX_EARLIER`).

Memory: some 100 bytes a line, and a block of candidates. Disk beside the output while it works: about three times the
size of the inputs. What survives: the output is renamed into its place once it is whole; a SIGKILL leaves a hidden
folder beside it, `.NAME.*`, that may be deleted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

from synth_async.dataset.candidate_pairs import candidates_by_document, required_polars
from synth_async.dataset.clusters import Clusters, Place
from synth_async.dataset.compared_texts import id_of_row, parsed_row
from synth_async.dataset.line_files import (
    STANDARD,
    Line,
    numbered_lines,
    refuse_overwriting,
    replaced,
    require_inputs,
    working_folder,
)
from synth_async.dataset.merge_order import LineTable, Order
from synth_async.dataset.merged_folder import MergedFolder
from synth_async.dataset.sketching import Reading, sketched_lines
from synth_async.errors import UsageError
from synth_async.stages.conversations import UnreadableRow
from synth_async.stages.dedup import Fields
from synth_async.stages.dedup.engine import MAX_VERIFIED
from synth_async.stages.dedup.verification import could_exceed, indel_similarity
from synth_async.store.run_folder import RunFolder

__all__ = ["MergeSummary", "is_file_name", "merge_files"]

MAX_BROKEN_KEPT = 1000
"""Broken lines that a summary names; the others are only counted."""

_PROGRESS_LINES = 100


@dataclass(frozen=True, slots=True)
class MergeSummary:
    """Lines counted: `read` = `kept` + `exact` + `near` + `broken_count`; blank lines are passed over.

    `kept_of` has the lines kept of each input, by its name. `broken` holds `file:line: why` for the first thousand.
    """

    read: int
    kept: int
    exact: int
    near: int
    kept_of: dict[str, int]
    broken: tuple[str, ...] = ()
    broken_count: int = 0


class _Repeats(NamedTuple):
    """Which line a line repeats, by number, and how similar it is (0-1)."""

    kept: int
    similarity: float
    exact: bool


def is_file_name(out: Path) -> bool:
    """Whether an output is a file: by its suffix (`.jsonl`, `.gz`), as `-`, or because a file is there."""
    return out == STANDARD or out.suffix in {".jsonl", ".gz"} or out.is_file()


def merge_files(
    sources: Sequence[Path],
    out: Path,
    *,
    threshold: float = 0.80,
    fields: Fields = "both",
    field: str | None = None,
    report: Path | None = None,
    strict: bool = False,
    workers: int = 1,
    on_progress: Callable[[int], None] | None = None,
) -> MergeSummary:
    """The summary of merging `sources` into `out`, a file or a run folder; the order of `sources` changes no byte.

    A source is a run folder (its `dataset.jsonl`) or a chat JSON Lines file. Lines stay as they are. `report` gets what
    was dropped (see `clusters`); a folder has it as `clusters.jsonl` in any case. The other options are those of
    `deduplicate_file`.

    Raises `UsageError` where polars is missing, a source cannot be read, the folder holds something, and under `strict`
    for the first broken line; `DiskFailure` where writing fails. Either leaves the output untouched.
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"threshold {threshold:g}: must be above 0 and at most 1")
    required_polars()
    # The order in which lines are read decides where lines of the same bytes come from: make it that of the names.
    sources = sorted(sources, key=str)
    files = [_dataset_of(source) for source in sources]
    require_inputs(files)
    if len({file.resolve() for file in files}) < len(files):
        raise UsageError("a source is named twice; name each once")
    with ExitStack() as stack:
        outputs = stack.enter_context(_Outputs(sources, files, out, report))
        table = stack.enter_context(LineTable(working_folder(out)))
        merge = _Merge(sources, files, table, threshold, strict=strict)
        merge.read(Reading(fields, "indel", field), workers, on_progress)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=working_folder(out)) as work:
            for number, repeats in merge.decided(Path(work)):
                outputs.write(merge, number, repeats)
        summary = merge.summary()
        outputs.finish(summary.kept, threshold)
        return summary


class _Outputs:
    """The files of a merge, which are put in place when the block is left without an error."""

    def __init__(self, sources: Sequence[Path], files: Sequence[Path], out: Path, report: Path | None) -> None:
        self._folder = None if is_file_name(out) else MergedFolder(out, sources)
        self._target = out if self._folder is None else self._folder.dataset
        self._report = report or (None if self._folder is None else self._folder.clusters)
        refuse_overwriting(inputs=files, outputs=[self._target, *([self._report] if self._report else [])])
        self._aside = working_folder(out)
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if self._folder is not None:
                stack.enter_context(self._folder)
            self._clusters = stack.enter_context(Clusters(self._aside))
            self._kept_lines = stack.enter_context(replaced(self._target))
            self._report_file = stack.enter_context(replaced(self._report)) if self._report else None
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def write(self, merge: _Merge, number: int, repeats: _Repeats | None) -> None:
        content = merge.table.contents.read(number)
        if repeats is None:
            self._kept_lines.write(content + b"\n")
            return
        kept = merge.place_of(repeats.kept)
        if self._report is not None:
            place = merge.place_of(number)
            self._clusters.add(repeats.kept, kept.as_json(), place, repeats.similarity, exact=repeats.exact)
        if self._folder is not None:
            self._folder.reject(parsed_row(content), kept, repeats.similarity, exact=repeats.exact)

    def finish(self, kept: int, threshold: float) -> None:
        if self._report_file is not None:
            self._clusters.write(self._report_file)
        if self._folder is not None:
            self._folder.finish(kept, threshold)


def _dataset_of(source: Path) -> Path:
    if not source.is_dir():
        return source
    dataset = RunFolder(source).dataset
    if not dataset.is_file():
        raise UsageError(f"{source}: no dataset.jsonl in it; name a run folder, or a JSONL file")
    return dataset


@dataclass(slots=True)
class _Merge:
    """The state of one merge. Lines have numbers in the order they were read, documents ranks in that of the merge."""

    sources: Sequence[Path]
    files: Sequence[Path]
    table: LineTable
    threshold: float
    strict: bool
    exact: int = 0
    near: int = 0
    kept_of: dict[str, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    broken_count: int = 0

    def read(self, reading: Reading, workers: int, on_progress: Callable[[int], None] | None) -> None:
        """Fill the table; raises `UsageError` for the first broken line under `strict`, or where all are broken."""
        with closing(sketched_lines(numbered_lines(self.files), reading, workers=workers)) as documents:
            for count, (line, document) in enumerate(documents, start=1):
                if isinstance(document, UnreadableRow):
                    self._note_broken(line, str(document))
                else:
                    self.table.append(line, document.sketch)
                if on_progress is not None and count % _PROGRESS_LINES == 0:
                    on_progress(count)
        if on_progress is not None:
            on_progress(len(self.table) + self.broken_count)
        if self.broken_count and not len(self.table):
            raise UsageError(f"no line could be read; {self.broken[0]}")

    def decided(self, work: Path) -> Iterator[tuple[int, _Repeats | None]]:
        """Each line in the order of the merge, with what it repeats; None for one that is kept."""
        order = self.table.order()
        is_first = self.table.is_first(order)
        decisions = self._decided_firsts(order[is_first], work)
        first, repeats = -1, None
        for number, starts_anew in zip(order.tolist(), is_first.tolist(), strict=True):
            if starts_anew:
                first, repeats = next(decisions)
                yield number, self._counted(number, repeats)
            else:
                # Equal texts share their fate: either the first of them is kept, or all repeat the same line.
                yield number, self._counted(number, repeats or _Repeats(first, 1.0, exact=True))

    def _decided_firsts(self, order: Order, work: Path) -> Iterator[tuple[int, _Repeats | None]]:
        """Of texts that all differ: each line, and what it repeats."""
        firsts: list[int] = order.tolist()
        is_kept = np.zeros(len(firsts), dtype=np.bool_)
        rank = 0
        for decided, candidates in candidates_by_document(self.table.signatures(), order, work):
            for lonely in firsts[rank:decided]:
                yield lonely, None
            is_kept[rank:decided] = True
            likeliest = candidates[is_kept[candidates]][:MAX_VERIFIED].tolist()
            repeats = self._verified(firsts[decided], [firsts[candidate] for candidate in likeliest])
            is_kept[decided] = repeats is None
            yield firsts[decided], repeats
            rank = decided + 1
        for number in firsts[rank:]:
            yield number, None

    def _verified(self, number: int, candidates: Sequence[int]) -> _Repeats | None:
        lengths = self.table.lengths
        possible = [each for each in candidates if could_exceed(self.threshold, lengths[number], lengths[each])]
        text = self.table.texts.text(number) if possible else ""
        for kept in possible:
            similarity = indel_similarity(text, self.table.texts.text(kept), self.threshold)
            if similarity is not None:
                return _Repeats(kept, similarity, exact=False)
        return None

    def _counted(self, number: int, repeats: _Repeats | None) -> _Repeats | None:
        if repeats is None:
            source = str(self.sources[self.table.files[number]])
            self.kept_of[source] = self.kept_of.get(source, 0) + 1
        else:
            self.exact += repeats.exact
            self.near += not repeats.exact
        return repeats

    def place_of(self, number: int) -> Place:
        """Where a line was read."""
        row = parsed_row(self.table.contents.read(number))
        return Place(str(self.files[self.table.files[number]]), self.table.numbers[number], id_of_row(row))

    def summary(self) -> MergeSummary:
        """What was counted."""
        return MergeSummary(
            read=len(self.table) + self.broken_count,
            kept=len(self.table) - self.exact - self.near,
            exact=self.exact,
            near=self.near,
            kept_of={str(source): self.kept_of.get(str(source), 0) for source in self.sources},
            broken=tuple(self.broken),
            broken_count=self.broken_count,
        )

    def _note_broken(self, line: Line, message: str) -> None:
        told = f"{self.files[line.file]}:{line.number}: {message}"
        if self.strict:
            raise UsageError(told)
        self.broken_count += 1
        if len(self.broken) < MAX_BROKEN_KEPT:
            self.broken.append(told)
