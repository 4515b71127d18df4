"""What the end of a batch means for the lines in it that brought no answer, and for the run. Plain decisions."""

from __future__ import annotations

import re

from synth_async.endpoint.batch.states import BatchStatus, BatchView
from synth_async.errors import EndpointRefused, RequestFailure, RequestRejected, StoppedEarly, TransientFailure

__all__ = ["Again", "limit_named", "refusal_of", "unanswered"]

_QUOTA = ("insufficient_quota", "billing", "quota")
_WRONG_MODEL = ("model_not_found", "invalid_model", "mismatched_model", "does not exist")
_LIMIT = re.compile(r"limit:? ([\d,]+)", re.IGNORECASE)


class Again(RequestFailure):
    """A line that was not executed, through no fault of its own: it goes into a later batch, which is no attempt."""


def refusal_of(view: BatchView, *, endpoint: str, was_cancelled: bool) -> EndpointRefused | StoppedEarly | None:
    """Why the run cannot go on after this batch; None where it can. `was_cancelled`: before this process looked."""
    if view.status is BatchStatus.CANCELLED and not was_cancelled:
        return StoppedEarly(
            f"endpoint {endpoint}: batch {view.id} was cancelled; what it had done is kept,"
            " and the same command sends the rest"
        )
    if view.status is not BatchStatus.FAILED or any(problem.is_token_limit for problem in view.problems):
        return None
    said = "; ".join(f"{problem.code} {problem.message}".strip() for problem in view.problems[:3]) or "without a reason"
    if any(mark in said.lower() for mark in _QUOTA):
        return EndpointRefused(f"endpoint {endpoint}: the quota is used up (batch failed: {said})")
    if any(mark in said.lower() for mark in _WRONG_MODEL):
        return EndpointRefused(f"endpoint {endpoint}: no such model for batches ({said}); check model")
    if not any(problem.line is not None for problem in view.problems):
        return EndpointRefused(f"endpoint {endpoint}: batch {view.id or 'creation'} failed: {said}")
    return None


def unanswered(view: BatchView, line: int) -> RequestFailure:
    """The failure of a line (from 1) that is neither in the output nor in the error file of an ended batch."""
    match view.status:
        case BatchStatus.FAILED:
            blamed = next((problem for problem in view.problems if problem.line == line), None)
            if blamed is not None and not blamed.is_token_limit:
                return RequestRejected(f"refused in the batch file: {blamed.code}: {blamed.message}", status=400)
            return Again("the batch failed before this line was executed")
        case BatchStatus.EXPIRED:
            return TransientFailure("the batch expired before this line was executed", kind="batch_expired")
        case BatchStatus.CANCELLED:
            return Again("the batch was cancelled before this line was executed")
    return TransientFailure("the batch ended without this line", kind="batch_missing")


def limit_named(view: BatchView) -> int | None:
    """The enqueued-token limit that a failed batch tells of."""
    for problem in view.problems:
        if problem.is_token_limit and (found := _LIMIT.search(problem.message)) is not None:
            return int(found[1].replace(",", "")) or None
    return None
