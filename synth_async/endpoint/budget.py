"""Tokens that may be sent: a rate with a small burst, reservations, and credit for what was reserved too much."""

from __future__ import annotations

__all__ = ["TokenBudget"]

_BURST_S = 0.1


class TokenBudget:
    """Tokens per second with a small burst, FIFO by its caller; all methods take the time `now` in seconds."""

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self.capacity = max(1.0, self.rate * _BURST_S)
        self.credit = 0.0
        self._level = self.capacity
        self._as_of = now

    def __repr__(self) -> str:
        return f"<TokenBudget level={self._level:.0f}/{self.capacity:.0f} credit={self.credit:.0f}>"

    def set_rate(self, rate: float, now: float) -> None:
        """Go on at another rate, in tokens per second."""
        if rate != self.rate:
            self.level(now)
            self.rate, self.capacity = rate, max(1.0, rate * _BURST_S)

    def drain(self, now: float) -> None:
        """Begin again with nothing: the server has nothing left, or counts in another way than was thought."""
        self._level, self.credit = min(0.0, self.level(now)), 0.0

    def level(self, now: float) -> float:
        """Tokens that may be spent now; negative while a large request is being paid off."""
        self._level = min(self.capacity, self._level + (now - self._as_of) * self.rate)
        self._as_of = now
        return self._level

    def wait_s(self, tokens: float, now: float) -> float:
        """Seconds until `tokens` can be reserved; a request above the burst goes when the bucket is full."""
        needed = min(tokens - self._spendable_credit(tokens), self.capacity)
        # The smallest slack keeps float rounding from asking for a wait of 1e-17 s for ever.
        return max(0.0, (needed - self.level(now)) / self.rate - 1e-9)

    def reserve(self, tokens: float, now: float) -> None:
        """Spend `tokens`, up to half of them from credit."""
        spent = self._spendable_credit(tokens)
        self.credit -= spent
        self._level = self.level(now) - (tokens - spent)

    def settle(self, reserved: float, used: float, now: float) -> None:
        """The server counted `used`: a surplus becomes credit, a shortfall is owed at once."""
        if used <= reserved:
            self.credit += reserved - used
        else:
            self._level = self.level(now) - (used - reserved)

    def _spendable_credit(self, tokens: float) -> float:
        return min(self.credit, tokens / 2)
