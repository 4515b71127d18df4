"""Which dialect an endpoint is spoken to in: found out from what it refuses, once for all requests.

Most servers say in a 400 or 422 what they do not understand, and that is believed at once. Some do not: they answer
`response_format` with a bare 400 or, as llama-cpp-python does, with a 500. Whether it was the format is tried out:

    asking --two 500s, or one 400--> trying plainer --answered--> checking --refused once more--> it was the format
       ^                                   |                          |
       +----- plain text refused as well --+------- answered ---------+

A server that is starting up answers 500 to everything, and may come to itself while a plainer format is tried. So
nothing is given up before it was refused *after* a plainer one was answered; and what was answered once is believed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

from synth_async.endpoint.wire import LADDER, Dialect, adapted, format_sent
from synth_async.records import ChatRequest, ResponseFormat

__all__ = ["Negotiation"]

_BARE_FAILURES = 2
"""500s in a row that cast doubt on a format: the first one may be bad luck, so it is asked once more as it was."""


class _Doubt:
    """Whether it is the format that a server refuses without saying so, for the requests of one schema."""

    def __init__(self) -> None:
        self.tried: ResponseFormat | None = None
        """Asked for in place of the dialect's."""
        self._worked: ResponseFormat | None = None
        self._refusals = 0
        self._is_settled = False

    def settle(self) -> None:
        """The dialect's format was answered."""
        self._is_settled, self.tried = True, None

    def note_worked(self, sent: ResponseFormat) -> None:
        """A plainer format was answered: the dialect's is asked for once more."""
        self._worked, self.tried = sent, None

    def note_refused(self, sent: Dialect, *, is_bare_failure: bool) -> ResponseFormat | None:
        """The plainer format that is found to be understood, once that is known."""
        if self._is_settled:
            return None
        if self._worked is not None:
            return self._worked
        self._refusals += 1
        if not is_bare_failure or self._refusals >= _BARE_FAILURES:
            plainer = sent.plainer()
            self.tried, self._refusals = plainer.response_format if plainer else None, 0
        return None


class Negotiation:
    """The dialect of one endpoint. `on_change` is told in words what is said otherwise from then on."""

    def __init__(self, first: Dialect, *, on_change: Callable[[str], None]) -> None:
        self.dialect = first
        self._on_change = on_change
        self._doubts: defaultdict[str, _Doubt] = defaultdict(_Doubt)

    def __repr__(self) -> str:
        tried = {name: doubt.tried for name, doubt in self._doubts.items() if doubt.tried is not None}
        return f"<Negotiation {self.dialect} tried={tried}>"

    def dialect_for(self, request: ChatRequest) -> Dialect:
        """The dialect to ask a request in now."""
        tried = self._doubt(request).tried
        return self.dialect if tried is None else replace(self.dialect, response_format=tried)

    def note_answered(self, request: ChatRequest, sent: Dialect) -> None:
        """A request that was asked in the dialect `sent` was answered."""
        if sent.response_format == self.dialect.response_format:
            self._doubt(request).settle()
        elif self._is_trial(sent):
            self._doubt(request).note_worked(sent.response_format)

    def note_bare_failure(self, request: ChatRequest, sent: Dialect) -> None:
        """A request came back with a 500."""
        self._cast_doubt(request, sent, is_bare_failure=True)

    def takes(self, request: ChatRequest, sent: Dialect, message: str) -> bool:
        """Whether a request that was refused (400, 422) as it was spelt in `sent` can be asked in another way."""
        named = adapted(sent, message)
        is_trial = self._is_trial(sent)
        if named is None or (is_trial and named.response_format != sent.response_format):
            self._cast_doubt(request, sent, is_bare_failure=False)
            return self._is_plainer(self.dialect_for(request), sent)
        # Others may have been refused at the same time; the first one decides for all.
        if sent == self.dialect_for(request):
            self._change(replace(named, response_format=self.dialect.response_format) if is_trial else named)
        return True

    def _cast_doubt(self, request: ChatRequest, sent: Dialect, *, is_bare_failure: bool) -> None:
        # What is refused in a format that was sent before the last turn says nothing about this one.
        if format_sent(request, self.dialect) == "text" or sent != self.dialect_for(request):
            return
        found = self._doubt(request).note_refused(sent, is_bare_failure=is_bare_failure)
        if found is not None:
            self._change(replace(self.dialect, response_format=found))

    def _doubt(self, request: ChatRequest) -> _Doubt:
        return self._doubts[request.schema.name if request.schema is not None else request.response_format]

    def _is_trial(self, sent: Dialect) -> bool:
        return self._is_plainer(sent, self.dialect)

    def _is_plainer(self, one: Dialect, other: Dialect) -> bool:
        return LADDER.index(one.response_format) > LADDER.index(other.response_format)

    def _change(self, dialect: Dialect) -> None:
        if said := dialect.describe(self.dialect):
            self.dialect = dialect
            self._doubts.clear()
            self._on_change(said)
