"""Several endpoints (or keys) that serve one stage together: work goes where it will be sent soonest.

A request joins the line that will be through soonest. One that stands in the line of an endpoint that stops answering,
or asks for a long pause, leaves it and is taken elsewhere; a failing endpoint is tried out with single requests.
One that refuses for good (key, quota) is left out, and the run ends only with the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from synth_async.endpoint.serving import ServingEndpoint
from synth_async.errors import Busy, EndpointRefused, StoppedEarly, TransientFailure
from synth_async.records import ChatRequest, Completion

__all__ = ["EndpointPool", "KeepFrom"]

KeepFrom = Callable[[str, bytes], None]
"""Called with (name of the endpoint, raw body) before anything looks at an answer: the journal."""


class EndpointPool:
    """One or more endpoints behind one `ask`."""

    def __init__(self, members: Sequence[ServingEndpoint]) -> None:
        self._members = tuple(members)
        self._over: dict[str, EndpointRefused | StoppedEarly] = {}

    def __repr__(self) -> str:
        return f"<EndpointPool {' '.join(repr(member) for member in self._members)} over={sorted(self._over)}>"

    @property
    def over(self) -> dict[str, EndpointRefused | StoppedEarly]:
        """Endpoints that take no further part, and why."""
        return dict(self._over)

    async def ask(self, request: ChatRequest, keep: KeepFrom) -> tuple[Completion, str]:
        """(completion, name of the endpoint that served it). Raises what the last endpoint raised."""
        tired: set[str] = set()
        while True:
            member, is_last = self._choose(request, tired)
            try:
                completion = await member.ask(request, partial(keep, member.name), patient=is_last)
            except Busy:
                continue
            except (EndpointRefused, StoppedEarly) as over:
                self._over[member.name] = over
                if len(self._over) == len(self._members):
                    raise
            except TransientFailure:
                tired.add(member.name)
                if not self._open(tired):
                    raise
            else:
                return completion, member.name

    def _open(self, tired: set[str]) -> list[ServingEndpoint]:
        return [member for member in self._members if member.name not in self._over and member.name not in tired]

    def _choose(self, request: ChatRequest, tired: set[str]) -> tuple[ServingEndpoint, bool]:
        """The endpoint to ask, and whether to wait for it however long: there is nowhere else to go."""
        if len(self._members) == 1:
            return self._members[0], True
        members = self._open(tired) or self._open(set())
        if (holder := next((member for member in members if member.holds(request)), None)) is not None:
            return holder, True  # it is under way there already, from before a kill
        ready = [member for member in members if member.takes_work]
        if ready:
            soonest = min(ready, key=lambda member: (member.wait_s, member.load))
            return soonest, len(members) == 1
        # All are away: wait at the one that comes back first.
        return min(members, key=lambda member: member.wait_s), True
