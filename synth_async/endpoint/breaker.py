"""The breaker: one request at a time until the endpoint has answered, and again when it has stopped answering.

    probing --first answer--> closed --nothing but failures for a while--> probing

A run starts *probing*: the first real request goes out alone, so a wrong key, an unknown model or a server that is not
there costs one request and not hundreds. While probing, failures count against nobody's attempts.

All spans are measured from the first failure since the last answer, never from the last answer itself: an endpoint that
nobody asked for an hour has not been silent for an hour.
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
_LONGEST_PAUSE_AT_START_S = 5.0
_LONGEST_PAUSE_S = 30.0
_REJECTIONS_AT_START = 5


class Breaker:
    """Decides, by an explicit clock in seconds, whether a request may go out. It never waits itself."""

    def __init__(self, name: str, *, give_up_after_s: float) -> None:
        self._name = name
        self._give_up_after_s = give_up_after_s
        self._probing = True
        self._ever_answered = False
        self._ever_connected = False
        self._first_try: float | None = None
        self._failing_since: float | None = None
        self._last_sent = 0.0
        self._next_probe = 0.0
        self._failures = 0
        self._failed_probes = 0
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
    def has_answered_or_failed(self) -> bool:
        """Whether anything is known of the endpoint: before the first answer it is neither away nor there."""
        return self._ever_answered or self._ever_connected or self._failures > 0

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

    def note_answered(self) -> None:
        """An answer came: the breaker closes."""
        self._ever_answered = True
        self._is_alive()

    def note_rejected(self, message: str) -> None:
        """A request was refused for what it is; raises `EndpointRefused` when nothing else was ever heard."""
        self._rejections += 1
        self._ever_connected = True
        if self._ever_answered:
            self._is_alive()
        elif self._rejections >= _REJECTIONS_AT_START:
            raise EndpointRefused(f"endpoint {self._name} refuses every request: {message}; check model and base_url")

    def note_limited(self, now: float, message: str) -> None:
        """A rate limit: patience, but not beyond `give_up_after_s`."""
        self._ever_connected = True
        self._give_up_if_over(self._failing_s(now), message)

    def note_failure(self, now: float, message: str, *, connected: bool) -> None:
        """A transient failure; raises `EndpointRefused` or `StoppedEarly` when it has gone on for too long."""
        self._failures += 1
        self._last_message = message
        self._ever_connected = self._ever_connected or connected
        failing_s = self._failing_s(now)
        if not self._ever_connected and failing_s >= UNREACHABLE_AFTER_S:
            raise EndpointRefused(
                f"endpoint {self._name} could not be reached for {failing_s:.0f} s: {message};"
                " check base_url, and that the server runs"
            )
        self._give_up_if_over(failing_s, message)
        if self._failures >= TRIP_FAILURES and failing_s >= TRIP_SILENCE_S:
            self._probing = True
        # Requests that were sent before the present pause began say nothing new.
        if self._probing and now >= self._next_probe:
            longest_s = _LONGEST_PAUSE_S if self._ever_connected else _LONGEST_PAUSE_AT_START_S
            self._next_probe = now + min(longest_s, _FIRST_PAUSE_S * 2.0 ** min(self._failed_probes, 10))
            self._failed_probes += 1

    def note_slept(self) -> None:
        """This process stood still: how long the endpoint has been failing is counted from here."""
        self._failing_since = None
        self._first_try = None

    def _is_alive(self) -> None:
        self._probing = False
        self._failing_since = None
        self._failures = 0
        self._failed_probes = 0
        self._next_probe = 0.0
        self._last_message = ""

    def _failing_s(self, now: float) -> float:
        """Seconds since the endpoint stopped answering; at the start, since the first request."""
        if self._failing_since is None:
            self._failing_since = now if self._ever_answered or self._first_try is None else self._first_try
        return now - self._failing_since

    def _give_up_if_over(self, failing_s: float, message: str) -> None:
        if failing_s >= self._give_up_after_s:
            raise StoppedEarly(f"endpoint {self._name} has not answered for {failing_s:.0f} s: {message}")
