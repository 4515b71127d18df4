"""What a server says of a batch: OpenAI's eight states, and the variants of vendors that call themselves compatible.

    validating ──> in_progress ──> finalizing ──> completed
        │               │              └────────> expired
        └──> failed     └──> cancelling ──> cancelled

Together writes capitals within an object `job` and one `error` in words; others say `JOB_STATE_SUCCEEDED` or `ended`.
`completed` says nothing about the lines: there may be an error file alone. A missing file is null or an empty string.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from synth_async.endpoint.failures import error_text

__all__ = ["BatchProblem", "BatchStatus", "BatchView", "read_batch", "read_file_id", "read_page", "status_of"]


class BatchStatus(StrEnum):
    """Where a batch stands, in OpenAI's words."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will come of it."""
        return self in (BatchStatus.FAILED, BatchStatus.COMPLETED, BatchStatus.EXPIRED, BatchStatus.CANCELLED)


_OTHER_WORDS: Mapping[str, BatchStatus] = {
    **dict.fromkeys(("created", "pending", "queued", "submitted"), BatchStatus.VALIDATING),
    **dict.fromkeys(("running", "processing", "started", "in progress"), BatchStatus.IN_PROGRESS),
    **dict.fromkeys(("complete", "done", "ended", "success", "succeeded"), BatchStatus.COMPLETED),
    **dict.fromkeys(("error", "errored", "failure", "invalid"), BatchStatus.FAILED),
    **dict.fromkeys(("timeout", "timed_out", "timeout_exceeded"), BatchStatus.EXPIRED),
    **dict.fromkeys(("canceling", "cancellation_requested", "cancel_requested"), BatchStatus.CANCELLING),
    "canceled": BatchStatus.CANCELLED,
}
_PREFIXES = ("job_state_", "batch_state_", "batch_status_", "state_", "status_")
_WRAPPERS = ("job", "batch", "data", "result")
_TOKEN_LIMIT = ("token_limit_exceeded", "enqueued token limit")


@dataclass(frozen=True, slots=True)
class BatchProblem:
    """Why a batch failed. `line` counts from 1 in the input file, where one line is to blame."""

    code: str
    message: str
    line: int | None = None

    @property
    def is_token_limit(self) -> bool:
        """Whether the account has too many prompt tokens waiting, so that it is a matter of time."""
        return any(mark in f"{self.code} {self.message}".lower() for mark in _TOKEN_LIMIT)


@dataclass(frozen=True, slots=True)
class BatchView:
    """One look at a batch. `said` is the server's own word for its state."""

    id: str
    status: BatchStatus
    said: str = ""
    input_file: str | None = None
    output_file: str | None = None
    error_file: str | None = None
    completed: int = 0
    failed: int = 0
    problems: tuple[BatchProblem, ...] = ()
    metadata: Mapping[str, str] | None = None


def read_batch(body: bytes) -> BatchView:
    """The batch in a response; raises ValueError where there is none."""
    return _view(_unwrapped(orjson.loads(body)))


def read_page(body: bytes) -> tuple[list[BatchView], str | None]:
    """The batches on one page of a list, and what to ask for the next one `after`; None where it is the last."""
    found = orjson.loads(body)
    listed = found if isinstance(found, list) else _listed(found)
    views = [_view(_unwrapped(each)) for each in listed]
    has_more = isinstance(found, dict) and bool(found.get("has_more")) and bool(views)
    last = found.get("last_id") if isinstance(found, dict) else None
    return views, (str(last or views[-1].id) if has_more else None)


def read_file_id(body: bytes) -> str:
    """The id of the file in a response to its upload; raises ValueError where there is none."""
    found = orjson.loads(body)
    inner = found.get("file", found) if isinstance(found, dict) else {}
    file_id = inner.get("id") if isinstance(inner, dict) else None
    if not isinstance(file_id, str) or not file_id:
        raise ValueError("not a file")
    return file_id


def _listed(found: Any) -> list[Any]:
    for name in ("data", "jobs", "batches"):
        if isinstance(found, dict) and isinstance(found.get(name), list):
            listed: list[Any] = found[name]
            return listed
    raise ValueError("not a list of batches")


def _unwrapped(found: Any) -> dict[str, Any]:
    while isinstance(found, dict):
        if "status" in found or "state" in found:
            return found
        inner = next((found[name] for name in _WRAPPERS if isinstance(found.get(name), dict)), None)
        if inner is None:
            break
        found = inner
    raise ValueError("not a batch")


def _view(found: Mapping[str, Any]) -> BatchView:
    batch_id = found.get("id") or found.get("batch_id") or found.get("name")
    said = found.get("status") or found.get("state")
    if not isinstance(batch_id, str) or not isinstance(said, str):
        raise ValueError("a batch without id or status")  # noqa: TRY004 - what a server wrote, and no argument
    counts = found.get("request_counts")
    counted: Mapping[str, Any] = counts if isinstance(counts, dict) else found
    metadata = found.get("metadata")
    return BatchView(
        batch_id,
        status_of(said),
        said,
        input_file=_name(found, "input_file_id", "input_file"),
        output_file=_name(found, "output_file_id", "output_file"),
        error_file=_name(found, "error_file_id", "error_file"),
        completed=_count(counted.get("completed")),
        failed=_count(counted.get("failed")),
        problems=tuple(_problems(found)),
        metadata={str(key): str(value) for key, value in metadata.items()} if isinstance(metadata, dict) else None,
    )


def status_of(said: str) -> BatchStatus:
    """The state that a server's word stands for. An unknown word is not the end of a batch: it is looked at again."""
    word = said.strip().lower().replace("-", "_")
    for prefix in _PREFIXES:
        word = word.removeprefix(prefix)
    if word in list(BatchStatus):
        return BatchStatus(word)
    return _OTHER_WORDS.get(word, BatchStatus.IN_PROGRESS)


def _name(found: Mapping[str, Any], *keys: str) -> str | None:
    return next((value for key in keys if isinstance(value := found.get(key), str) and value), None)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _problems(found: Mapping[str, Any]) -> Iterable[BatchProblem]:
    errors = found.get("errors") or found.get("error")
    listed = errors.get("data", errors) if isinstance(errors, dict) else errors
    for each in listed if isinstance(listed, list) else [listed] if listed else []:
        if isinstance(each, dict):
            line = each.get("line")
            code, message = str(each.get("code") or ""), str(each.get("message") or "")
            yield BatchProblem(code, _one_line(message), line if isinstance(line, int) and line > 0 else None)
        else:
            yield BatchProblem("", _one_line(str(each)))


def _one_line(text: str) -> str:
    return error_text(orjson.dumps({"message": text}))
