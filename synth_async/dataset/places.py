"""Where the files of an export go: a folder of its own, or one file with the others beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from synth_async.dataset.card import CARD_MARK
from synth_async.dataset.formats import FORMATS, Format
from synth_async.errors import DiskFailure, UsageError

__all__ = ["Places", "places_for", "source_file"]

_FILES = (".jsonl", ".json", ".gz", ".parquet")
_PARTS = (
    "held_out.jsonl",
    "held_out.jsonl.gz",
    "held_out.parquet",
    "suite.jsonl",
    "dropped.jsonl",
    "provenance.jsonl",
    "packed.parquet",
)


@dataclass(frozen=True, slots=True)
class Places:
    """`train` is the file of the examples. `prefix` stands before the names of the others; empty in a folder."""

    train: Path
    prefix: str

    @property
    def folder(self) -> Path:
        return self.train.parent

    def part(self, name: str) -> Path:
        """The place of another file: `held_out.jsonl`, or beside `x.jsonl` `x.held_out.jsonl`."""
        return self.folder / f"{self.prefix}{name}"

    def sibling(self, name: str) -> Path:
        """The place of a file of the same kind as the examples."""
        suffix = ".jsonl.gz" if self.train.suffix == ".gz" else self.train.suffix
        return self.part(f"{name}{suffix}")

    def card(self) -> Path:
        """README.md; under another name where one stands that is not the card of this export."""
        card = self.folder / "README.md"
        return card if not card.exists() or self._is_own(card) else self.folder / f"{self.prefix or 'train.'}README.md"

    def earlier_parts(self) -> Iterator[Path]:
        """Files of an earlier export to the same place, by its card: what is not written again would be stale."""
        if any(card.exists() and self._is_own(card) for card in (self.folder / "README.md", self.card())):
            yield from (path for path in map(self.part, _PARTS) if path.is_file())

    def _is_own(self, card: Path) -> bool:
        try:
            return CARD_MARK.format(name=self.train.name) in card.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise UsageError(f"{card}: could not be read: {error.strerror}") from None


def source_file(source: Path) -> Path:
    """The file with the examples: that of a run folder, or the one that is named; raises `UsageError`."""
    if not source.is_dir():
        return source
    dataset = source / "dataset.jsonl"
    if not dataset.is_file():
        raise UsageError(f"{source}: no dataset.jsonl in it; name a run folder, or the file to export")
    return dataset


def places_for(out: Path | None, source: Path, target: Format) -> Places:
    """Where to write: `out` is a file by its suffix, else a folder; by default a folder beside the source.

    Raises `UsageError` for a name that the format cannot have, `DiskFailure` where the folder cannot be made.
    """
    out = out or source.parent / f"export-{target.name}"
    if out.suffix in _FILES and not out.is_dir():
        _check_name(out, target)
        stem = out.name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".parquet")
        return Places(_made(out.parent) / out.name, f"{stem}.")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is there and is no folder; name a folder, or a file that ends in {target.suffix}")
    return Places(_made(out) / f"train{target.suffix}", "")


def _check_name(out: Path, target: Format) -> None:
    is_fitting = out.suffix == ".parquet" if target.suffix == ".parquet" else out.suffix in {".jsonl", ".gz"}
    if not is_fitting:
        kind = "Parquet" if target is FORMATS["parquet"] else "JSON Lines"
        also = "" if target.suffix == ".parquet" else " or .jsonl.gz"
        raise UsageError(f"{out}: {target.name} is written as {kind}; name a file that ends in {target.suffix}{also}")


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiskFailure(f"{folder}: the folder cannot be made: {error.strerror}") from None
    return folder
