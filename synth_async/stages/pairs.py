"""Preferences: of several replies to one prompt a good one, and one that is clearly worse.

The first reply came with the prompt; the others are asked for. Where scores tell, each reply is judged, the best one is
chosen where it is good enough, and the lowest of those that are at least `margin` below it is rejected. Where replies
are compared (`judge.mode: pairwise`), each meets the best so far; the winner of all is chosen where its score is good
enough, and the first that lost to it is rejected. A reply of the weaker endpoint can only be rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from synth_async.config.models import Config, Judge
from synth_async.errors import RequestRejected
from synth_async.records import Drop, DropReason, Example, Preference, Stage, Verdict
from synth_async.stages.curation import Candidate, Curation, Settled
from synth_async.stages.judging import judge_requests, low_score, verdict_questions
from synth_async.stages.pairwise import comparison_questions, comparison_requests
from synth_async.stages.questions import Question, Questions
from synth_async.stages.replies import reply_request

__all__ = ["Pairing"]

_ROUNDING = 1e-9
"""Weighted means are rounded: a margin that is met to this degree is met."""


@dataclass(frozen=True, slots=True)
class _Reply:
    """One of the replies, as the last turn of an example. `key` names the answer that it was read from."""

    key: str
    example: Example
    is_weaker: bool = False
    verdict: Verdict | None = None

    @property
    def text(self) -> str:
        return self.example.messages[-1]["content"]

    @property
    def score(self) -> float:
        return self.verdict.score if self.verdict is not None else 0.0


class Pairing:
    """Puts the questions that make a preference of a candidate, one after the other."""

    def __init__(self, config: Config, judge: Judge, context: str, curation: Curation) -> None:
        self._config = config
        self._judge = judge
        self._context = context
        self._curation = curation

    def questions(self, candidate: Candidate) -> Questions[Settled]:
        """Further replies, then who is better."""
        replies = yield from self._replies(candidate.example)
        if len(replies) < 2:
            return Settled(candidate, None, _no_margin("no other reply could be used"))
        if self._judge.mode == "pairwise":
            return (yield from self._compared(candidate, replies))
        return (yield from self._scored(candidate, replies))

    # --- replies ---------------------------------------------------------------------------------

    def _replies(self, first: Example) -> Questions[list[_Reply]]:
        """The first reply and the others that can be used, no text twice."""
        replies = [_Reply(first.task.key, first)]
        wanted: list[tuple[int, str | None]] = [(sample, None) for sample in range(1, self._config.preference.samples)]
        if (weaker := self._config.preference.rejected_endpoint) is not None:
            wanted.append((1, weaker))
        for sample, endpoint in wanted:
            reply = yield from self._reply(first, sample, endpoint)
            if reply is not None and reply.text not in {other.text for other in replies}:
                replies.append(reply)
        return replies

    def _reply(self, first: Example, sample: int, endpoint: str | None) -> Questions[_Reply | None]:
        request = reply_request(self._config, self._context, first, sample, endpoint)
        try:
            _, completion = yield Question(request)
        except RequestRejected:
            return None  # one reply less
        example = self._curation.examine_reply(first, completion)
        return None if isinstance(example, Drop) else _Reply(request.key, example, is_weaker=endpoint is not None)

    # --- by scores -------------------------------------------------------------------------------

    def _scored(self, candidate: Candidate, replies: Sequence[_Reply]) -> Questions[Settled]:
        judged: list[_Reply] = []
        no_verdict: Drop | None = None
        for reply in replies:
            verdict = yield from self._verdict_on(reply.example)
            if isinstance(verdict, Verdict):
                judged.append(replace(reply, verdict=verdict))
            else:
                no_verdict = no_verdict or verdict
        own = sorted((reply for reply in judged if not reply.is_weaker), key=lambda reply: -reply.score)
        if not own:
            return Settled(candidate, None, no_verdict)
        chosen = next((reply for reply in own if self._is_good(reply)), own[0])
        first = next((reply.verdict for reply in judged if reply.key == candidate.example.task.key), None)
        return self._settled(candidate, chosen, self._clearly_worse(chosen, judged), first)

    def _is_good(self, reply: _Reply) -> bool:
        return reply.verdict is not None and low_score(self._judge, reply.verdict) is None

    def _clearly_worse(self, chosen: _Reply, judged: Sequence[_Reply]) -> _Reply | None:
        """The lowest of the replies that are at least the margin below; of equals the first that was asked for."""
        bound = chosen.score - self._config.preference.margin + _ROUNDING
        return min((reply for reply in judged if reply.score <= bound), key=lambda reply: reply.score, default=None)

    # --- by comparison ---------------------------------------------------------------------------

    def _compared(self, candidate: Candidate, replies: Sequence[_Reply]) -> Questions[Settled]:
        best, beaten = replies[0], None
        for reply in replies[1:]:
            orders = comparison_requests(self._config, self._judge, self._context, best.example, reply.example)
            winner = yield from comparison_questions(orders)
            if winner > 0:
                beaten = beaten or reply
            elif winner < 0 and not reply.is_weaker:
                best, beaten = reply, best
        if beaten is None:
            return self._settled(candidate, best, None, None)
        verdict = yield from self._verdict_on(best.example)
        if isinstance(verdict, Drop):
            return Settled(candidate, None, verdict)
        first = verdict if best.key == candidate.example.task.key else None
        return self._settled(candidate, replace(best, verdict=verdict), beaten, first)

    def _verdict_on(self, example: Example) -> Questions[Verdict | Drop]:
        requests = judge_requests(self._config, self._judge, self._context, example)
        return verdict_questions(self._judge, requests)

    # --- the pair --------------------------------------------------------------------------------

    def _settled(self, candidate: Candidate, chosen: _Reply, rejected: _Reply | None, first: Verdict | None) -> Settled:
        """The candidate with both sides; where there is no pair as it came, with the verdict on its own reply."""
        low = low_score(self._judge, chosen.verdict) if chosen.verdict is not None else None
        if low is not None:
            return Settled(candidate, first, low)
        if rejected is None:
            return Settled(candidate, first, _no_margin(self._why_no_margin(chosen)))
        margin = None if rejected.verdict is None else round(chosen.score - rejected.score, 4)
        preference = Preference(
            chosen.key, rejected.key, rejected.text, rejected.example.model, rejected.verdict, margin
        )
        return Settled(replace(candidate, example=replace(chosen.example, preference=preference)), chosen.verdict)

    def _why_no_margin(self, chosen: _Reply) -> str:
        if chosen.verdict is None:
            return "no reply is better than another in both orders"
        return f"no reply is {self._config.preference.margin:g} below {chosen.score:g}"


def _no_margin(detail: str) -> Drop:
    return Drop(Stage.JUDGE, DropReason.NO_MARGIN, detail)
