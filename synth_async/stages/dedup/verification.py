"""Similarity of two texts, told from the texts themselves."""

from __future__ import annotations

from difflib import SequenceMatcher

from rapidfuzz.distance import Indel

__all__ = ["article_similarity", "could_exceed", "indel_similarity"]

LONG_CHARACTERS = 32_768
"""Longer texts are compared piece by piece: the exact distance is quadratic in their length (20 ms at this one)."""

_ROUNDING = 1e-9  # Indel and difflib divide in another order


def could_exceed(threshold: float, length: int, other_length: int) -> bool:
    """Whether texts of these lengths can be more similar than the threshold: 2 x the shorter / the sum bounds both."""
    total = length + other_length
    return total == 0 or 2 * min(length, other_length) > threshold * total


def indel_similarity(new: str, kept: str, threshold: float) -> float | None:
    """1 - insertions and deletions / both lengths (0-1), or None at or below the threshold.

    Beyond `LONG_CHARACTERS` it is a lower bound: both texts are cut at the same shares of their lengths and the pieces'
    distances are added, which no alignment of the whole can exceed. A match is then still a match; text that has moved
    from one piece to another may hide one.
    """
    if max(len(new), len(kept)) > LONG_CHARACTERS:
        similarity = _piecewise(new, kept, threshold)
    else:
        similarity = Indel.normalized_similarity(new, kept, score_cutoff=threshold)
    return similarity if similarity > threshold else None


def article_similarity(new: str, kept: str, threshold: float) -> float | None:
    """`SequenceMatcher(None, new, kept).ratio()`, or None at or below the threshold.

    difflib's matching blocks are one common subsequence and Indel counts the longest, so Indel bounds difflib's ratio
    from above and spares it most candidates. Beyond `LONG_CHARACTERS`, where difflib takes minutes to hours and junks
    nearly every character, Indel decides.
    """
    bound = indel_similarity(new, kept, max(0.0, threshold - _ROUNDING))
    if bound is None:
        return None
    is_long = max(len(new), len(kept)) > LONG_CHARACTERS
    similarity = bound if is_long else SequenceMatcher(None, new, kept).ratio()
    return similarity if similarity > threshold else None


def _piecewise(new: str, kept: str, threshold: float) -> float:
    total = len(new) + len(kept)
    most = (1.0 - threshold) * total
    pieces = -(-2 * max(len(new), len(kept)) // LONG_CHARACTERS)
    distance = 0
    for piece in range(pieces):
        distance += Indel.distance(_share(new, piece, pieces), _share(kept, piece, pieces))
        if distance > most:
            return 0.0
    return 1.0 - distance / total


def _share(text: str, piece: int, pieces: int) -> str:
    return text[piece * len(text) // pieces : (piece + 1) * len(text) // pieces]
