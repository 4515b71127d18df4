"""Which of the waiting requests go into the next batch file, and when. Plain decisions over an explicit clock."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from synth_async.config.models import Batch
from synth_async.endpoint.batch.lines import request_line
from synth_async.records import ChatRequest

__all__ = ["BYTES_PER_TOKEN", "Gatherer", "Line"]

BYTES_PER_TOKEN = 4.0
"""English with the usual tokenizers (OpenAI's rule of thumb). An account's limit is held against its own count."""

_AROUND_BYTES = 400
"""Of a line beside the texts of its messages: ids, model, parameters."""


@dataclass(frozen=True, slots=True)
class Line:
    """One request as a line of a file."""

    custom_id: str
    request: ChatRequest
    text: bytes

    @property
    def tokens(self) -> int:
        """Estimated prompt tokens."""
        return _tokens(self.request)


def _characters(request: ChatRequest) -> int:
    return sum(len(message["content"]) for message in request.messages)


def _tokens(request: ChatRequest) -> int:
    return int(_characters(request) / BYTES_PER_TOKEN) + 1


class Gatherer:
    """Requests that wait for a file, first in first out."""

    def __init__(self, settings: Batch) -> None:
        self._settings = settings
        self._waiting: OrderedDict[str, ChatRequest] = OrderedDict()
        self._bytes = 0
        self._tokens = 0
        self._last_came_at = 0.0

    def __repr__(self) -> str:
        return f"<Gatherer {len(self._waiting)} waiting>"

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, custom_id: str) -> bool:
        return custom_id in self._waiting

    def add(self, custom_id: str, request: ChatRequest, now: float) -> None:
        """A request came."""
        self._waiting[custom_id] = request
        self._count(request, 1)
        self._last_came_at = now

    def put_back(self, lines: Sequence[Line]) -> None:
        """Lines that were taken and do not fit after all go back to the head, in their order."""
        for line in reversed(lines):
            self._waiting[line.custom_id] = line.request
            self._waiting.move_to_end(line.custom_id, last=False)
            self._count(line.request, 1)

    def discard(self, custom_id: str) -> None:
        """Nobody waits for it any more."""
        if (request := self._waiting.pop(custom_id, None)) is not None:
            self._count(request, -1)

    def due_s(self, now: float, room: int | None) -> float | None:
        """Seconds until a file is to be sent, 0: now; None while nothing waits. `room`: what may be enqueued."""
        if not self._waiting:
            return None
        settings = self._settings
        is_full = len(self._waiting) >= settings.max_requests or self._bytes >= settings.max_bytes
        if is_full or (room is not None and self._tokens >= room):
            return 0.0
        return max(0.0, self._last_came_at + settings.gather_s - now)

    def take(self, encode: Callable[[ChatRequest], bytes], room: int | None) -> Iterator[Line]:
        """The lines of the next file, taken as they are asked for; the first one is taken whatever its size."""
        count = size = tokens = 0
        while self._waiting and count < self._settings.max_requests:
            custom_id, request = next(iter(self._waiting.items()))
            line = Line(custom_id, request, request_line(custom_id, encode(request)))
            size, tokens = size + len(line.text), tokens + line.tokens
            if count and (size > self._settings.max_bytes or (room is not None and tokens > room)):
                return
            count += 1
            self.discard(custom_id)
            yield line

    def _count(self, request: ChatRequest, sign: int) -> None:
        self._bytes += sign * (_characters(request) + _AROUND_BYTES)
        self._tokens += sign * _tokens(request)
