"""The accepted examples as the dedup index knows them, over all processes of a run.

Beside the journal stands a sidecar with what the index needs of each, so that a run taken up again computes no
signature twice. It is believed as far as its places are those of the journal's acceptances, in their order; what comes
after is computed from the texts and written anew. The texts that a candidate is compared with are read from the journal
when they are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from synth_async.records import Example
from synth_async.stages.curation import Curation
from synth_async.stages.dedup import Sketch
from synth_async.store.sidecar import Sidecar

__all__ = ["KeptExamples"]


class KeptExamples:
    """Puts accepted examples into the index, in their order, and into the sidecar, where there is one."""

    def __init__(self, curation: Curation, sidecar: Sidecar | None) -> None:
        self._curation = curation
        self._sidecar = sidecar
        self._restored = 0
        self._confirmed = 0

    def __repr__(self) -> str:
        return f"<KeptExamples restored={self._restored} {self._sidecar!r}>"

    def restore(self, places: Sequence[int], text_of: Callable[[int], str]) -> int:
        """Take as much from the sidecar as it agrees with the journal's acceptances; returns how many.

        `text_of` gives the compared text of the acceptance with this number, from 0.
        """
        if self._sidecar is None:
            return 0
        found = self._sidecar.restored
        pairs = zip(found.places, places, strict=False)
        count = next((number for number, (one, other) in enumerate(pairs) if one != other), None)
        self._restored = min(len(found.places), len(places)) if count is None else count
        self._curation.restore(found.records, self._restored, text_of)
        self._sidecar.settle(self._restored)
        return self._restored

    def abandon(self) -> None:
        """Write no more of the sidecar; the next start computes what is missing in it."""
        if self._sidecar is not None:
            self._sidecar.abandon()

    def confirm(self, example: Example, place: int) -> None:
        """An acceptance that the journal holds at `place`, in its order: in the index already if it was restored."""
        self._confirmed += 1
        if self._confirmed > self._restored:
            self.keep(example, self._curation.sketch(example), place)

    def keep(self, example: Example, sketch: Sketch | None, place: int) -> None:
        """An acceptance that was journaled at `place`."""
        self._curation.accept(example, sketch)
        if self._sidecar is not None and sketch is not None:
            self._sidecar.append(place, self._curation.packed(example, sketch))
