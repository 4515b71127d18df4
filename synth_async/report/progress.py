"""Progress: a bar on a terminal, a line now and then elsewhere, or objects for a program. It listens, no more.

What a person wants to know first stands first; what has no room on a narrow terminal is left out from the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol, TextIO

from tqdm import tqdm

from synth_async.report.charts import short_number
from synth_async.report.metrics import Tally
from synth_async.report.summary import dollars
from synth_async.stages.forecast import Forecast
from synth_async.stages.measured import RecentRate

__all__ = ["BarProgress", "LineProgress", "ObjectProgress", "ProgressState", "facts_of", "fitted", "left_s"]

_OFTEN_S, _SELDOM_S = 10.0, 60.0
_OFTEN_UNTIL_S = 60.0
"""Lines come often at first, when one wants to see that it works; later a log should not be full of them."""

_LEAST_BAR = 10
_WIDTH = 80
"""Where a terminal does not tell its width."""

_LEAST_SECONDS = 5.0


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
    @property
    def http_429(self) -> int: ...
    @property
    def recent(self) -> RecentRate: ...
    @property
    def expected(self) -> Forecast | None: ...


def left_s(state: ProgressState) -> float | None:
    """Seconds that are left, by the forecast, or else by the last minute; None while neither tells."""
    if state.expected is not None:
        return state.expected.time_s.middle
    if state.recent.seconds < _LEAST_SECONDS or not state.recent.accepted:
        return None
    return (state.target - state.tally.accepted) * state.recent.seconds / state.recent.accepted


def facts_of(state: ProgressState) -> list[str]:
    """The facts beside the count, those that matter most first.

    Examples a minute (the last one), why it waits, time left, dollars so far and in all, the share of the limit that
    is used most, answers with 429, requests in flight, tokens.
    """
    tally, recent = state.tally, state.recent
    facts = []
    if recent.seconds >= _LEAST_SECONDS:
        facts.append(f"{60 * recent.accepted / recent.seconds:,.0f}/min")
    if state.waiting_for:
        facts.append(state.waiting_for)
    if (left := left_s(state)) is not None:
        facts.append(f"{_clock(left)} left")
    if tally.cost_usd:
        facts.append(_money(tally.cost_usd, state.expected))
    if share := _largest_share(state.utilisation):
        facts.append(share)
    if state.http_429:
        facts.append(f"429: {state.http_429:,}")
    tokens = short_number(tally.prompt_tokens + tally.completion_tokens)
    return [*facts, f"{state.in_flight} in flight", f"{tokens} tokens"]


def _clock(seconds: float) -> str:
    """Such as `0:42`, `12:05` or `7:05:00`."""
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{whole:02d}" if hours else f"{minutes}:{whole:02d}"


def _money(spent: float, expected: Forecast | None) -> str:
    """What was spent, and what the whole run is expected to cost."""
    if expected is None or expected.cost_usd is None:
        return dollars(spent)
    whole = spent + expected.cost_usd.middle
    return f"${spent:,.2f} of ${whole:,.2f}" if whole >= 1 else f"{dollars(spent)} of {dollars(whole)}"


_LIMITS = {"requests": "rpm", "tokens": "tpm"}


def _largest_share(utilisation: Mapping[str, Mapping[str, float | None]]) -> str:
    shares = [(share, unit) for used in utilisation.values() for unit, share in used.items() if share is not None]
    share, unit = max(shares, default=(0.0, ""))
    return f"{share:.0%} of {_LIMITS[unit]}" if unit else ""


def fitted(facts: Sequence[str], width: int) -> str:
    """As many of the facts as fit into `width` characters, in order; at least the first, cut if it has to be."""
    text = ""
    for fact in facts:
        longer = f"{text}, {fact}" if text else fact
        if len(longer) > width and text:
            break
        text = longer
    return text if len(text) <= width else f"{text[: max(0, width - 1)]}…"


class BarProgress:
    """A tqdm bar of accepted examples, and the facts that fit beside it. A terminal that was closed is left alone."""

    def __init__(self, target: int, stream: TextIO) -> None:
        self._is_gone = False
        self._bar = tqdm(
            total=target,
            file=stream,
            dynamic_ncols=True,
            mininterval=0.0,
            bar_format="{n:,}/{total:,} |{bar}| {percentage:.0f}% {desc}",
        )

    def __call__(self, state: ProgressState) -> None:
        head = f"{state.tally.accepted:,}/{state.target:,} || 100% "
        width = int(self._bar.format_dict["ncols"] or _WIDTH)
        self._bar.n = state.tally.accepted
        self._bar.desc = fitted(facts_of(state), width - len(head) - _LEAST_BAR)
        self._draw(self._bar.refresh)

    def note(self, text: str) -> None:
        """A line above the bar."""
        self._draw(lambda: self._bar.write(text, file=self._bar.fp))

    def close(self) -> None:
        """Leave the bar as it is."""
        self._draw(self._bar.close)

    def _draw(self, action: Callable[[], object]) -> None:
        if self._is_gone:
            return
        try:
            action()
        except OSError:
            # The run stops by the signal that comes with it, or was told to go on without a terminal.
            self._is_gone = True
            with suppress(OSError):
                self._bar.disable = True


class _Paced:
    """Tells now and then, and at once where the reason to wait has changed."""

    def __init__(self) -> None:
        self._told_at: float | None = None
        self._begun_at = 0.0
        self._waited = False

    def is_due(self, state: ProgressState) -> bool:
        """Whether this state is to be told."""
        now = state.elapsed_s
        if self._told_at is None:
            self._told_at = self._begun_at = now
            return False
        every_s = _OFTEN_S if now - self._begun_at <= _OFTEN_UNTIL_S else _SELDOM_S
        has_changed = bool(state.waiting_for) and not self._waited
        self._waited = bool(state.waiting_for)
        if now - self._told_at < every_s and not has_changed:
            return False
        self._told_at = now
        return True


class LineProgress:
    """A line now and then, for logs and pipes: every ten seconds in the first minute, then every minute."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._paced = _Paced()

    def __call__(self, state: ProgressState) -> None:
        if self._paced.is_due(state):
            accepted = state.tally.accepted
            share = f"{accepted / state.target:.0%}" if state.target else "100%"
            self._say(f"{accepted:,}/{state.target:,} accepted ({share}), {', '.join(facts_of(state))}")

    def note(self, text: str) -> None:
        """A line."""
        self._say(text)

    def close(self) -> None:
        """Nothing is held."""


class ObjectProgress:
    """An object now and then, for a program, as often as lines would come."""

    def __init__(self, tell: Callable[[Mapping[str, Any]], None], note: Callable[[str], None]) -> None:
        self._tell = tell
        self._note = note
        self._paced = _Paced()

    def __call__(self, state: ProgressState) -> None:
        if not self._paced.is_due(state):
            return
        tally, recent, expected = state.tally, state.recent, state.expected
        left = left_s(state)
        self._tell(
            {
                "accepted": tally.accepted,
                "target": state.target,
                "per_minute": round(60 * recent.accepted / recent.seconds, 1) if recent.seconds else None,
                "left_s": None if left is None else round(left, 1),
                "elapsed_s": round(state.elapsed_s, 1),
                "in_flight": state.in_flight,
                "utilisation": state.utilisation,
                "http_429": state.http_429,
                "tokens": {"prompt": tally.prompt_tokens, "completion": tally.completion_tokens},
                "cost_usd": None if tally.cost_usd is None else round(tally.cost_usd, 6),
                "cost_left_usd": None
                if expected is None or expected.cost_usd is None
                else round(expected.cost_usd.middle, 6),
                "waiting_for": state.waiting_for,
            }
        )

    def note(self, text: str) -> None:
        """A note."""
        self._note(text)

    def close(self) -> None:
        """Nothing is held."""
