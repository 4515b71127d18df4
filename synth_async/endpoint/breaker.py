"""The breaker: one request at a time until the endpoint has answered, and again when it has stopped answering.

    probing --first answer--> closed --nothing but failures for a while--> probing

A run starts *probing*: the first real request goes out alone, so a wrong key, an unknown model or a server that is not
there costs one request and not hundreds. While probing, failures count against nobody's attempts.
"""

from __future__ import annotations

from synth_async.errors import EndpointRefused, StoppedEarly

__all__ = ["Breaker"]

UNREACHABLE_AFTER_S = 30.0
"""An endpoint that could never be connected to is refused after this long."""

SECOND_PROBE_AFTER_S = 5.0
"""A probe that hangs does not block the rest: another may join it after this long."""

TRIP_FAILURES = 12
TRIP_SILENCE_S = 5.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_REJECTIONS_AT_START = 5


class Breaker:
    """Decides, by an explicit clock in seconds, whether a request may go out. It never waits itself."""

    def __init__(self, name: str, *, give_up_after_s: float) -> None:
        self._name = name
        self._give_up_after_s = give_up_after_s
        self._probing = True
        self._ever_answered = False
        self._first_try: float | None = None
        self._last_answer: float | None = None
        self._last_sent = 0.0
        self._next_probe = 0.0
        self._failures = 0
        self._rejections = 0
        self._last_message = ""

    def __repr__(self) -> str:
        state = "probing" if self._probing else "closed"
        return f"<Breaker {self._name} {state} failures={self._failures}>"

    @property
    def is_probing(self) -> bool:
        return self._probing

    @property
    def has_answered(self) -> bool:
        """Whether this endpoint has ever answered this process."""
        return self._ever_answered

    @property
    def last_message(self) -> str:
        """What the last failure said, for the progress line."""
        return self._last_message

    def wait_s(self, now: float, in_flight: int) -> float:
        """Seconds until a request may go out; 0 when it may go now."""
        if not self._probing:
            return 0.0
        backoff = self._next_probe - now
        turn = self._last_sent + SECOND_PROBE_AFTER_S - now if in_flight else 0.0
        return max(backoff, turn, 0.0)

    def note_sent(self, now: float) -> None:
        """A request goes out."""
        self._last_sent = now
        if self._first_try is None:
            self._first_try = now

    def note_answered(self, now: float) -> None:
        """An answer came: the breaker closes."""
        self._probing = False
        self._ever_answered = True
        self._last_answer = now
        self._failures = 0
        self._last_message = ""

    def note_rejected(self, message: str) -> None:
        """A request was refused for what it is; raises `EndpointRefused` when nothing else was ever heard."""
        self._rejections += 1
        if self._ever_answered:
            self._probing = False
        elif self._rejections >= _REJECTIONS_AT_START:
            raise EndpointRefused(f"endpoint {self._name} refuses every request: {message}")

    def note_failure(self, now: float, message: str, *, connected: bool) -> None:
        """A transient failure; raises `EndpointRefused` or `StoppedEarly` when it has gone on for too long."""
        self._failures += 1
        self._last_message = message
        since_answer = now - (self._last_answer if self._last_answer is not None else self._first_try or now)
        if not self._ever_answered and not connected and since_answer >= UNREACHABLE_AFTER_S:
            raise EndpointRefused(
                f"endpoint {self._name} could not be reached for {since_answer:.0f} s: {message};"
                " check base_url, and that the server runs"
            )
        if since_answer >= self._give_up_after_s:
            raise StoppedEarly(f"endpoint {self._name} has not answered for {since_answer:.0f} s: {message}")
        if self._failures >= TRIP_FAILURES and since_answer >= TRIP_SILENCE_S:
            self._probing = True
        if self._probing:
            pause = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(self._failures - 1, 10))
            self._next_probe = now + (min(pause, 5.0) if not self._ever_answered else pause)
