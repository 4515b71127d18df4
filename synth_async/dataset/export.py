"""Exports a dataset for training: in a trainer's format, split, mixed with real data, packed, with its card.

Memory is flat but for what has to be compared: held-out and real examples (3 KB each), evaluation files, and 8 bytes
an example where lines are shuffled or lengths counted. What survives: every file is written aside and renamed once all
of them are whole, that of the examples last, so a kill leaves files of the earlier export or of this one, none by half.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from synth_async.config.models import DEFAULT_CRITERIA
from synth_async.dataset.card import CardFacts, card_text
from synth_async.dataset.decontaminate import Leaks
from synth_async.dataset.extras import required
from synth_async.dataset.formats import FORMATS, Format
from synth_async.dataset.formats.companions import axolotl_config, dataset_info
from synth_async.dataset.line_files import Spool, refuse_overwriting, replaced
from synth_async.dataset.mix import drawn_order, mix_counts
from synth_async.dataset.packed import Packer, Packing
from synth_async.dataset.places import Places, places_for, source_file
from synth_async.dataset.sift import LeftOut, Sift, Sifted
from synth_async.dataset.sinks import JsonlSink, Sink, encoded, open_sink
from synth_async.dataset.split import Suite
from synth_async.dataset.tokens import ChatTokenizer, TokenCounts, load_tokenizer
from synth_async.errors import UsageError
from synth_async.stages.conversations import Conversation
from synth_async.store.run_folder import RunFolder, read_json

__all__ = ["ExportSummary", "ExportWishes", "export"]

_PROGRESS_ROWS = 1000


@dataclass(frozen=True, slots=True)
class ExportWishes:
    """What is exported, and how. `source`: a run folder or a file; `out`: a file by its suffix, else a folder."""

    source: Path
    format: str
    out: Path | None = None
    keep_metadata: bool = False
    license: str = "unknown"
    seed: int = 0
    held_out: float = 0.0
    suite: int = 50
    mix: Path | None = None
    real_share: float = 0.4
    decontaminate: tuple[Path, ...] = ()
    threshold: float = 0.80
    tokenizer: str | None = None
    max_tokens: int | None = None
    pack: int | None = None
    split_long: bool = False


@dataclass(slots=True)
class ExportSummary:
    """What was written. `read` = `rows` + `held_out` + `surplus` (left over by the share of a mix) + all `dropped`."""

    out: str
    format: str
    files: list[str] = field(default_factory=list)
    read: int = 0
    rows: int = 0
    real: int = 0
    held_out: int = 0
    topics: int = 0
    held_out_topics: int = 0
    suite: int = 0
    surplus: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    first_dropped: list[str] = field(default_factory=list)
    tokens: dict[str, int | float] | None = None
    over_length: int | None = None
    packing: Packing | None = None
    warnings: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {
            "dropped": dict(self.dropped),
            "packing": None if self.packing is None else self.packing.as_json(),
        }


def export(wishes: ExportWishes, on_progress: Callable[[int], None] | None = None) -> ExportSummary:
    """Write the export, and say what is in it. `on_progress` hears the number of rows read.

    Raises `UsageError` for wishes that cannot be met (a file that cannot be read, an extra that is not installed, a
    split without a held-out topic, nothing left to write), `DiskFailure` where writing fails.
    """
    _check(wishes)
    return _Export(wishes, on_progress).run()


def _check(wishes: ExportWishes) -> None:
    if wishes.format not in FORMATS:
        raise UsageError(f"format {wishes.format}: is none of {', '.join(FORMATS)}")
    if not 0 <= wishes.held_out < 1:
        raise UsageError(f"held-out share {wishes.held_out:g}: must be at least 0 and below 1, such as 0.1")
    if not 0 < wishes.real_share < 1:
        raise UsageError(f"real share {wishes.real_share:g}: must be above 0 and below 1, such as 0.4")
    if not 0 < wishes.threshold <= 1:
        raise UsageError(f"threshold {wishes.threshold:g}: must be above 0 and at most 1")
    if wishes.tokenizer is None and (wishes.pack is not None or wishes.max_tokens is not None):
        raise UsageError("tokens are counted with a tokenizer; name it with --tokenizer")
    if wishes.pack is not None or FORMATS[wishes.format].suffix == ".parquet":
        required("pyarrow.parquet", extra="parquet")


class _Export:
    """The state of one export."""

    def __init__(self, wishes: ExportWishes, on_progress: Callable[[int], None] | None) -> None:
        self._wishes = wishes
        self._on_progress = on_progress
        self._target: Format = FORMATS[wishes.format]
        self._source = source_file(wishes.source)
        self._run = RunFolder(self._source.parent)
        self._places: Places = places_for(wishes.out, self._source, self._target)
        self._tokenizer: ChatTokenizer | None = None if wishes.tokenizer is None else load_tokenizer(wishes.tokenizer)
        self._counts = TokenCounts()
        self._packer: Packer | None = None
        self._summary = ExportSummary(out=str(self._places.train), format=wishes.format)
        self._has_tools = False
        self._dropped: JsonlSink | None = None
        self._provenance: JsonlSink | None = None
        manifest = read_json(self._run.manifest) if self._run.dataset == self._source else None
        name = str((manifest or {}).get("name") or self._source.name.partition(".")[0])
        self._facts = CardFacts(name, wishes.format, wishes.license, manifest=manifest)
        if manifest is not None:
            self._facts.metrics = read_json(self._run.metrics)

    def run(self) -> ExportSummary:
        inputs = [self._source, *self._wishes.decontaminate, *([self._wishes.mix] if self._wishes.mix else [])]
        outputs = [self._places.train, self._places.sibling("held_out")]
        refuse_overwriting(inputs=inputs, outputs=outputs)
        stale = set(self._places.earlier_parts())
        sift = self._sift()
        with ExitStack() as stack:
            self._write(sift, stack)
        self._write_companions()
        self._write_card()
        for path in stale - {Path(file) for file in self._summary.files}:
            path.unlink(missing_ok=True)
        return self._summary

    # --- deciding ----------------------------------------------------------------------------------

    def _sift(self) -> Sift:
        wishes = self._wishes
        sift = Sift(self._target, held_out=wishes.held_out, seed=wishes.seed, threshold=wishes.threshold)
        if wishes.decontaminate:
            sift.learn_leaks(Leaks(wishes.decontaminate, threshold=wishes.threshold))
        if wishes.held_out:
            sift.learn_held_out(self._source)
            self._check_split(sift)
        if wishes.mix is not None:
            sift.learn_real(wishes.mix)
        return sift

    def _check_split(self, sift: Sift) -> None:
        self._summary.topics, self._summary.held_out_topics = sift.topics, sift.held_out_topics
        if sift.topics and not 0 < sift.held_out_topics < sift.topics:
            side = "held-out" if not sift.held_out_topics else "training"
            raise UsageError(
                f"{self._source}: with --held-out {self._wishes.held_out:g} and --seed {self._wishes.seed}, none of the"
                f" {sift.topics} topics falls on the {side} side; take another share, or another --seed"
            )

    # --- writing -----------------------------------------------------------------------------------

    def _write(self, sift: Sift, stack: ExitStack) -> None:
        wishes, places = self._wishes, self._places
        train = self._opened(places.train, stack)
        held_out = self._opened(places.sibling("held_out"), stack) if wishes.held_out else None
        suite = Suite(wishes.suite, seed=wishes.seed, rubric=_rubric(self._facts.manifest))
        if wishes.pack is not None:
            self._packer = stack.enter_context(Packer(wishes.pack, split_long=wishes.split_long, folder=places.folder))
        for record in self._training_rows(sift, held_out, suite, stack):
            self._emit(record, train, stack)
        if not train.rows:
            raise UsageError(f"{self._source}: nothing to write as {wishes.format}: {self._why_nothing()}")
        self._summary.rows = train.rows
        self._facts.splits = {"train": (places.train.name, train.rows)}
        if held_out is not None:
            self._facts.splits["test"] = (held_out.path.name, held_out.rows)
            self._summary.held_out = held_out.rows
            self._write_suite(suite, stack)
        self._write_tokens(stack)
        if train.rows < self._target.min_rows:
            self._summary.warnings.append(
                f"{train.rows} rows; {wishes.format} takes no fewer than {self._target.min_rows}"
            )

    def _training_rows(
        self, sift: Sift, held_out: Sink | None, suite: Suite, stack: ExitStack
    ) -> Iterator[dict[str, Any]]:
        """The records of the training side: in the order of the source, or the mix in its drawn order."""
        synthetic = self._synthetic(sift, held_out, suite, stack)
        if self._wishes.mix is None:
            yield from synthetic
            return
        with Spool(self._places.folder) as spool:
            for record in synthetic:
                spool.append(encoded(record))
            available = len(spool)
            for row in self._kept(sift.rows(self._wishes.mix, "real"), stack):
                spool.append(encoded(self._record(row)))
            counts = (available, len(spool) - available)
            if not counts[1]:
                raise UsageError(f"{self._wishes.mix}: no example in it can be mixed in: {self._why_nothing()}")
            taken = mix_counts(*counts, self._wishes.real_share)
            self._summary.surplus = sum(counts) - sum(taken)
            self._summary.real = self._facts.real = taken[1]
            for number in drawn_order(counts, taken, seed=self._wishes.seed):
                yield json.loads(spool.read(number))

    def _synthetic(self, sift: Sift, held_out: Sink | None, suite: Suite, stack: ExitStack) -> Iterator[dict[str, Any]]:
        for row in self._kept(sift.rows(self._source, "synthetic"), stack):
            self._facts.note(row.conversation)
            self._has_tools |= row.conversation.has_tools
            if row.is_held_out and held_out is not None:
                held_out.write(self._record(row)["row"])
                suite.offer(row.topic, row.conversation)
            else:
                yield self._record(row)

    def _kept(self, rows: Iterator[Sifted | LeftOut], stack: ExitStack) -> Iterator[Sifted]:
        for row in rows:
            self._summary.read += 1
            if self._on_progress is not None and self._summary.read % _PROGRESS_ROWS == 0:
                self._on_progress(self._summary.read)
            if isinstance(row, LeftOut):
                self._note_left_out(row, stack)
            else:
                yield row

    def _record(self, row: Sifted) -> dict[str, Any]:
        """What is known of a row until it is written: JSON, so that it can wait on the disk."""
        written = dict(row.row)
        if self._wishes.keep_metadata:
            provenance = {"provenance": row.origin} if self._wishes.mix is not None else {}
            written |= {"id": row.conversation.id, "metadata": {**row.conversation.metadata, **provenance}}
        record: dict[str, Any] = {"row": written, "origin": row.origin, "line": row.line, "id": row.conversation.id}
        if self._tokenizer is not None:
            record["turns"] = row.conversation.turns
            record["tools"] = row.conversation.tools
        return record

    def _emit(self, record: Mapping[str, Any], train: Sink, stack: ExitStack) -> None:
        train.write(record["row"])
        if self._wishes.mix is not None and not self._wishes.keep_metadata:
            if self._provenance is None:
                self._provenance = self._opened_jsonl("provenance.jsonl", stack)
            file = self._wishes.mix if record["origin"] == "real" else self._source
            origin = {"source": record["origin"], "file": str(file), "file_line": record["line"], "id": record["id"]}
            self._provenance.write({"line": train.rows, **origin})
        if self._tokenizer is not None:
            tokens = self._tokenizer.tokens(Conversation(tuple(record["turns"]), 0, tools=record["tools"]))
            self._counts.note(tokens)
            if self._packer is not None:
                self._packer.add(train.rows, tokens)

    def _note_left_out(self, row: LeftOut, stack: ExitStack) -> None:
        self._summary.dropped[row.reason] += 1
        if self._dropped is None:
            self._dropped = self._opened_jsonl("dropped.jsonl", stack)
        place = {"file": str(row.file), "line": row.line, "id": row.id}
        self._dropped.write({**place, "reason": row.reason, "detail": row.detail})
        if len(self._summary.first_dropped) < 5:
            self._summary.first_dropped.append(f"{row.file}:{row.line}: {row.reason}: {row.detail}")

    def _why_nothing(self) -> str:
        if not self._summary.read:
            return "it holds no rows"
        if self._summary.surplus:
            return "the share of real examples leaves room for none"
        return "; ".join(self._summary.first_dropped[:1]) or "every row is held out"

    # --- what goes beside it -----------------------------------------------------------------------

    def _write_suite(self, suite: Suite, stack: ExitStack) -> None:
        tests = suite.tests()
        if tests:
            sink = self._opened_jsonl("suite.jsonl", stack)
            for test in tests:
                sink.write(test)
            self._summary.suite = sink.rows

    def _write_tokens(self, stack: ExitStack) -> None:
        if self._tokenizer is None:
            return
        self._summary.tokens = self._counts.as_json()
        limit = self._wishes.max_tokens or self._wishes.pack
        if limit is not None:
            self._summary.over_length = sum(length > limit for length in self._counts.lengths)
        if not self._tokenizer.has_own_template:
            self._summary.warnings.append(f"{self._tokenizer.name} has no chat template; ChatML was taken")
        if self._packer is not None:
            path = self._places.part("packed.parquet")
            self._summary.files.append(str(path))
            self._summary.packing = self._packer.write(stack.enter_context(replaced(path)))

    def _write_companions(self) -> None:
        held_out = self._facts.splits.get("test", (None, 0))[0]
        if self._wishes.format == "axolotl":
            train, test = self._places.train.resolve(), held_out and self._places.folder.resolve() / held_out
            config = axolotl_config(str(train), str(test) if test else None)
            self._written(self._places.part("axolotl.yaml"), config.encode())
        elif self._wishes.format in {"alpaca", "sharegpt"}:
            files = {self._facts.name: self._places.train.name}
            files |= {f"{self._facts.name}_held_out": held_out} if held_out else {}
            path = self._places.folder / "dataset_info.json"
            entries = dataset_info(self._wishes.format, files, has_tools=self._has_tools)
            known = read_json(path) or {}
            self._written(path, orjson.dumps(known | entries, option=orjson.OPT_INDENT_2) + b"\n")

    def _write_card(self) -> None:
        self._facts.dropped = self._summary.dropped
        self._written(self._places.card(), card_text(self._facts).encode("utf-8", "replace"))

    def _written(self, path: Path, content: bytes) -> None:
        with replaced(path) as file:
            file.write(content)
        self._summary.files.append(str(path))

    def _opened(self, path: Path, stack: ExitStack) -> Sink:
        self._summary.files.append(str(path))
        return open_sink(path, stack, keep_metadata=self._wishes.keep_metadata)

    def _opened_jsonl(self, name: str, stack: ExitStack) -> JsonlSink:
        path = self._places.part(name)
        self._summary.files.append(str(path))
        return JsonlSink(path, stack)


def _rubric(manifest: Mapping[str, Any] | None) -> dict[str, str]:
    """Criterion -> question, as the judge of the run had them; those of a default config where there was none."""
    judge = ((manifest or {}).get("parts") or {}).get("judge") or {}
    named = judge.get("judge.criteria") or []
    if named:
        return {name: str(judge.get(f"judge.criteria.{name}.description", "")) for name in named}
    return {criterion.name: criterion.description for criterion in DEFAULT_CRITERIA}
