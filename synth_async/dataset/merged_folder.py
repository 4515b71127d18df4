"""The run folder that a merge makes: by the contract of a run's, without a journal.

    dataset.jsonl   kept lines             rejects.jsonl   what was dropped by the merge, and what it repeats
    metrics.json    sums over the sources  run.json        which sources, and how
    clusters.jsonl  kept lines with their duplicates, and where each was read

It is built under another name and renamed once it is whole, so a kill leaves nothing that looks like a run.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from synth_async import __version__
from synth_async.dataset.clusters import Place
from synth_async.dataset.line_files import numbered_lines, replaced
from synth_async.errors import DiskFailure, UsageError
from synth_async.records import DropReason, Stage
from synth_async.store.journal import sync_folder
from synth_async.store.run_folder import RunFolder, read_json, write_atomically

__all__ = ["MergedFolder"]

_FUNNEL = ("asked", "answered", "parsed", "passed", "judged", "accepted")
_FORMAT = 1


class MergedFolder:
    """A folder under a passing name; `finish` completes it, and leaving the block without an error puts it in place."""

    def __init__(self, path: Path, sources: Sequence[Path]) -> None:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(f"{path}: holds files already; name a new folder, or one that is empty")
        self._path = path
        self._sources = sources
        self._building = RunFolder(path.resolve().with_name(f".{path.name}.{os.getpid()}.tmp"))
        self._open = ExitStack()
        self._dropped: Counter[str] = Counter()

    @property
    def dataset(self) -> Path:
        return self._building.dataset

    @property
    def clusters(self) -> Path:
        return self._building.path / "clusters.jsonl"

    def __enter__(self) -> Self:
        self._building.create()
        self._rejects = self._open.enter_context(replaced(self._building.rejects))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._open.__exit__(kind, error, trace)
            if kind is None:
                self._building.path.rename(self._path.resolve())
                sync_folder(self._path.resolve().parent)
        except OSError as problem:
            raise DiskFailure(f"{self._path}: could not be put in place: {problem.strerror}") from None
        finally:
            shutil.rmtree(self._building.path, ignore_errors=True)

    def reject(self, row: Mapping[str, Any], kept: Place, similarity: float, *, exact: bool) -> None:
        """A line of `rejects.jsonl`, with its messages and metadata where it has them."""
        reason = DropReason.EXACT_DUPLICATE if exact else DropReason.NEAR_DUPLICATE
        self._dropped[str(reason)] += 1
        named = kept.id or f"{kept.file}:{kept.line}"
        line = {"id": row.get("id"), "stage": str(Stage.DEDUP), "reason": str(reason)}
        line["detail"] = f"{similarity:.2f} of {named}"
        line |= {key: row[key] for key in ("messages",) if key in row}
        line["metadata"] = row.get("metadata") or {}
        self._rejects.write(json.dumps(line).encode() + b"\n")

    def finish(self, kept: int, threshold: float) -> None:
        """Write the manifest and the counts."""
        manifests = [_manifest(source) for source in self._sources]
        sources = zip(map(str, self._sources), manifests, strict=True)
        manifest = {
            "format": _FORMAT,
            "name": self._path.name,
            "synth_async": __version__,
            "simulated": any(found.get("simulated", False) for found in manifests),
            "target": kept,
            "merged": [{"source": source, "name": found.get("name")} for source, found in sources],
            "dedup": {"threshold": threshold, "verify": "indel"},
        }
        write_atomically(self._building.manifest, json.dumps(manifest, indent=2).encode() + b"\n")
        metrics = _summed([_metrics(source) for source in self._sources], kept, self._dropped)
        write_atomically(self._building.metrics, json.dumps(metrics, indent=2).encode() + b"\n")


def _manifest(source: Path) -> Mapping[str, Any]:
    return (read_json(RunFolder(source).manifest) or {}) if source.is_dir() else {}


def _metrics(source: Path) -> Mapping[str, Any]:
    """A run's counts; for a file, its lines count as accepted examples of unknown cost."""
    found = read_json(RunFolder(source).metrics) if source.is_dir() else None
    if found is not None:
        return found
    dataset = RunFolder(source).dataset if source.is_dir() else source
    return dict.fromkeys(_FUNNEL, sum(1 for _ in numbered_lines([dataset])))


def _summed(parts: Sequence[Mapping[str, Any]], kept: int, dropped: Mapping[str, int]) -> dict[str, Any]:
    """`metrics.json` of the whole: what the sources took together, with what the merge dropped."""

    def total(key: str) -> Any:
        return sum(part.get(key) or 0 for part in parts)

    rejected = Counter(dropped)
    for part in parts:
        rejected.update(part.get("rejected") or {})
    is_priced = all(part.get("cost_usd") is not None for part in parts)
    tokens = [part.get("tokens") or {} for part in parts]
    return {
        **{step: total(step) for step in _FUNNEL},
        "accepted": kept,
        "target": kept,
        "rejected": dict(rejected.most_common()),
        "attempts": total("attempts"),
        "http_429": total("http_429"),
        "tokens": {kind: sum(part.get(kind, 0) for part in tokens) for kind in ("prompt", "completion")},
        "cost_usd": round(total("cost_usd"), 6) if is_priced else None,
        "elapsed_s": round(total("elapsed_s"), 3),
        "utilisation": {},
        "undecided": total("undecided"),
    }
