"""Measures of how varied texts are."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_endpoint import words

from synth_async.stages.diversity import compression_ratio, distinct_n, entropy_bits, evenness, top_opener_share

_TEXTS = st.lists(st.text("ab ", max_size=20), max_size=8)
_COUNTS = st.dictionaries(st.text(max_size=3), st.integers(1, 50), min_size=1, max_size=8)


def test_distinct_bigrams_of_two_sentences() -> None:
    """Five bigrams, four of them different; a text of one word has none."""
    assert distinct_n(["The cat sat down.", "the cat slept", "alone"]) == 4 / 5
    assert distinct_n(["one two"], n=3) == 0


@given(_TEXTS, st.integers(1, 3))
def test_repeating_all_texts_halves_the_distinct_share(texts: list[str], n: int) -> None:
    """What was there before brings no new n-gram."""
    assert distinct_n(texts * 2, n) == pytest.approx(distinct_n(texts, n) / 2)


@given(_TEXTS)
def test_shares_are_shares(texts: list[str]) -> None:
    """From 0 to 1, whatever the texts."""
    assert 0 <= distinct_n(texts) <= 1
    assert 0 <= top_opener_share(texts) <= 1


def test_repeated_texts_compress_better_than_varied_ones() -> None:
    """The ratio grows with repetition, in any order of the texts."""
    varied = [words(f"text {number}", 30) for number in range(50)]
    same = [varied[0]] * 50
    assert compression_ratio(same) > 5 * compression_ratio(varied)
    shuffled = random.Random(1).sample(varied, len(varied))
    assert compression_ratio(shuffled) == pytest.approx(compression_ratio(varied), rel=0.02)


def test_the_most_frequent_opening() -> None:
    """By the first three words, case and punctuation left out."""
    texts = ["Hi, I have a problem", "hi i have news", "Hello there, all", "Hi. I HAVE it"]
    assert top_opener_share(texts) == 3 / 4
    assert top_opener_share(texts, words=1) == 3 / 4
    assert top_opener_share([]) == 0


@given(_COUNTS)
def test_entropy_is_greatest_where_all_values_come_equally(counts: dict[str, int]) -> None:
    """From 0 to the logarithm of the number of values; evenness is its share of that."""
    most = math.log2(len(counts))
    assert -1e-9 <= entropy_bits(counts) <= most + 1e-9
    assert entropy_bits(dict.fromkeys(counts, 7)) == pytest.approx(most)
    assert evenness(dict.fromkeys(counts, 7)) == pytest.approx(1)
    assert 0 <= evenness(counts) <= 1 + 1e-9


def test_entropy_of_a_skewed_pair() -> None:
    """Three to one: 0.8113 bits."""
    assert entropy_bits({"a": 3, "b": 1}) == pytest.approx(0.8113, abs=1e-4)
