"""Progress for a person: a bar on a terminal, a line now and then elsewhere. It listens; it decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TextIO

from tqdm import tqdm

from synth_async.report.metrics import Tally
from synth_async.report.summary import duration

__all__ = ["BarProgress", "LineProgress", "ProgressState"]

_LINE_EVERY_S = 10.0


class ProgressState(Protocol):
    """What progress is told."""

    @property
    def tally(self) -> Tally: ...
    @property
    def target(self) -> int: ...
    @property
    def elapsed_s(self) -> float: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def utilisation(self) -> Mapping[str, Mapping[str, float | None]]: ...
    @property
    def waiting_for(self) -> str: ...


def _facts(state: ProgressState) -> list[str]:
    """The facts beside the count: in flight, share of the limit, tokens, cost, and why it waits."""
    tally = state.tally
    facts = [f"{state.in_flight} in flight"]
    shares = [share for used in state.utilisation.values() for share in used.values() if share is not None]
    if shares:
        facts.append(f"{max(shares):.0%} of limit")
    facts.append(f"{_short(tally.prompt_tokens + tally.completion_tokens)} tokens")
    if tally.cost_usd:
        facts.append(f"${tally.cost_usd:.2f}")
    if state.waiting_for:
        facts.append(state.waiting_for)
    return facts


def _short(count: int) -> str:
    for size, unit in ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return str(count)


class BarProgress:
    """A tqdm bar of accepted examples: count, rate, time left, and the facts."""

    def __init__(self, target: int, stream: TextIO) -> None:
        self._bar = tqdm(total=target, unit="ex", file=stream, dynamic_ncols=True, mininterval=0.0, smoothing=0.1)
        self._begun = False

    def __call__(self, state: ProgressState) -> None:
        if not self._begun:
            # What an earlier process accepted is no measure of this one's speed.
            self._bar.initial = state.tally.accepted
            self._begun = True
        self._bar.set_postfix_str(", ".join(_facts(state)), refresh=False)
        self._bar.update(state.tally.accepted - self._bar.n)
        self._bar.refresh()

    def note(self, text: str) -> None:
        """A line above the bar."""
        self._bar.clear()
        self._bar.fp.write(f"{text}\n")

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


class LineProgress:
    """A line every ten seconds, for logs and pipes."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said_at: float | None = None
        self._first: tuple[float, int] | None = None

    def __call__(self, state: ProgressState) -> None:
        accepted = state.tally.accepted
        if self._first is None or self._said_at is None:
            self._first, self._said_at = (state.elapsed_s, accepted), state.elapsed_s
        if state.elapsed_s - self._said_at < _LINE_EVERY_S:
            return
        self._said_at = state.elapsed_s
        since_s, before = self._first
        rate = (accepted - before) / max(state.elapsed_s - since_s, 1e-9)
        left = f", about {duration((state.target - accepted) / rate)} left" if rate > 0 else ""
        self._say(
            f"{accepted:,}/{state.target:,} accepted, {60 * rate:,.0f} a minute{left}, {', '.join(_facts(state))}"
        )

    def note(self, text: str) -> None:
        """A line."""
        self._say(text)

    def close(self) -> None:
        """Nothing is held."""
