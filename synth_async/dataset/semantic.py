"""Pairs of texts that say much the same in other words: for a report. Nothing is dropped for its sake.

Latent semantic analysis (Deerwester et al. 1990) with scikit-learn (extra `semantic`): TF-IDF of hashed words, reduced
by a truncated SVD, compared by cosine. No model and no download. A cosine depends on the texts it is fitted on, and two
texts on one topic with opposite advice may have a high one: reading the pairs is the point.

Every text is compared with every other, block by block: the time is quadratic, the memory 512 bytes a text and a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from synth_async.dataset.extras import required

__all__ = ["SemanticPair", "require_semantic", "semantic_pairs"]

MAX_PAIRS = 10_000
"""Pairs that a report has: the most similar ones."""

_WORDS = 2**16  # places that words are hashed to; of 20,000 different ones three in four stand alone
_COMPONENTS = 128
_FITTED = 20_000  # texts, evenly spread over all, that weights and components are fitted on
_BLOCK = 1024

Vectors = npt.NDArray[np.float32]
TextOf = Callable[[int], str]


class SemanticPair(NamedTuple):
    """Two texts by their numbers, the earlier first, and the cosine between them."""

    first: int
    second: int
    similarity: float


def require_semantic() -> None:
    """Raise `UsageError` with the extra to install where scikit-learn is missing."""
    required("sklearn", extra="semantic")


def semantic_pairs(count: int, text_of: TextOf, *, above: float, most: int = MAX_PAIRS) -> list[SemanticPair]:
    """The pairs of the texts 0 to `count` - 1 whose cosine is above `above`, the most similar first, at most `most`."""
    if count < 2:
        return []
    vectors = _vectors(count, text_of)
    found = np.empty(0, dtype=[("similarity", "f4"), ("first", "u4"), ("second", "u4")])
    for start in range(0, count, _BLOCK):
        for other in range(start, count, _BLOCK):
            found = _best(np.concatenate([found, _alike(vectors, start, other, above)]), most)
            if len(found) == most:
                above = max(above, float(found["similarity"][-1]))
    return [SemanticPair(int(row["first"]), int(row["second"]), float(row["similarity"])) for row in found]


def _alike(vectors: Vectors, start: int, other: int, above: float) -> npt.NDArray[Any]:
    cosines = vectors[start : start + _BLOCK] @ vectors[other : other + _BLOCK].T
    rows, columns = np.nonzero(cosines > above)
    found = np.empty(len(rows), dtype=[("similarity", "f4"), ("first", "u4"), ("second", "u4")])
    found["similarity"], found["first"], found["second"] = cosines[rows, columns], rows + start, columns + other
    return found[found["first"] < found["second"]]


def _best(pairs: npt.NDArray[Any], most: int) -> npt.NDArray[Any]:
    order = np.lexsort((pairs["second"], pairs["first"], -pairs["similarity"]))
    return pairs[order[:most]]


def _vectors(count: int, text_of: TextOf) -> Vectors:
    """A unit vector per text; all zeros for one without words."""
    text = required("sklearn.feature_extraction.text", extra="semantic")
    decomposition = required("sklearn.decomposition", extra="semantic")
    words = text.HashingVectorizer(n_features=_WORDS, alternate_sign=False, norm=None, dtype=np.float32)
    weights = text.TfidfTransformer(sublinear_tf=True)
    # With as many components as texts nothing is lost: few texts are compared by their words alone.
    components = decomposition.TruncatedSVD(n_components=min(_COMPONENTS, count), n_iter=3, random_state=0)
    sample = map(text_of, np.unique(np.linspace(0, count - 1, min(count, _FITTED), dtype=np.int64)).tolist())
    with np.errstate(invalid="ignore", divide="ignore"):  # the shares of a variance of 0, which nobody reads
        components.fit(weights.fit_transform(words.transform(sample)))
    vectors = np.empty((count, components.n_components), dtype=np.float32)
    for start, block in _blocks(count, text_of):
        reduced = components.transform(weights.transform(words.transform(block)))
        lengths = np.linalg.norm(reduced, axis=1, keepdims=True)
        vectors[start : start + len(block)] = reduced / np.maximum(lengths, np.finfo(np.float32).tiny)
    return vectors


def _blocks(count: int, text_of: TextOf) -> Iterator[tuple[int, list[str]]]:
    for start in range(0, count, _BLOCK):
        yield start, [text_of(number) for number in range(start, min(start + _BLOCK, count))]
