"""Reading the files of a run as they grow: what is new since the last look, whole lines only.

A file that was replaced, or is shorter than it was, has been made anew by a resume: then all of it is read again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from synth_async.report.facts import RunReport

__all__ = ["Follower"]

_ID = re.compile(rb'\{\s*"id"\s*:\s*"([^"\\]*)"')


class _Followed:
    """One file, and how far it has been read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read_bytes = 0
        self._file_id: tuple[int, int] | None = None

    def behind_bytes(self) -> int:
        try:
            return self.path.stat().st_size - self.read_bytes
        except FileNotFoundError:
            return 0

    def is_another(self) -> bool:
        """Whether what was read is no longer what is there."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return self._file_id is not None
        is_first = self._file_id is None
        earlier, self._file_id = self._file_id, (found.st_dev, found.st_ino)
        return not is_first and (earlier != self._file_id or found.st_size < self.read_bytes)

    def lines(self, most_bytes: int | None) -> Iterator[tuple[int, bytes]]:
        """(offset, line) of the whole lines that follow, about `most_bytes` of them; None: to the end."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            file.seek(self.read_bytes)
            until = None if most_bytes is None else self.read_bytes + most_bytes
            for line in file:
                if not line.endswith(b"\n") or (until is not None and self.read_bytes >= until):
                    return
                place, self.read_bytes = self.read_bytes, self.read_bytes + len(line)
                yield place, line


class Follower:
    """What `dataset.jsonl` and `rejects.jsonl` add up to so far, either of which may not be there yet.

    Lines that no run wrote are counted and left out.
    """

    def __init__(self, dataset: Path, rejects: Path) -> None:
        self.report = RunReport()
        self._dataset = _Followed(dataset)
        self._rejects = _Followed(rejects)
        self._kept: dict[str, dict[str, Any]] = {}

    @property
    def behind_bytes(self) -> int:
        """What has not been read yet."""
        return max(0, self._dataset.behind_bytes()) + max(0, self._rejects.behind_bytes())

    def read_on(self, most_bytes: int | None = None) -> bool:
        """Read what is new, about `most_bytes` of each file; whether that was all there is."""
        if self._dataset.is_another() or self._rejects.is_another():
            self.report, self._kept = RunReport(), {}
            self._dataset.read_bytes = self._rejects.read_bytes = 0
        self._take_in(self._dataset, self.report.add_accepted, most_bytes)
        self._take_in(self._rejects, self.report.add_rejected, most_bytes)
        # What came meanwhile is for the next look: a run always writes a little faster than it is read.
        return most_bytes is None or self.behind_bytes < most_bytes

    def _take_in(
        self, followed: _Followed, add: Callable[[Mapping[str, Any], int], None], most_bytes: int | None
    ) -> None:
        for place, raw in followed.lines(most_bytes):
            try:
                add(orjson.loads(raw), place)
            except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError):
                # Not a line that a run wrote: the files may have been edited.
                self.report.unreadable += 1

    def rejected_lines(self, places: Iterable[int]) -> list[dict[str, Any]]:
        """The lines of `rejects.jsonl` that begin at these bytes."""
        try:
            with self._rejects.path.open("rb") as file:
                return [
                    orjson.loads(os.pread(file.fileno(), _line_bytes(file.fileno(), place), place)) for place in places
                ]
        except (OSError, orjson.JSONDecodeError):
            return []

    def accepted_lines(self, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Id -> line of `dataset.jsonl`, of those ids that are there. What was found once is remembered."""
        wanted = dict.fromkeys(ids)
        self._kept = {each: line for each, line in self._kept.items() if each in wanted}
        missing = {each.encode("utf-8", "replace") for each in wanted if each not in self._kept}
        for _, raw in _Followed(self._dataset.path).lines(None):
            if not missing:
                break
            found = _ID.match(raw)
            if found is not None and found[1] in missing:
                missing.discard(found[1])
                self._kept[found[1].decode()] = orjson.loads(raw)
        return self._kept


def _line_bytes(descriptor: int, place: int) -> int:
    """The length of the line that begins at a byte."""
    length, size = 0, 4096
    while piece := os.pread(descriptor, size, place + length):
        end = piece.find(b"\n")
        if end >= 0:
            return length + end
        length += len(piece)
    return length
