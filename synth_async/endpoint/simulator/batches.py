"""Batches as the embedded endpoint keeps them: files, batches, and what becomes of each, drawn by the seed.

Outcomes of batches depend on the number of the batch, those of lines on the line and how often it was asked, so that
what is sent again can succeed. A line that is to be rejected is rejected whenever it comes. Nothing here knows HTTP.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from zlib import crc32

import orjson

from synth_async.config.models import Simulation
from synth_async.endpoint.simulator.answers import another_sample, draws_for
from synth_async.endpoint.simulator.chat import ChatBody, InvalidRequest, parse_chat
from synth_async.endpoint.simulator.completion import completion_body
from synth_async.endpoint.simulator.faults import arrival_draw, error_body
from synth_async.endpoint.simulator.tokens import count_prompt_tokens

__all__ = ["BatchDesk", "NotThere"]

_MOST_LINES = 50_000
_MOST_BYTES = 200_000_000
_DONE_SHARE = 0.6
"""Of the lines of a batch that expires or is cancelled."""

_LINES_AT_ONCE = 20
_OF_BATCHES, _OF_LINES, _OF_REJECTION = 0xBA7C, 0x11E5, 0x4EC7


class NotThere(LookupError):
    """No file or batch goes by that id."""


class Outcome(StrEnum):
    """What becomes of a batch, apart from its lines."""

    COMPLETED = "completed"
    FAILED = "failed"
    TOKEN_LIMIT = "token_limit"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    ONLY_ERRORS = "only_errors"


_OPEN = ("validating", "in_progress", "finalizing", "cancelling")


@dataclass(slots=True)
class _Batch:
    id: str
    input_file: str
    metadata: Mapping[str, str]
    lines: list[dict[str, Any]]
    tokens: int
    outcome: Outcome
    created_at: float
    status: str = "validating"
    done: int = 0
    failed: int = 0
    problems: list[dict[str, Any]] = field(default_factory=list)
    output_file: str | None = None
    error_file: str | None = None
    is_cancelled: bool = False

    @property
    def is_open(self) -> bool:
        return self.status in _OPEN


class BatchDesk:
    """The files and batches of one server."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._settings = simulation.batch
        self._files: dict[str, tuple[str, bytes]] = {}
        self._batches: dict[str, _Batch] = {}
        self._times_asked: Counter[str] = Counter()
        # A client that comes back to another process must not take its batches for those of the first.
        self._process_id = secrets.token_hex(4)
        self.answered: set[str] = set()
        """Lines that were answered, and would have been paid for."""
        self._work: set[asyncio.Task[None]] = set()
        self.doubled = 0
        """Lines that came in a batch while another one held them, or had answered them."""

    # --- files -----------------------------------------------------------------------------------

    def upload(self, name: str, content: bytes) -> dict[str, Any]:
        """Keep a file; the object that describes it."""
        return self._described(self._keep("file-", name, content))

    def content(self, file_id: str) -> bytes:
        """The bytes of a file."""
        if file_id not in self._files:
            raise NotThere(file_id)
        return self._files[file_id][1]

    def _keep(self, prefix: str, name: str, content: bytes) -> str:
        file_id = f"{prefix}{self._process_id}{len(self._files):06d}"
        self._files[file_id] = (name, content)
        return file_id

    def _described(self, file_id: str) -> dict[str, Any]:
        name, content = self._files[file_id]
        size, purpose = len(content), "batch"
        described = {"id": file_id, "object": "file", "bytes": size, "filename": name, "purpose": purpose}
        return {**described, "created_at": int(time.time()), "status": "processed"}

    # --- batches ---------------------------------------------------------------------------------

    def create(self, input_file: str, metadata: Mapping[str, str]) -> dict[str, Any]:
        """Begin a batch; it is worked on in the background. Raises `NotThere` and `InvalidRequest`."""
        if input_file not in self._files:
            raise NotThere(input_file)
        lines = list(_lines(self.content(input_file)))
        tokens = sum(count_prompt_tokens(_texts(line)) for line in lines)
        batch_id = f"batch_{self._process_id}{len(self._batches):06d}"
        batch = _Batch(batch_id, input_file, metadata, lines, tokens, self._outcome(tokens), time.time())
        if batch.outcome not in (Outcome.FAILED, Outcome.TOKEN_LIMIT):
            self._note_doubled(batch)
        self._batches[batch_id] = batch
        task = asyncio.get_running_loop().create_task(self._process(batch))
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return self.view(batch_id)

    def view(self, batch_id: str) -> dict[str, Any]:
        """A batch in the dialect that is asked for."""
        return self._spelt(self._batch(batch_id))

    def page(self, after: str | None, limit: int) -> dict[str, Any]:
        """Batches that are listed by now, the newest first."""
        listed = [
            batch
            for batch in reversed(self._batches.values())
            if time.time() - batch.created_at >= self._settings.listed_after_s
        ]
        if after is not None:
            listed = [batch for batch in listed if batch.id < after]
        shown = [self._spelt(batch) for batch in listed[:limit]]
        ids = {"first_id": listed[0].id, "last_id": listed[: len(shown)][-1].id} if shown else {}
        return {"object": "list", "data": shown, **ids, "has_more": len(listed) > limit}

    def cancel(self, batch_id: str) -> dict[str, Any]:
        """Ask for the end of a batch."""
        batch = self._batch(batch_id)
        if batch.is_open:
            batch.is_cancelled, batch.status = True, "cancelling"
        return self._spelt(batch)

    async def aclose(self) -> None:
        """Stop working."""
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)

    def loses_reply(self, batch_id: str) -> bool:
        """Whether the reply to a creation is never sent."""
        return self._draw(_OF_BATCHES + 1, _number(batch_id)) < self._settings.lost_reply

    def as_json(self) -> dict[str, Any]:
        """Every creation, for the log."""
        created = [
            {"id": batch.id, "metadata": batch.metadata, "lines": len(batch.lines), "outcome": batch.outcome}
            | {"status": batch.status, "completed": batch.done, "failed": batch.failed}
            for batch in self._batches.values()
        ]
        return {"files": len(self._files), "created": created, "lines_doubled": self.doubled}

    def _batch(self, batch_id: str) -> _Batch:
        if batch_id not in self._batches:
            raise NotThere(batch_id)
        return self._batches[batch_id]

    def _note_doubled(self, batch: _Batch) -> None:
        held = {line["custom_id"] for each in self._batches.values() if each.is_open for line in each.lines}
        ids = {line["custom_id"] for line in batch.lines}
        self.doubled += len(ids & held) + len((ids - held) & self.answered)

    def _outcome(self, tokens: int) -> Outcome:
        settings, draw = self._settings, self._draw(_OF_BATCHES, len(self._batches))
        waiting = sum(batch.tokens for batch in self._batches.values() if batch.is_open)
        if settings.enqueued_tokens is not None and waiting + tokens > settings.enqueued_tokens:
            return Outcome.TOKEN_LIMIT
        for outcome in (Outcome.FAILED, Outcome.EXPIRED, Outcome.CANCELLED, Outcome.ONLY_ERRORS):
            draw -= getattr(settings, outcome)
            if draw < 0:
                return outcome
        return Outcome.COMPLETED

    def _draw(self, salt: int, number: int) -> float:
        return arrival_draw(self._simulation.seed ^ salt, number)

    # --- the work --------------------------------------------------------------------------------

    async def _process(self, batch: _Batch) -> None:
        chance = random.Random(f"{self._simulation.seed}{_number(batch.id)}")
        step_s = self._settings.duration_s * chance.uniform(0.7, 1.3) / 3
        await asyncio.sleep(step_s)
        if batch.outcome in (Outcome.FAILED, Outcome.TOKEN_LIMIT):
            batch.problems = [self._problem(batch, chance)]
            batch.status = "failed"
            return
        if not batch.is_cancelled:
            batch.status = "in_progress"
        await asyncio.sleep(step_s)
        outputs, errors = await self._execute(batch, chance)
        batch.status = "cancelling" if batch.is_cancelled else "finalizing"
        await asyncio.sleep(step_s)
        # In any order: what belongs together is told by the id alone.
        chance.shuffle(outputs)
        chance.shuffle(errors)
        batch.output_file = self._keep("file-out", "output.jsonl", b"".join(outputs)) if outputs else None
        batch.error_file = self._keep("file-err", "error.jsonl", b"".join(errors)) if errors else None
        batch.status = self._final(batch)

    def _final(self, batch: _Batch) -> str:
        if batch.is_cancelled or batch.outcome is Outcome.CANCELLED:
            return "cancelled"
        return "expired" if batch.outcome is Outcome.EXPIRED else "completed"

    def _problem(self, batch: _Batch, chance: random.Random) -> dict[str, Any]:
        if batch.outcome is Outcome.TOKEN_LIMIT:
            limit = self._settings.enqueued_tokens or 0
            message = (
                f"Enqueued token limit reached for simulator in organization org-simulator. Limit: {limit:,} enqueued"
                " tokens. Please try again once some in_progress batches have been completed."
            )
            return {"code": "token_limit_exceeded", "message": message, "line": None, "param": None}
        line = chance.randrange(len(batch.lines)) + 1
        return {"code": "invalid_request", "message": "This line is not accepted.", "line": line, "param": "body"}

    async def _execute(self, batch: _Batch, chance: random.Random) -> tuple[list[bytes], list[bytes]]:
        outputs, errors = list[bytes](), list[bytes]()
        is_cut = batch.outcome in (Outcome.EXPIRED, Outcome.CANCELLED)
        for number, line in enumerate(batch.lines):
            if number % _LINES_AT_ONCE == 0:
                await asyncio.sleep(0)
            custom_id = line["custom_id"]
            if batch.is_cancelled or (is_cut and chance.random() > _DONE_SHARE):
                code = "batch_expired" if batch.outcome is Outcome.EXPIRED else "batch_cancelled"
                errors.append(_error_line(custom_id, code, "This request was not executed."))
                continue
            self._times_asked[custom_id] += 1
            done = self._answer(batch, line)
            if done is not None:
                is_answer, text = done
                (outputs if is_answer else errors).append(text)
                batch.done += is_answer
                batch.failed += not is_answer
                if is_answer:
                    self.answered.add(custom_id)
        return outputs, errors

    def _answer(self, batch: _Batch, line: dict[str, Any]) -> tuple[bool, bytes] | None:
        """(whether it was answered, its result line); None for one that gets lost."""
        custom_id, settings = line["custom_id"], self._settings
        body = orjson.dumps(line["body"])
        draws = draws_for(self._simulation.seed, body)
        try:
            chat = parse_chat(body)
        except InvalidRequest as problem:
            return False, _result(custom_id, 400, error_body(str(problem), kind="invalid_request_error"))
        if self._draw(_OF_REJECTION, crc32(custom_id.encode())) < settings.line_rejected:
            return False, _result(custom_id, 400, error_body("This prompt is refused.", kind="invalid_request_error"))
        time_asked = self._times_asked[custom_id]
        draw = self._draw(_OF_LINES + time_asked, crc32(custom_id.encode()))
        if draw < settings.line_missing:
            return None
        if draw < settings.line_missing + settings.line_error or batch.outcome is Outcome.ONLY_ERRORS:
            return False, _broken(custom_id, time_asked + len(custom_id) + batch.failed)
        if chat.samples:
            draws = another_sample(draws, time_asked - 1)
        answer, _ = completion_body(chat, self._simulation, draws, _prompt_tokens(chat))
        return True, _result(custom_id, 200, answer)

    # --- spelling --------------------------------------------------------------------------------

    def _spelt(self, batch: _Batch) -> dict[str, Any]:
        upper = self._settings.dialect != "openai"
        counts = {"total": len(batch.lines), "completed": batch.done, "failed": batch.failed}
        spelt: dict[str, Any] = {
            "id": batch.id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "created_at": int(batch.created_at),
            "input_file_id": batch.input_file,
            "output_file_id": batch.output_file,
            "error_file_id": batch.error_file or ("" if upper else None),
            "status": batch.status.upper() if upper else batch.status,
            "request_counts": counts,
            "metadata": dict(batch.metadata),
            "errors": {"object": "list", "data": batch.problems} if batch.problems else None,
        }
        if self._settings.dialect == "wrapped":
            # As vendors do that keep no metadata.
            del spelt["metadata"], spelt["object"]
            return {"job": spelt, "warning": ""}
        return spelt


def _number(batch_id: str) -> int:
    return int(batch_id[-6:])


def _lines(content: bytes) -> Iterator[dict[str, Any]]:
    if len(content) > _MOST_BYTES:
        raise InvalidRequest("The file is larger than 200 MB.", "input_file_id")
    found = content.splitlines()
    if not 0 < len(found) <= _MOST_LINES:
        raise InvalidRequest("The file must have 1 to 50,000 lines.", "input_file_id")
    seen, models = set(), set()
    for number, text in enumerate(found, start=1):
        line = orjson.loads(text)
        if line.get("method") != "POST" or line.get("url") != "/v1/chat/completions" or "body" not in line:
            raise InvalidRequest(f"Line {number} is no request.", "input_file_id")
        seen.add(line["custom_id"])
        models.add(line["body"].get("model"))
        yield line
    if len(seen) != len(found) or len(models) != 1:
        raise InvalidRequest("custom_id must be unique, and the model the same in all lines.", "input_file_id")


def _texts(line: Mapping[str, Any]) -> list[str]:
    return [str(message.get("content", "")) for message in line["body"].get("messages", [])]


def _prompt_tokens(chat: ChatBody) -> int:
    return count_prompt_tokens(chat.texts)


def _result(custom_id: str, status: int, body: bytes) -> bytes:
    response = {"status_code": status, "request_id": f"req_{custom_id[:16]}", "body": orjson.Fragment(body)}
    whole = {"id": f"batch_req_{custom_id[:24]}", "custom_id": custom_id, "response": response, "error": None}
    return orjson.dumps(whole) + b"\n"


def _broken(custom_id: str, turn: int) -> bytes:
    match turn % 3:
        case 0:
            return _result(custom_id, 500, error_body("The server had an error.", kind="server_error"))
        case 1:
            return _result(
                custom_id, 429, error_body("Rate limit reached.", kind="requests", code="rate_limit_exceeded")
            )
    return _error_line(custom_id, "request_timeout", "The model did not answer in time.")


def _error_line(custom_id: str, code: str, message: str) -> bytes:
    error = {"code": code, "message": message}
    whole = {"id": f"batch_req_{custom_id[:24]}", "custom_id": custom_id, "response": None, "error": error}
    return orjson.dumps(whole) + b"\n"
