"""Near-duplicate search, measured: naive difflib, the datasketch tutorial, rensa, our reference parts, our default.

    python benchmarks/dedup.py [--sizes 1000,10000,100000] [--sets 1500] [--write] [--json]

Speed: real-like texts of 250 words (a chain of words drawn from docstrings, few natural duplicates), screened and kept
one after the other. Times are CPU time of the process that does it, one process a row; memory is what its resident set
grows by, texts for verification included. Steps are told apart by wrapping the parts that `Deduplicator` takes.

Accuracy: sets with planted edits (`dedup_texts.py`) against an exhaustive comparison, where similar means above 0.80 by
rapidfuzz's Indel. Recall is justified drops / (justified drops + kept documents that have an earlier kept one above
0.80), precision is justified drops / drops. `naive's` is the share of what the naive pass drops that is dropped too;
its own row has what difflib's default `autojunk` leaves of the recall.

`--write` puts tables and chart into `benchmarks/README.md` and `benchmarks/dedup.svg`. rensa is measured where it is
installed.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from datasketch import MinHash, MinHashLSH
from dedup_chart import Accuracy, Speed, accuracy_table, chart, speed_table, steps_table, written_into
from dedup_texts import Chain, cjk_passages, grammar_text, heavily_edited, lightly_edited, mixed, real_passages
from rapidfuzz.distance import Indel
from rapidfuzz.process import cdist

from synth_async.stages.dedup import (
    BinSignatures,
    CandidateIndex,
    DatasketchIndex,
    DatasketchSignatures,
    Deduplicator,
    LshIndex,
    SignatureScheme,
    normalise,
)

THRESHOLD = 0.80
SHORTEST = 20  # ours compares shorter texts exactly only

Similarities = npt.NDArray[np.float32]


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


class PrefilteredNaive(Naive):
    """The decisions of `Naive`, sooner: Indel bounds difflib's ratio from above."""

    def find(self, sketch: str) -> bool:
        return any(
            Indel.normalized_similarity(sketch, kept, score_cutoff=THRESHOLD)
            and SequenceMatcher(None, sketch, kept).ratio() > THRESHOLD
            for kept in self._kept
        )


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


class Rensa:
    """rensa as its documentation sets it up: words, 128 permutations, 16 bands, estimated Jaccard of 0.8."""

    def __init__(self) -> None:
        import rensa

        self._new = rensa.RMinHash
        self._lsh = rensa.RMinHashLSH(threshold=THRESHOLD, num_perm=128, num_bands=16)
        self._kept: dict[int, Any] = {}

    def sketch(self, text: str) -> Any:
        minhash = self._new(num_perm=128, seed=42)
        minhash.update(text.lower().split())
        return minhash

    def find(self, sketch: Any) -> bool:
        return any(sketch.jaccard(self._kept[ordinal]) >= THRESHOLD for ordinal in self._lsh.query(sketch))

    def add(self, ordinal: int, sketch: Any) -> None:
        self._lsh.insert(ordinal, sketch)
        self._kept[ordinal] = sketch


class TimedSignatures:
    """A scheme, and the CPU seconds it took."""

    def __init__(self, scheme: SignatureScheme) -> None:
        self._scheme = scheme
        self.spent_s = 0.0

    def __call__(self, text: str) -> Any:
        start = time.process_time()
        signature = self._scheme(text)
        self.spent_s += time.process_time() - start
        return signature


class TimedIndex:
    """An index, and the CPU seconds that proposing took."""

    def __init__(self, index: CandidateIndex) -> None:
        self._index = index
        self.spent_s = 0.0

    def add(self, ordinal: int, signature: Any) -> None:
        self._index.add(ordinal, signature)

    def candidates(self, signature: Any) -> Any:
        start = time.process_time()
        found = self._index.candidates(signature)
        self.spent_s += time.process_time() - start
        return found


class Ours:
    """`Deduplicator`, with the default or the reference computations."""

    def __init__(self, scheme: SignatureScheme, index: CandidateIndex) -> None:
        self.scheme, self.index = TimedSignatures(scheme), TimedIndex(index)
        self._dedup = Deduplicator(THRESHOLD, signatures=self.scheme, index=self.index)

    def sketch(self, text: str) -> Any:
        return self._dedup.sketch([text])

    def find(self, sketch: Any) -> bool:
        return self._dedup.find(sketch) is not None

    def add(self, ordinal: int, sketch: Any) -> None:
        self._dedup.add(str(ordinal), sketch)


@dataclass(frozen=True, slots=True)
class Contender:
    """A method, and the most documents that it is given."""

    make: Callable[[], Method]
    most: int = sys.maxsize
    most_in_sets: int = sys.maxsize


CONTENDERS = {
    "naive difflib": Contender(Naive, 100, 0),
    "datasketch tutorial": Contender(Tutorial, 2_000),
    "rensa": Contender(Rensa),
    "ours, datasketch parts": Contender(lambda: Ours(DatasketchSignatures(), DatasketchIndex()), 2_000),
    "ours": Contender(lambda: Ours(BinSignatures(), LshIndex())),
}


# --- speed ---------------------------------------------------------------------------------------


def speed(name: str, texts: Sequence[str]) -> Speed:
    """One row, from screening and keeping the texts one after the other."""
    gc.freeze()  # a collection would walk the word chain of the parent, which is none of the method's
    method, clock = CONTENDERS[name].make(), time.process_time
    kept, finds_ms, adds_ms = 0, [], []
    sketch_s = 0.0
    before = resident_bytes()
    for ordinal, text in enumerate(texts):
        start = clock()
        sketch = method.sketch(text)
        sketched = clock()
        is_duplicate = method.find(sketch)
        looked_up = clock()
        if not is_duplicate:
            method.add(ordinal, sketch)
            kept += 1
            adds_ms.append((clock() - looked_up) * 1000)
        sketch_s += sketched - start
        finds_ms.append((looked_up - sketched) * 1000)
    grown = resident_bytes() - before
    find_s, add_s = sum(finds_ms) / 1000, sum(adds_ms) / 1000
    return Speed(
        method=name,
        documents=len(texts),
        kept=kept,
        documents_per_s=len(texts) / (sketch_s + find_s + add_s),
        steps_us={step: seconds / len(texts) * 1e6 for step, seconds in steps(method, texts, sketch_s, find_s).items()}
        | {"add": add_s / len(texts) * 1e6},
        find_p99_ms=float(np.percentile(finds_ms, 99)),
        add_p99_ms=float(np.percentile(adds_ms, 99)),
        longest_ms=max(*finds_ms, *adds_ms),
        bytes_per_kept=grown / kept if before and len(texts) >= 10_000 else None,
    )


def steps(method: Method, texts: Sequence[str], sketch_s: float, find_s: float) -> dict[str, float]:
    """CPU seconds by step, of as many steps as can be told apart."""
    if not isinstance(method, Ours):
        return {"sketch": sketch_s, "find": find_s}
    sample = texts[:2000]
    start = time.process_time()
    for text in sample:
        normalise(text)
    normalise_s = (time.process_time() - start) / len(sample) * len(texts)
    return {
        "normalise": normalise_s,
        "exact hash": max(0.0, sketch_s - method.scheme.spent_s - normalise_s),
        "signature": method.scheme.spent_s,
        "candidates": method.index.spent_s,
        "verify": find_s - method.index.spent_s,
    }


def resident_bytes() -> int:
    """The resident set of this process; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        return 0


def in_own_process(name: str, texts: Sequence[str]) -> Speed:
    """`speed` in a forked child, so that no row's memory or caches are another's."""
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    child = context.Process(target=lambda: writer.send(speed(name, texts)))
    child.start()
    writer.close()
    row: Speed = reader.recv()
    child.join()
    return row


# --- accuracy ------------------------------------------------------------------------------------


def sets_of(size: int, real: Sequence[str], rng: random.Random) -> dict[str, list[str]]:
    """Texts with planted copies, a kind a set; `size` originals in the first two."""
    base = rng.sample(list(real), min(size, len(real)))
    grammar = [grammar_text(rng) for _ in range(size // 2)]
    sets = {
        "plausible edits": mixed(base, rng, lightly_edited),
        "mixed edits": mixed(mixed(base[: size // 2], rng, lightly_edited), rng, heavily_edited),
        "real, nothing planted": rng.sample(list(real), min(2 * size, len(real))),
        "look-alike grammar": mixed(mixed(grammar, rng, lightly_edited), rng, heavily_edited),
    }
    if cjk := cjk_passages():
        sets["Chinese, Japanese, Korean"] = mixed(mixed(cjk, rng, lightly_edited), rng, heavily_edited)
    return {name: [text for text in texts if len(normalise(text)) >= SHORTEST] for name, texts in sets.items()}


def similarities(texts: Sequence[str]) -> Similarities:
    """Of all pairs, 0 where not above the threshold."""
    normal = [normalise(text) for text in texts]
    return cdist(normal, normal, scorer=Indel.normalized_similarity, score_cutoff=THRESHOLD, dtype=np.float32)


def decisions(method: Method, texts: Sequence[str]) -> list[bool]:
    """Which texts are dropped, keeping the others."""
    dropped = []
    for ordinal, text in enumerate(texts):
        sketch = method.sketch(text)
        dropped.append(method.find(sketch))
        if not dropped[-1]:
            method.add(ordinal, sketch)
    return dropped


def accuracy(name: str, set_name: str, dropped: Sequence[bool], naive: Sequence[bool], true: Similarities) -> Accuracy:
    """One row."""
    kept: list[int] = []
    justified = missed = 0
    for number, is_dropped in enumerate(dropped):
        has_similar = bool((true[number, kept] > THRESHOLD).any())
        justified += is_dropped and has_similar
        missed += not is_dropped and has_similar
        if not is_dropped:
            kept.append(number)
    both = sum(one and other for one, other in zip(dropped, naive, strict=True))
    return Accuracy(
        set_name=set_name,
        method=name,
        documents=len(dropped),
        dropped=sum(dropped),
        recall=justified / max(1, justified + missed),
        precision=justified / max(1, sum(dropped)),
        of_naive=both / max(1, sum(naive)),
    )


def accuracies(names: Sequence[str], sets: dict[str, list[str]]) -> list[Accuracy]:
    """All rows, the naive pass first in each set."""
    rows = []
    for set_name, texts in sets.items():
        true = similarities(texts)
        naive = decisions(PrefilteredNaive(), texts)
        rows.append(accuracy("naive difflib", set_name, naive, naive, true))
        rows += [
            accuracy(name, set_name, decisions(CONTENDERS[name].make(), texts), naive, true)
            for name in names
            if CONTENDERS[name].most_in_sets
        ]
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Measure near-duplicate search.")
    parser.add_argument("--sizes", default="1000,10000", help="numbers of documents; 1000000 takes 6 GB and an hour")
    parser.add_argument("--sets", type=int, default=1500, help="originals in the sets that are compared exhaustively")
    parser.add_argument("--write", action="store_true", help="put tables and chart into benchmarks/README.md")
    parser.add_argument("--json", action="store_true", help="JSON instead of the tables")
    arguments = parser.parse_args()
    names = [name for name in CONTENDERS if name != "rensa" or find_spec("rensa")]
    if "rensa" not in names:
        print("rensa is not installed and left out: pip install rensa", file=sys.stderr)
    sizes = [int(size) for size in arguments.sizes.split(",")]
    real, rng = real_passages(), random.Random(1)
    print(f"{len(real):,} real passages, {sum(map(len, real)):,} characters", file=sys.stderr)
    rows = accuracies(names, sets_of(arguments.sets, real, rng))
    chain = Chain(real)
    texts = [chain.text(rng) for _ in range(max(sizes))]
    speeds = [
        in_own_process(name, texts[:size])
        for name in names
        for size in sorted({min(size, CONTENDERS[name].most) for size in sizes})
    ]
    tables = "\n\n".join([speed_table(speeds), steps_table([row for row in speeds if "ours" in row.method])])
    tables += "\n\n" + accuracy_table(rows)
    found: list[Any] = [*speeds, *rows]
    print(json.dumps([asdict(row) for row in found], indent=2) if arguments.json else tables)
    if arguments.write:
        folder = Path(__file__).parent
        (folder / "dedup.svg").write_text(chart(speeds), encoding="utf-8")
        written_into(folder / "README.md", tables)


if __name__ == "__main__":
    main()
