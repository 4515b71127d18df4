"""Near-duplicate search, measured: a naive difflib pass, the datasketch tutorial, our reference, our default.

    python benchmarks/dedup.py [--sizes 1000,10000] [--truth 1000] [--json]

Texts are made by a seeded grammar (100 to 250 words, one domain); a fifth of them are edited copies of earlier ones:
words swapped, digits and names changed, the end cut off, case changed, a greeting added. The grammar has seven
sentences, so unrelated texts are unusually alike: the worst case for `find`. Times are CPU time of this process. Memory
is what `add` leaves allocated (tracemalloc), texts that are kept for verification included. Recall and precision are
counted over documents against an exhaustive comparison of the first `--truth` ones: a document is a duplicate where any
earlier one is more similar than 0.80 by rapidfuzz's Indel.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from typing import Any, Protocol

import numpy as np
from datasketch import MinHash, MinHashLSH
from rapidfuzz.distance import Indel
from rapidfuzz.process import cdist

from synth_async.stages.dedup import DatasketchIndex, DatasketchSignatures, Deduplicator, normalise

THRESHOLD = 0.80
MOST_FOR_NAIVE = 200
MOST_FOR_SLOW = 2000

NAMES = ["Amara", "Bruno", "Chen", "Dana", "Emil", "Farah", "Goran", "Hana", "Ines", "Jonas", "Keiko", "Luis", "Mira"]
THINGS = ["lamp", "router", "invoice", "parcel", "chair", "ticket", "phone", "contract", "kettle", "bicycle", "jacket"]
FLAWS = [
    "arrived broken",
    "was charged twice",
    "never came",
    "stopped working",
    "has the wrong colour",
    "lost its warranty",
]
PLACES = ["Lyon", "Porto", "Graz", "Turin", "Malmo", "Gent", "Brno", "Cork", "Split", "Varna", "Leeds", "Bergen"]
WISHES = [
    "wants a refund",
    "asks for a new one",
    "needs a written answer",
    "would like to cancel",
    "demands to know why",
]
ADVICE = [
    "check the order page",
    "send a photo",
    "keep the receipt",
    "wait two days",
    "call the carrier",
    "reset the device",
]
TEMPERS = [
    "politely",
    "in a hurry",
    "for the third time",
    "with much detail",
    "without an order number",
    "late at night",
]
SENTENCES: tuple[Callable[[random.Random], str], ...] = (
    lambda r: f"The {r.choice(THINGS)} that {r.choice(NAMES)} ordered on day {r.randrange(365)} {r.choice(FLAWS)}.",
    lambda r: f"{r.choice(NAMES)} from {r.choice(PLACES)} {r.choice(WISHES)} and writes {r.choice(TEMPERS)}.",
    lambda r: f"First {r.choice(ADVICE)}, then {r.choice(ADVICE)}; it takes {r.randrange(2, 90)} minutes.",
    lambda r: f"Our office in {r.choice(PLACES)} can exchange the {r.choice(THINGS)} for {r.randrange(5, 900)} euros.",
    lambda r: f"If the {r.choice(THINGS)} {r.choice(FLAWS)} again, {r.choice(ADVICE)} and tell {r.choice(NAMES)}.",
    lambda r: f"Reference {r.randrange(10**6):06d} covers the {r.choice(THINGS)} and the {r.choice(THINGS)} alike.",
    lambda r: f"Nobody in {r.choice(PLACES)} knew that a {r.choice(THINGS)} could be returned {r.choice(TEMPERS)}.",
)


class Method(Protocol):
    """What is measured: a sketch, a look-up that gives whether the text is a duplicate, and an insertion."""

    def sketch(self, text: str) -> Any: ...
    def find(self, sketch: Any) -> bool: ...
    def add(self, ordinal: int, sketch: Any) -> None: ...


class Naive:
    """Every text against every kept one, as `SequenceMatcher(None, a, b).ratio() > 0.80`."""

    def __init__(self) -> None:
        self._kept: list[str] = []

    def sketch(self, text: str) -> str:
        return text

    def find(self, sketch: str) -> bool:
        return any(SequenceMatcher(None, sketch, kept).ratio() > THRESHOLD for kept in self._kept)

    def add(self, ordinal: int, sketch: str) -> None:
        del ordinal
        self._kept.append(sketch)


class Tutorial:
    """datasketch as its tutorial sets it up: words, `update` per word, 128 permutations, threshold 0.8, unverified."""

    def __init__(self) -> None:
        self._lsh = MinHashLSH(threshold=THRESHOLD, num_perm=128)

    def sketch(self, text: str) -> Any:
        minhash = MinHash(num_perm=128)
        for word in set(text.lower().split()):
            minhash.update(word.encode())
        return minhash

    def find(self, sketch: Any) -> bool:
        return bool(self._lsh.query(sketch))

    def add(self, ordinal: int, sketch: Any) -> None:
        self._lsh.insert(ordinal, sketch)


class Ours:
    """`Deduplicator`, with the default or the reference computations."""

    def __init__(self, dedup: Deduplicator) -> None:
        self._dedup = dedup

    def sketch(self, text: str) -> Any:
        return self._dedup.sketch([text])

    def find(self, sketch: Any) -> bool:
        return self._dedup.find(sketch) is not None

    def add(self, ordinal: int, sketch: Any) -> None:
        self._dedup.add(str(ordinal), sketch)


METHODS: dict[str, tuple[Callable[[], Method], int]] = {
    "naive difflib": (Naive, MOST_FOR_NAIVE),
    "datasketch tutorial": (Tutorial, MOST_FOR_SLOW),
    "ours, datasketch parts": (
        lambda: Ours(Deduplicator(signatures=DatasketchSignatures(), index=DatasketchIndex())),
        MOST_FOR_SLOW,
    ),
    "ours": (lambda: Ours(Deduplicator()), sys.maxsize),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """One row of the table; microseconds are CPU time per document (`add`: per kept document)."""

    method: str
    documents: int
    kept: int
    documents_per_s: float
    sketch_us: float
    find_us: float
    add_us: float
    bytes_per_kept: float
    recall: float | None
    precision: float | None


def written(rng: random.Random) -> str:
    """A text of 100 to 250 words."""
    words, sentences = rng.randrange(100, 240), list[str]()
    while sum(sentence.count(" ") + 1 for sentence in sentences) < words:
        sentences.append(rng.choice(SENTENCES)(rng))
    return " ".join(sentences)


def copied(rng: random.Random, text: str) -> str:
    """An edited copy, lightly to heavily."""
    words = text.split()
    for _ in range(int(len(words) * rng.choice([0.02, 0.05, 0.10, 0.20]))):
        place = rng.randrange(len(words) - 1)
        words[place : place + 2] = words[place + 1], words[place]
    words = [rng.choice(NAMES) if word in NAMES else word for word in words]
    words = [str(rng.randrange(999)) if word.isdigit() and rng.random() < 0.5 else word for word in words]
    words = words[: len(words) - rng.choice([0, 0, len(words) // 8, len(words) // 4])]
    text = " ".join(words)
    return rng.choice([text, text.upper(), f"Hello {rng.choice(NAMES)}, thank you for writing to us. {text}"])


def corpus(size: int, seed: int = 1) -> list[str]:
    """`size` texts, a fifth of them edited copies."""
    rng = random.Random(seed)
    texts: list[str] = []
    for _ in range(size):
        texts.append(copied(rng, rng.choice(texts)) if texts and rng.random() < 0.2 else written(rng))
    return texts


def duplicates(texts: Sequence[str]) -> list[bool]:
    """Whether each text is more similar than the threshold to any earlier one, by comparing all pairs."""
    normal = [normalise(text) for text in texts]
    similar = cdist(normal, normal, scorer=Indel.normalized_similarity, score_cutoff=THRESHOLD, dtype=np.float64)
    return [bool((similar[number, :number] > THRESHOLD).any()) for number in range(len(texts))]


def accuracy(make: Callable[[], Method], texts: Sequence[str], truth: Sequence[bool]) -> tuple[float, float]:
    """Recall and precision over documents, everything being kept."""
    method = make()
    reported: list[bool] = []
    for ordinal, text in enumerate(texts):
        sketch = method.sketch(text)
        reported.append(method.find(sketch))
        method.add(ordinal, sketch)
    right = sum(told and true for told, true in zip(reported, truth, strict=True))
    return right / max(1, sum(truth)), right / max(1, sum(reported))


def measured(
    name: str, make: Callable[[], Method], texts: Sequence[str], found: tuple[float, float] | None
) -> Measured:
    """Screen and keep the texts one after the other."""
    method, clock = make(), time.process_time
    sketch_s = find_s = add_s = 0.0
    kept = []
    for ordinal, text in enumerate(texts):
        start = clock()
        sketch = method.sketch(text)
        sketched = clock()
        is_duplicate = method.find(sketch)
        looked_up = clock()
        if not is_duplicate:
            method.add(ordinal, sketch)
            add_s += clock() - looked_up
            kept.append(ordinal)
        sketch_s += sketched - start
        find_s += looked_up - sketched
    return Measured(
        method=name,
        documents=len(texts),
        kept=len(kept),
        documents_per_s=len(texts) / (sketch_s + find_s + add_s),
        sketch_us=sketch_s / len(texts) * 1e6,
        find_us=find_s / len(texts) * 1e6,
        add_us=add_s / len(kept) * 1e6,
        bytes_per_kept=allocated(make, [texts[ordinal] for ordinal in kept]) / len(kept),
        recall=found[0] if found else None,
        precision=found[1] if found else None,
    )


def allocated(make: Callable[[], Method], texts: Sequence[str]) -> int:
    """Bytes that adding the texts leaves allocated; the sketches are made before and not counted."""
    method = make()
    sketches = [method.sketch(text) for text in texts]
    tracemalloc.start()
    for ordinal, sketch in enumerate(sketches):
        method.add(ordinal, sketch)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return size


def table(rows: Sequence[Measured]) -> str:
    """The rows as aligned text."""
    lines = [
        "method                  documents    kept  docs/s  sketch us  find us  add us  bytes/kept  recall  precision"
    ]
    for row in rows:
        share = [f"{value:.3f}" if value is not None else "-" for value in (row.recall, row.precision)]
        lines.append(
            f"{row.method:<23} {row.documents:>9} {row.kept:>7} {row.documents_per_s:>7.0f} {row.sketch_us:>10.0f}"
            f" {row.find_us:>8.0f} {row.add_us:>7.0f} {row.bytes_per_kept:>11.0f} {share[0]:>7} {share[1]:>10}"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Measure near-duplicate search.")
    parser.add_argument("--sizes", default="1000,10000", help="numbers of documents, comma-separated")
    parser.add_argument("--truth", type=int, default=1000, help="documents that are compared exhaustively")
    parser.add_argument("--json", action="store_true", help="one JSON array instead of the table")
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.sizes.split(",")]
    texts = corpus(max([*sizes, arguments.truth]))
    truth = duplicates(texts[: arguments.truth])
    rows: list[Measured] = []
    for name, (make, most) in METHODS.items():
        judged = min(arguments.truth, most)
        found = accuracy(make, texts[:judged], truth[:judged])
        rows.extend(measured(name, make, texts[:size], found) for size in sorted({min(size, most) for size in sizes}))
    print(json.dumps([asdict(row) for row in rows], indent=2) if arguments.json else table(rows))


if __name__ == "__main__":
    main()
