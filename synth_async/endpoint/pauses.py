"""Pauses that an endpoint asks for: how long everybody waits after a 429, and how far its hints are believed.

    open --refused--> pause --over--> open
                        |  longer than a hint is believed, or refused again and again
                        +--over--> trial: one request at a time --answered--> open
                                                                --refused---> pause

Requests are told apart by their number, the count of those sent before them: one that was sent before a pause began
says nothing about its end, whenever its answer or refusal comes.
"""

from __future__ import annotations

__all__ = ["Pauses"]

_FIRST_GUESS_S = 0.5
_LONGEST_GUESS_S = 30.0
_GUESSES_IN_A_ROW = 2
"""A hint that was followed by nothing but refusals this often is too short, and our own growing guess counts."""

_LONGEST_TRUSTED_S = 65.0
"""Limits are per minute: a longer hint is tried out after this long, and after twice as long each time it holds."""

_SHORTEST_TRUSTED_S = 2.0
"""Each hint that proves too long is followed by half the trust in the next; not less than this."""

_LONGEST_TRIAL_S = 1800.0
_SECOND_TRIAL_AFTER_S = 5.0
"""A trial that hangs does not block the rest: another may join it after this long."""


class Pauses:
    """Decides, by an explicit clock in seconds, whether a pause is on. It never waits itself."""

    def __init__(self) -> None:
        self.total_s = 0.0
        self._resume_at = 0.0
        self._hinted_until = 0.0
        self._sent_before = 0
        self._in_a_row = 0
        self._trusted_s = _LONGEST_TRUSTED_S
        self._is_trial = False
        self._trial_sent_at: float | None = None

    def __repr__(self) -> str:
        return f"<Pauses until={self._resume_at:.3f}{' trial' if self._is_trial else ''} row={self._in_a_row}>"

    @property
    def is_trial(self) -> bool:
        """Whether single requests try out if the pause is over."""
        return self._is_trial

    def left_s(self, now: float) -> float:
        """Seconds that are left of the pause that the endpoint asked for; 0 when there is none."""
        return max(0.0, self._resume_at - now, self._hinted_until - now if self._is_trial else 0.0)

    def wait_s(self, now: float) -> float:
        """Seconds until a request may go out; 0 when it may go now."""
        turn = self._trial_sent_at + _SECOND_TRIAL_AFTER_S - now if self._trial_sent_at is not None else 0.0
        return max(0.0, self._resume_at - now, turn)

    def is_news(self, number: int) -> bool:
        """Whether a refusal of this request tells of more than the pause before: others were taken in since then."""
        return number > self._sent_before

    def note_sent(self, now: float) -> None:
        """A request goes out."""
        if self._is_trial:
            self._trial_sent_at = now

    def note_over(self, number: int) -> None:
        """A request is over, in whatever way."""
        if number >= self._sent_before:
            self._trial_sent_at = None

    def note_answered(self, number: int, now: float) -> None:
        """A request was answered; where it was sent after the pause began, the pause is over."""
        if number < self._sent_before:
            return
        if self._is_trial and now < self._hinted_until:
            self._trusted_s = max(_SHORTEST_TRUSTED_S, self._trusted_s / 2)
        self._trusted_s = min(_LONGEST_TRUSTED_S, self._trusted_s)
        self._is_trial, self._trial_sent_at = False, None
        self._in_a_row, self._hinted_until = 0, 0.0

    def note_refused(self, number: int, sent: int, hint_s: float | None, now: float) -> None:
        """A 429 for a request with that number, when so many had been sent: everybody waits.

        For as long as the server's hint says, or for a growing while where it gave none.
        """
        hint_held = self._is_trial and now < self._hinted_until
        self._hinted_until = max(self._hinted_until, now + (hint_s or 0.0))
        if number < self._sent_before:
            if hint_s is not None and not self._is_trial:
                self._wait_until(max(self._resume_at, now + min(hint_s, self._trusted_s)), now)
            return
        if hint_held:
            self._trusted_s = min(2 * self._trusted_s, _LONGEST_TRIAL_S)
        self._in_a_row = 1 if self.is_news(number) else self._in_a_row + 1
        self._sent_before = sent
        guess_s = min(_LONGEST_GUESS_S, _FIRST_GUESS_S * 2.0 ** min(self._in_a_row - 1, 10))
        again_and_again = self._in_a_row > _GUESSES_IN_A_ROW
        wait_s = max(hint_s or 0.0, guess_s) if again_and_again else hint_s or guess_s
        self._is_trial = again_and_again
        if wait_s > self._trusted_s:
            wait_s, self._is_trial = self._trusted_s, True
        self._wait_until(now + wait_s, now)

    def _wait_until(self, resume_at: float, now: float) -> None:
        self.total_s += resume_at - max(now, self._resume_at)
        self._resume_at = resume_at
