"""Deduplicates a JSON Lines file of chats: every kept line byte for byte, in order; the first of its kind stays.

Read line by line. Memory grows with the kept documents only, by what the index takes; their texts wait in a nameless
file beside the output. What survives a kill: see `line_files`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from synth_async.dataset.clusters import Clusters, Place, Sink
from synth_async.dataset.line_files import (
    Line,
    Spool,
    numbered_lines,
    refuse_overwriting,
    replaced,
    require_inputs,
    working_folder,
)
from synth_async.dataset.semantic import require_semantic, semantic_pairs
from synth_async.dataset.sketching import Document, Reading, Sketched, sketched_lines
from synth_async.errors import UsageError
from synth_async.stages.conversations import UnreadableRow
from synth_async.stages.dedup import Deduplicator, Fields, Match, Verify

__all__ = ["DedupSummary", "deduplicate_file"]

MAX_BROKEN_KEPT = 1000
"""Broken lines that a summary names; the others are only counted."""

_PROGRESS_LINES = 100


@dataclass(frozen=True, slots=True)
class DedupSummary:
    """Lines counted: `read` = `kept` + `exact` + `near` + `broken_count`; blank lines are passed over.

    `broken` names the line (from 1) and what is wrong, for the first thousand; `against_broken` likewise, its messages
    beginning with the file. `semantic_count` is the number of pairs in the semantic report, where one was asked for.
    """

    read: int
    kept: int
    exact: int
    near: int
    broken: tuple[tuple[int, str], ...] = ()
    broken_count: int = 0
    against_broken: tuple[tuple[int, str], ...] = ()
    semantic_count: int | None = None


def deduplicate_file(
    source: Path,
    target: Path,
    *,
    threshold: float = 0.80,
    verify: Verify = "indel",
    fields: Fields = "both",
    against: Sequence[Path] = (),
    report: Path | None = None,
    field: str | None = None,
    strict: bool = False,
    semantic_report: Path | None = None,
    semantic_threshold: float = 0.90,
    workers: int = 1,
    on_progress: Callable[[int], None] | None = None,
) -> DedupSummary:
    """The summary of copying `source` to `target` without the lines that repeat an earlier one or one of `against`.

    `field` names the one key to compare in rows of another shape. A broken line is left out and reported, or raises
    under `strict`. `report` gets what was dropped (see `clusters`). `semantic_report` gets pairs of kept lines that say
    much the same in other words, `{"similarity", "first", "second"}` (see `semantic`); nothing is dropped for it.
    `workers` is the number of processes that sketch lines; it changes no decision. They are spawned, so a script that
    asks for more than one needs its `if __name__ == "__main__"`. `on_progress` hears the number of lines read, those of
    `against` too, every hundred and at the end.

    Raises `UsageError` for a file that cannot be read, a target that is also an input, a source without any line that
    can be read, and under `strict` for the first broken line (`file:line: why`); `DiskFailure` where writing fails.
    Either leaves the target untouched.
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"threshold {threshold:g}: must be above 0 and at most 1")
    if semantic_report is not None:
        require_semantic()
    inputs = [*against, source]
    reports = [path for path in (report, semantic_report) if path is not None]
    refuse_overwriting(inputs=inputs, outputs=[target, *reports])
    require_inputs(inputs)
    aside = working_folder(target)
    with ExitStack() as stack:
        texts, places = stack.enter_context(Spool(aside)), stack.enter_context(Spool(aside))
        clusters = None if report is None else stack.enter_context(Clusters(aside))
        dedup = Deduplicator(threshold, verify, fields, text_of=texts.text)
        copy = _Copy(inputs, texts, places, dedup, clusters, strict=strict)
        kept_lines = stack.enter_context(replaced(target))
        report_files = [stack.enter_context(replaced(path)) for path in reports]
        reading = Reading(fields, verify, field)
        documents = stack.enter_context(closing(sketched_lines(numbered_lines(inputs), reading, workers=workers)))
        for line, document in documents:
            if copy.is_kept(line, document):
                kept_lines.write(line.content)
            if on_progress is not None and copy.seen % _PROGRESS_LINES == 0:
                on_progress(copy.seen)
        if on_progress is not None:
            on_progress(copy.seen)
        copy.refuse_if_nothing_was_read()
        if clusters is not None:
            clusters.write(report_files[0])
        if semantic_report is not None:
            copy.write_semantic(report_files[-1], semantic_threshold)
        return copy.summary()


@dataclass(slots=True)
class _Copy:
    """The state of one copying. The last of `inputs` is the source, the others are what it is held against.

    The nth document of the deduplicator has its text in the nth of `texts`, its place in the nth of `places`.
    """

    inputs: Sequence[Path]
    texts: Spool
    places: Spool
    dedup: Deduplicator
    clusters: Clusters | None
    strict: bool
    seen: int = 0
    read: int = 0
    kept: int = 0
    exact: int = 0
    near: int = 0
    broken_count: int = 0
    semantic_count: int | None = None
    broken: list[tuple[int, str]] = field(default_factory=list)
    against_broken: list[tuple[int, str]] = field(default_factory=list)

    def is_kept(self, line: Line, document: Sketched) -> bool:
        """Count a line, and say whether it belongs into the target."""
        self.seen += 1
        is_source = line.file == len(self.inputs) - 1
        self.read += is_source
        if isinstance(document, UnreadableRow):
            self._note_broken(line, str(document), is_source=is_source)
            return False
        # All of `against` is taken, near-duplicates too: each may have its own in the source.
        match = self.dedup.find(document.sketch) if is_source else None
        if match is None:
            self._keep(line, document)
            self.kept += is_source
            return is_source
        self._note_duplicate(line, document, match)
        return False

    def refuse_if_nothing_was_read(self) -> None:
        """Raise `UsageError` where every line of the source is broken: an empty output would look like a result."""
        if self.read and self.read == self.broken_count:
            number, message = self.broken[0]
            raise UsageError(
                f"{self.inputs[-1]}: none of its {self.read:,} lines could be read; line {number}: {message}"
            )

    def write_semantic(self, sink: Sink, above: float) -> None:
        """Write the pairs of kept lines that are alike in meaning."""
        first = len(self.texts) - self.kept
        pairs = semantic_pairs(self.kept, lambda number: self.texts.text(first + number), above=above)
        for pair in pairs:
            one, other = (self.places.read(first + number) for number in (pair.first, pair.second))
            sink.write(b'{"similarity": %.4f, "first": %b, "second": %b}\n' % (pair.similarity, one, other))
        self.semantic_count = len(pairs)

    def summary(self) -> DedupSummary:
        """What was counted."""
        return DedupSummary(
            read=self.read,
            kept=self.kept,
            exact=self.exact,
            near=self.near,
            broken=tuple(self.broken),
            broken_count=self.broken_count,
            against_broken=tuple(self.against_broken),
            semantic_count=self.semantic_count,
        )

    def _keep(self, line: Line, document: Document) -> None:
        self.texts.append_text(document.sketch.text)
        self.places.append(self._place(line, document).as_json())
        self.dedup.add("", document.sketch)  # its ordinal is its name

    def _note_duplicate(self, line: Line, document: Document, match: Match) -> None:
        self.exact += match.exact
        self.near += not match.exact
        if self.clusters is not None:
            place = self._place(line, document)
            self.clusters.add(
                match.ordinal, self.places.read(match.ordinal), place, match.similarity, exact=match.exact
            )

    def _place(self, line: Line, document: Document) -> Place:
        return Place(str(self.inputs[line.file]), line.number, document.id)

    def _note_broken(self, line: Line, message: str, *, is_source: bool) -> None:
        path = self.inputs[line.file]
        if self.strict:
            raise UsageError(f"{path}:{line.number}: {message}")
        self.broken_count += is_source
        broken = self.broken if is_source else self.against_broken
        if len(broken) < MAX_BROKEN_KEPT:
            broken.append((line.number, message if is_source else f"{path}: {message}"))
