"""Signatures and the index: they are what their definitions say, at any size."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_async.stages.dedup import BinSignatures, DatasketchIndex, DatasketchSignatures, LshIndex, SignatureScheme
from synth_async.stages.dedup.index import MAX_CANDIDATES, band_keys
from synth_async.stages.dedup.signatures import BANDS, ENTRIES, Signature, shingle_hash, shingle_size, shingles

LONG_ENOUGH = st.text(st.characters(), min_size=8, max_size=300)  # st.characters() gives surrogates too


def words(rng: random.Random, count: int) -> list[str]:
    """Random words: two such lists have next to nothing in common."""
    return [f"w{rng.randrange(5000):04d}" for _ in range(count)]


# --- signatures ----------------------------------------------------------------------------------


@given(LONG_ENOUGH, st.integers(0, 2**31), st.sampled_from([None, 1, 2, 3, 5, 6, 8]))
def test_a_bin_holds_the_least_hash_that_falls_into_it(text: str, seed: int, shingle: int | None) -> None:
    """Whole-array signatures are one-permutation hashing by its definition; an empty bin repeats a filled one."""
    hashes = {shingle_hash(piece, seed=seed) for piece in shingles(text, shingle or shingle_size(text))}
    signature = BinSignatures(seed=seed, shingle=shingle)(text).tolist()
    for number, entry in enumerate(signature):
        own = [value for value in hashes if value >> 24 == number]
        assert entry == min(own) if own else entry in hashes
    assert len(signature) == ENTRIES


@pytest.mark.parametrize("scheme", [BinSignatures(), DatasketchSignatures()])
@pytest.mark.parametrize("length", [30, 200])
def test_agreement_estimates_the_jaccard(scheme: SignatureScheme, length: int) -> None:
    """The default and datasketch's MinHash agree with the true Jaccard, over long texts and over short ones."""
    rng = random.Random(1)
    errors = []
    for _ in range(40):
        one = words(rng, length)
        other = [word if rng.random() < 0.8 else "x" for word in one]
        texts = " ".join(one), " ".join(other)
        sets = [set(shingles(text, 5)) for text in texts]
        jaccard = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
        errors.append(float((scheme(texts[0]) == scheme(texts[1])).mean()) - jaccard)
    assert abs(float(np.mean(errors))) < 0.02
    assert float(np.abs(errors).max()) < 0.15


@given(st.text("ab ", min_size=5, max_size=40))
def test_order_and_repetition_of_shingles_do_not_count(text: str) -> None:
    """A signature belongs to the set of shingles: a text twice has the entries of both, and no entry grows."""
    scheme = BinSignatures(shingle=5)
    once, again = scheme(text), scheme(text + text)
    hashes = {shingle_hash(piece) for piece in shingles(text + text, 5)}
    assert set(again.tolist()) <= hashes
    assert int(again.min()) <= int(once.min())


def test_a_short_text_agrees_with_its_own_beginning_only() -> None:
    """Bins filled from others do not make unrelated short texts agree."""
    scheme = BinSignatures()
    rng = random.Random(2)
    signatures = [scheme(" ".join(words(rng, 6))) for _ in range(60)]
    agreements = [
        float((one == other).mean()) for number, one in enumerate(signatures) for other in signatures[:number]
    ]
    assert max(agreements) < 0.24


# --- the index -----------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2**32 - 1)), min_size=1, max_size=80), st.randoms())
def test_the_compact_index_proposes_what_datasketch_proposes(kinds: list[tuple[int, int]], rng: random.Random) -> None:
    """`LshIndex` and `MinHashLSH` with the same bands give the same candidates for signatures that share some rows."""
    bases = np.random.default_rng(1).integers(0, 2**32, (4, ENTRIES), dtype=np.uint32)
    compact, reference = LshIndex(), DatasketchIndex()
    for ordinal, (kind, value) in enumerate(kinds):
        signature = bases[kind].copy()
        signature[[rng.randrange(ENTRIES) for _ in range(150)]] = value
        assert np.array_equal(compact.candidates(signature), reference.candidates(signature))
        compact.add(ordinal, signature)
        reference.add(ordinal, signature)
        assert np.array_equal(compact.candidates(signature), reference.candidates(signature))


def partly_shared(count: int) -> Signature:
    """Signatures in rows; every third shares half of its bands with the first."""
    signatures = np.random.default_rng(2).integers(0, 2**32, (count, ENTRIES), dtype=np.uint32)
    halves = signatures.reshape(count, -1, BANDS)
    halves[::3, :, : BANDS // 2] = halves[0, :, : BANDS // 2]
    return signatures


def test_the_compact_index_stays_right_while_it_grows() -> None:
    """After many splits, with cells that overflowed, every signature is still found, alone and shared."""
    compact, reference = LshIndex(), DatasketchIndex()
    signatures = partly_shared(1500)
    for ordinal, signature in enumerate(signatures):
        compact.add(ordinal, signature)
        reference.add(ordinal, signature)
    assert "spilled=0" not in repr(compact), "the case that is to be proved did not come up"
    for signature in signatures[::7]:
        assert np.array_equal(compact.candidates(signature), reference.candidates(signature))


@pytest.mark.parametrize("before", [0, 1, 40])
def test_restoring_is_adding_in_the_same_order(before: int) -> None:
    """An index that took documents one by one and one that took most of them at once propose the same."""
    signatures = partly_shared(900)
    single, restored = LshIndex(), LshIndex()
    for ordinal, signature in enumerate(signatures):
        single.add(ordinal, signature)
        if ordinal < before:
            restored.add(ordinal, signature)
    ordinals = np.arange(before, len(signatures), dtype=np.uint32)
    restored.restore(ordinals, np.array([band_keys(signature) for signature in signatures[before:]]))
    for signature in signatures:
        assert np.array_equal(single.candidates(signature), restored.candidates(signature))


def test_a_bucket_that_everything_falls_into_is_bounded() -> None:
    """Beyond the bound the candidates that share the most bands stay, oldest first."""
    index = LshIndex()
    query, far = np.random.default_rng(3).integers(0, 2**32, (2, ENTRIES), dtype=np.uint32)
    far[::BANDS] = query[::BANDS]
    for ordinal in range(MAX_CANDIDATES + 50):
        index.add(ordinal, far)
    index.add(MAX_CANDIDATES + 50, query)
    found = index.candidates(query)
    assert len(found) == MAX_CANDIDATES
    assert found[-1] == MAX_CANDIDATES + 50
    assert found[0] == 0
