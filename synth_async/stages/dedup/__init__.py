"""Exact and near-duplicates: sketch a text, look it up among the kept ones, add it when it is kept.

    sketch = dedup.sketch([user, assistant])
    match = dedup.find(sketch)          # before the judge is paid; changes nothing
    if match is None:
        dedup.add(key, sketch)          # only once the example is accepted

An exact hash of the normalised text comes first. Then MinHash over character shingles (Broder 1997) and banded
locality-sensitive hashing propose candidates, and `verify` decides on each of them by the texts themselves, so a drop
is no estimate. Pure and streaming: no I/O, memory grows with the kept documents only.
"""

from synth_async.stages.dedup.engine import Deduplicator, Match, Sketch, TextOf, Verify
from synth_async.stages.dedup.index import CandidateIndex, DatasketchIndex, LshIndex
from synth_async.stages.dedup.packing import PACKED_BYTES, Packed, unpack
from synth_async.stages.dedup.signatures import BinSignatures, DatasketchSignatures, SignatureScheme
from synth_async.stages.dedup.texts import Fields, compared_parts, normalise

__all__ = [
    "PACKED_BYTES",
    "BinSignatures",
    "CandidateIndex",
    "DatasketchIndex",
    "DatasketchSignatures",
    "Deduplicator",
    "Fields",
    "LshIndex",
    "Match",
    "Packed",
    "SignatureScheme",
    "Sketch",
    "TextOf",
    "Verify",
    "compared_parts",
    "normalise",
    "unpack",
]
