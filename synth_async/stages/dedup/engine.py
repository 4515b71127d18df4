"""The deduplicator: what has been kept, and whether a new text is a duplicate of it."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal
from unicodedata import unidata_version

import numpy as np
import numpy.typing as npt

from synth_async.records import Message
from synth_async.stages.dedup.index import CandidateIndex, LshIndex, Ordinals
from synth_async.stages.dedup.packing import (
    PACKING,
    Marks,
    Packed,
    exact_hashes_of,
    keys_of,
    marks_of,
    pack,
)
from synth_async.stages.dedup.signatures import BANDS, ENTRIES, ROWS, BinSignatures, Signature, SignatureScheme
from synth_async.stages.dedup.texts import PART_SEPARATOR, Fields, compared_parts, join_parts
from synth_async.stages.dedup.verification import article_similarity, could_exceed, indel_similarity

__all__ = ["Deduplicator", "Match", "Sketch", "TextOf", "Verify"]

Verify = Literal["indel", "article", "jaccard", "none"]
TextOf = Callable[[int], str]
"""Gives back `Sketch.text` of the document with this ordinal (the order of `add`, from 0)."""

MIN_AGREEMENT = 0.24
"""Share of equal signature entries below which a candidate is an accident of one band (seen in true pairs: 0.25 up)."""
MAX_VERIFIED = 32
"""Candidates that are compared text by text: the ones that agree most, the oldest first among equals."""
LIKELY_AGREEMENT = 0.40
MAX_DOUBTFUL = 8
"""Below the likely agreement (99 in 100 true pairs are above it) a look-up ends after so many: texts with a long common
preamble, or of one grammar, agree by 0.3 without end."""
MIN_CHARACTERS = 20
"""Shorter texts have too few shingles to tell near from far: they are only compared exactly."""


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """What a text is looked up and kept by. `signature` is None for a text that is only compared exactly."""

    exact: bytes
    signature: Signature | None
    text: str


@dataclass(frozen=True, slots=True)
class Match:
    """The kept document that is repeated: key and ordinal, the similarity (0-1), and whether by the exact hash."""

    kept: str
    ordinal: int
    similarity: float
    exact: bool


class Deduplicator:
    """Finds out whether a text repeats one that was kept. Deterministic; not safe to change from several threads.

    `threshold` is the verified similarity (0-1]; strictly above is a duplicate. `verify` says how it is told:

    * `indel`: rapidfuzz's Indel similarity of the normalised texts
    * `article`: `difflib.SequenceMatcher(None, new, kept).ratio()` of the texts as they came, joined by newlines
    * `jaccard`: agreement of the signatures, an estimate (0.80 here is far stricter than 0.80 by text)
    * `none`: every candidate is a duplicate; `threshold` is not used

    `shingle` is the number of characters in a shingle; by default 5, and 2 for texts that are mostly Chinese, Japanese
    or Korean. Short texts such as topics (30 to 120 characters) want `Deduplicator(threshold=0.85, shingle=3)`: one
    changed word costs so short a text most of its 5-grams. Texts under 20 characters are only compared exactly.

    Texts of kept documents stay in memory (UTF-8) unless `text_of` reads them back from elsewhere. `signatures` and
    `index` put the reference computations in the place of the fast ones.
    """

    def __init__(
        self,
        threshold: float = 0.80,
        verify: Verify = "indel",
        fields: Fields = "both",
        *,
        seed: int = 1,
        shingle: int | None = None,
        text_of: TextOf | None = None,
        signatures: SignatureScheme | None = None,
        index: CandidateIndex | None = None,
    ) -> None:
        self.threshold = threshold
        self.verify: Verify = verify
        self.fields: Fields = fields
        self._seed = seed
        self._shingle = shingle
        self._signature_of = signatures or BinSignatures(seed=seed, shingle=shingle)
        self._min_characters = max(MIN_CHARACTERS, shingle or 0)
        self._index = LshIndex() if index is None else index
        self._ordinal_of: dict[bytes, int] = {}
        self._keys: list[str] = []
        self._marks: Marks = np.zeros((64, ENTRIES), dtype=np.uint8)
        self._lengths = array("I")
        self._is_by_text = verify in {"indel", "article"}
        self._texts: list[bytes | None] | None = [] if text_of is None and self._is_by_text else None
        self._text_of = text_of or self._kept_text
        self._restored_text_of: TextOf | None = None

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"<Deduplicator kept={len(self)} verify={self.verify} threshold={self.threshold:g} fields={self.fields}>"

    def sketch_messages(self, messages: Sequence[Message]) -> Sketch:
        """The sketch of a conversation: the turns that `fields` names, without the system message."""
        return self.sketch(compared_parts(messages, self.fields))

    def sketch(self, parts: Sequence[str]) -> Sketch:
        """The sketch of a document made of one or more texts. Their order and borders count in the exact hash."""
        text = join_parts(parts)
        exact = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        signature = None
        if len(text) >= self._min_characters:
            signature = self._signature_of(text)
            signature.flags.writeable = False
        return Sketch(exact, signature, PART_SEPARATOR.join(parts) if self.verify == "article" else text)

    def text_of_messages(self, messages: Sequence[Message]) -> str:
        """`Sketch.text` of a conversation, without its signature."""
        parts = compared_parts(messages, self.fields)
        return PART_SEPARATOR.join(parts) if self.verify == "article" else join_parts(parts)

    def find(self, sketch: Sketch, *, since: int = 0) -> Match | None:
        """The kept document that this one repeats, or None. Changes nothing.

        Among near-duplicates it is the first, by agreement of the signatures, that is above the threshold. `since` is
        the length at an earlier look-up that found nothing: only what was added after it is looked at.
        """
        exact = self._ordinal_of.get(sketch.exact)
        if exact is not None:
            return Match(self._keys[exact], exact, 1.0, exact=True)
        if sketch.signature is None or since == len(self):
            return None
        compared = 0
        for ordinal, agreement in self._likeliest(sketch.signature, since):
            if compared >= (MAX_VERIFIED if agreement >= LIKELY_AGREEMENT else MAX_DOUBTFUL):
                break
            if self._is_by_text and not could_exceed(self.threshold, len(sketch.text), self._lengths[ordinal]):
                continue
            similarity = self._similarity(sketch.text, ordinal, agreement)
            if similarity is not None:
                return Match(self._keys[ordinal], ordinal, similarity, exact=False)
            compared += 1
        return None

    def add(self, key: str, sketch: Sketch) -> None:
        """Keep a document under a key of the caller's. Of equal texts, the one added first is the one that is found."""
        ordinal = len(self._keys)
        self._keys.append(key)
        self._ordinal_of.setdefault(sketch.exact, ordinal)
        self._lengths.append(len(sketch.text))
        if self._texts is not None:
            self._texts.append(sketch.text.encode("utf-8", "surrogatepass"))
        self._reserve(ordinal + 1)
        if sketch.signature is not None:
            self._marks[ordinal] = marks_of(sketch.signature)
            self._index.add(ordinal, sketch.signature)

    @property
    def stamp(self) -> str:
        """What packed documents depend on: those of another stamp cannot be restored here."""
        scheme = type(self._signature_of).__name__
        text = "as it came" if self.verify == "article" else f"normalised by Unicode {unidata_version}"
        return (
            f"packing {PACKING}, {scheme} {BANDS}x{ROWS}, seed {self._seed}, shingle {self._shingle or 'by script'}, "
            f"fields {self.fields}, text {text}"
        )

    def packed(self, key: str, sketch: Sketch) -> bytes:
        """A document that was added, as a record of `PACKED_BYTES` for `restore`; see `packing.pack` for its errors."""
        return pack(key, sketch.exact, sketch.signature, len(sketch.text))

    def restore(self, records: Packed, text_of: TextOf | None = None) -> None:
        """Keep many documents at once, as `add` in this order does. Raises `ValueError` where that cannot be.

        Their texts come from `text_of`, given here for these documents or at the beginning for all; one that was needed
        is kept. To be called before the first `add` where it is given here. The index has to be the default one.
        """
        lacks_texts = self._texts is not None and (text_of is None or self._keys)
        if lacks_texts or not isinstance(self._index, LshIndex):
            raise ValueError("packed documents hold no texts: give text_of, and leave the index to the default")
        start = len(self._keys)
        if self._texts is not None:
            self._restored_text_of = text_of
            self._texts += [None] * len(records)
        self._keys += keys_of(records)
        for ordinal, exact in enumerate(exact_hashes_of(records), start):
            self._ordinal_of.setdefault(exact, ordinal)
        self._lengths.extend(records["length"].tolist())
        self._reserve(start + len(records))
        self._marks[start : start + len(records)] = records["marks"]
        signed = np.flatnonzero(records["bands"][:, 0])
        self._index.restore((signed + start).astype(np.uint32), records["bands"][signed].astype(np.uint32, copy=False))

    def _reserve(self, documents: int) -> None:
        # At most a megabyte more at a time: new pages have to be zeroed, and that is the longest stall of `add`.
        if documents > len(self._marks):
            self._marks.resize((documents + min(documents // 16, 4096), ENTRIES), refcheck=False)

    def _likeliest(self, signature: Signature, since: int) -> Iterator[tuple[int, float]]:
        """Candidates and how much they agree, the likeliest first, the oldest first among equals."""
        ordinals = self._index.candidates(signature)
        ordinals = ordinals[ordinals >= since] if since else ordinals
        if not len(ordinals):
            return iter(())
        equal = self._agreeing(ordinals, signature)
        likely = np.flatnonzero(equal >= MIN_AGREEMENT * ENTRIES)
        best = likely[np.argsort(-equal[likely], kind="stable")]
        return zip(ordinals[best].tolist(), (equal[best] / ENTRIES).tolist(), strict=True)

    def _agreeing(self, ordinals: Ordinals, signature: Signature) -> npt.NDArray[np.int16]:
        equal = (self._marks.take(ordinals, axis=0) == marks_of(signature)).view(np.uint8)
        # Bytes add up faster than any wider type, and half of the entries cannot overflow one.
        halves = equal.reshape(len(ordinals), 2, ENTRIES // 2).sum(axis=2, dtype=np.uint8)
        counts: npt.NDArray[np.int16] = halves.sum(axis=1, dtype=np.int16)
        return counts

    def _similarity(self, text: str, ordinal: int, agreement: float) -> float | None:
        if self.verify == "none":
            return agreement
        if self.verify == "jaccard":
            return agreement if agreement > self.threshold else None
        similarity = indel_similarity if self.verify == "indel" else article_similarity
        return similarity(text, self._text_of(ordinal), self.threshold)

    def _kept_text(self, ordinal: int) -> str:
        if self._texts is None:
            raise LookupError(f"no text of document {ordinal} is kept under verify={self.verify!r}")
        kept = self._texts[ordinal]
        if kept is None:
            if self._restored_text_of is None:
                raise AssertionError("a document without a text was restored, and restoring asks for text_of")
            kept = self._texts[ordinal] = self._restored_text_of(ordinal).encode("utf-8", "surrogatepass")
        return kept.decode("utf-8", "surrogatepass")
