"""What is asked about a candidate before the last decision on it, and what that comes to.

As a rule that is one verdict. With `revise` an example that is almost good is sent back with the judge's reason, and
the revision is judged anew. With `mode: preference` there are further replies to the same prompt (`stages.pairs`). All
of it is questions (`stages.questions`), so that a journal answers them as an endpoint does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from synth_async.config.models import Config, Judge
from synth_async.errors import RequestRejected
from synth_async.records import Completion, Drop, Example, Revision, Stage, Usage, Verdict
from synth_async.stages.curation import Candidate, Curation, Rejected, Settled
from synth_async.stages.judging import judge_requests, low_score, verdict_questions
from synth_async.stages.pairs import Pairing
from synth_async.stages.questions import Question, Questions, metered
from synth_async.stages.revision import is_almost_good, revision_request

__all__ = ["Course"]

_UNCHANGED = Drop(Stage.REVISE, "unchanged")

IsWanted = Callable[[Candidate, Verdict], bool]
"""Whether an example with such labels would get in, were it good enough: otherwise a revision is not worth it."""


class Course:
    """Puts the questions about one candidate after the other; for a config with a judge."""

    def __init__(self, config: Config, judge: Judge, context: str, curation: Curation) -> None:
        self._config = config
        self._judge = judge
        self._context = context
        self._curation = curation
        self._pairing = Pairing(config, judge, context, curation) if config.mode == "preference" else None

    def questions(self, candidate: Candidate, is_wanted: IsWanted = lambda *_: True) -> Questions[Settled]:
        """The questions about one candidate."""
        if self._pairing is not None:
            return self._pairing.questions(candidate)
        return self._judged(candidate, is_wanted)

    def _judged(self, candidate: Candidate, is_wanted: IsWanted) -> Questions[Settled]:
        settled = yield from self._verdict_on(candidate)
        revise = self._config.revise
        for _ in range(revise.times if revise is not None else 0):
            draft = settled
            if not self._is_worth_revising(draft, is_wanted):
                break
            settled = yield from self._revised(draft)
            if settled.candidate.example.messages == draft.candidate.example.messages:
                break  # asked again, it would be the same question
        return settled

    def _verdict_on(self, candidate: Candidate) -> Questions[Settled]:
        requests = judge_requests(self._config, self._judge, self._context, candidate.example)
        verdict = yield from verdict_questions(self._judge, requests)
        if isinstance(verdict, Drop):
            return Settled(candidate, None, verdict)
        return Settled(candidate, verdict, low_score(self._judge, verdict))

    # --- revision --------------------------------------------------------------------------------

    def _is_worth_revising(self, settled: Settled, is_wanted: IsWanted) -> bool:
        """Whether what is not good enough is almost so, and wanted."""
        revise, verdict = self._config.revise, settled.verdict
        if revise is None or settled.drop is None or verdict is None:
            return False
        return is_almost_good(revise, self._judge, verdict) and is_wanted(settled.candidate, verdict)

    def _revised(self, draft: Settled) -> Questions[Settled]:
        """What the revision of an example comes to; the draft as it was where the endpoint refuses to make one."""
        example, verdict = draft.candidate.example, draft.verdict
        if verdict is None:
            raise AssertionError("an example is revised for the reason of its verdict")
        request = revision_request(self._config, self._context, example, verdict)
        try:
            _, completion = yield Question(request)
        except RequestRejected:
            return draft
        spent = completion.usage.total
        candidate = self._examined(draft, completion)
        if isinstance(candidate, Drop):
            return _still_a_draft(draft, verdict, candidate, spent)

        def note(usage: Usage) -> None:
            nonlocal spent
            spent += usage.total

        settled = yield from metered(self._verdict_on(candidate), note)
        return settled.with_example(_as_revision(example, settled.candidate.example, request.key, verdict, spent))

    def _examined(self, draft: Settled, completion: Completion) -> Candidate | Drop:
        example = draft.candidate.example
        outcome = self._curation.examine(example.task, completion)
        if isinstance(outcome, Rejected):
            return outcome.drop
        return _UNCHANGED if outcome.example.messages == example.messages else outcome


def _as_revision(before: Example, after: Example, key: str | None, verdict: Verdict, tokens: int) -> Example:
    """The example with what it was revised from: the first draft of all, and the tokens of all revisions."""
    earlier = before.revision
    draft, spent = (earlier.draft, earlier.tokens) if earlier is not None else (verdict, 0)
    return replace(after, revision=Revision(key, draft, spent + tokens))


def _still_a_draft(draft: Settled, verdict: Verdict, why: Drop, tokens: int) -> Settled:
    """The draft with its own drop, to which is added what was wrong with its revision."""
    example, drop = draft.candidate.example, draft.drop
    if drop is None:
        raise AssertionError("what is good enough is not revised")
    key = example.revision.key if example.revision is not None else None
    told = replace(drop, detail=f"{drop.detail}; its revision: {why.reason}")
    return replace(draft, drop=told).with_example(_as_revision(example, example, key, verdict, tokens))
