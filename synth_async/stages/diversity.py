"""How varied texts are: plain measures that need no model, for a whole dataset or a part of it.

Distinct-n: Li et al. 2016. Compression ratio: Shaib et al. 2024, "Standardizing the measurement of text diversity". All
of them depend on how many texts there are, so only sets of one size can be compared.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from synth_async.stages.words import tokens

__all__ = ["compression_ratio", "distinct_n", "entropy_bits", "evenness", "opener_entropy_bits", "top_opener_share"]


def distinct_n(texts: Iterable[str], n: int = 2) -> float:
    """Share of the word n-grams that are different, 0-1, over all texts; 0 where there are none."""
    seen: set[tuple[str, ...]] = set()
    total = 0
    for text in texts:
        words = tokens(text)
        grams = list(zip(*(words[start:] for start in range(n)), strict=False))
        seen.update(grams)
        total += len(grams)
    return len(seen) / total if total else 0.0


def compression_ratio(texts: Iterable[str]) -> float:
    """Bytes by bytes as zlib packs them, all texts in one: the higher, the more they repeat each other.

    zlib looks back 32 KB: what counts is how much a text repeats those shortly before it.
    """
    packer = zlib.compressobj(level=9)
    plain = packed = 0
    for text in texts:
        line = f"{text}\n".encode("utf-8", "replace")
        plain += len(line)
        packed += len(packer.compress(line))
    packed += len(packer.flush())
    return plain / packed if plain else 1.0


def top_opener_share(texts: Sequence[str], words: int = 3) -> float:
    """Share of the texts that begin with the most frequent first words, 0-1."""
    return max(_openers(texts, words).values()) / len(texts) if texts else 0.0


def opener_entropy_bits(texts: Sequence[str], words: int = 3) -> float:
    """Entropy of the first words of the texts, in bits: 0 where all begin alike."""
    return entropy_bits(_openers(texts, words))


def _openers(texts: Sequence[str], words: int) -> Counter[str]:
    return Counter(" ".join(tokens(text)[:words]) for text in texts)


def entropy_bits(counts: Mapping[str, int]) -> float:
    """Shannon's entropy of a distribution, in bits."""
    total = sum(counts.values())
    return -sum(count / total * math.log2(count / total) for count in counts.values() if count)


def evenness(counts: Mapping[str, int]) -> float:
    """Entropy as a share of the most that so many values can have, 0-1; 1 where there is one value or none."""
    return entropy_bits(counts) / math.log2(len(counts)) if len(counts) > 1 else 1.0
