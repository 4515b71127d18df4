"""Counting words, in scripts with and without spaces.

In scripts that write without spaces (Chinese, Japanese, Thai, Lao, Khmer, Myanmar...) each letter counts as one word;
combining marks and punctuation do not. Elsewhere a word is what stands between spaces and holds a letter or a digit, so
bullets, dashes and emoji are no words. Mixed text is counted part by part: "iPhone 手机" is three.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import groupby

__all__ = ["count_words", "gram_set", "is_mostly_unspaced", "tokens"]

# Han with extensions, kana, bopomofo; the marks for iteration and length count as letters.
_EAST_ASIAN = (
    "\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9d\U0001b000-\U0001b16f\U00020000-\U000323af"
)
# Thai, Lao, Tibetan; Myanmar; Khmer; Tai Le, New Tai Lue; Tai Tham; Balinese; Javanese, Myanmar extensions; Tai Viet.
_SOUTH_EAST_ASIAN = (
    (0x0E00, 0x0FFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x1950, 0x19DF),
    (0x1A20, 0x1AAF),
    (0x1B00, 0x1B7F),
    (0xA980, 0xA9FF),
    (0xAA60, 0xAADF),
)


# Combining marks of all alphabets that have them, and the joiners: they stand inside a word and do not end it.
_MARKED_BLOCKS = (0x0300, 0x1DFF)
_JOINERS = "\u200c\u200d"


def _ranges(first: int, last: int, categories: set[str]) -> str:
    """The code points of some categories in a block, as ranges of a character class."""
    points = [point for point in range(first, last + 1) if unicodedata.category(chr(point)) in categories]
    runs = [[point for _, point in run] for _, run in groupby(enumerate(points), lambda pair: pair[1] - pair[0])]
    return "".join(f"{chr(run[0])}-{chr(run[-1])}" for run in runs)


# Several rules ask about the same few turns one after the other; the texts of a handful of examples are kept, no more.
_TURNS_KEPT = 16

_UNSPACED_CLASS = _EAST_ASIAN + "".join(_ranges(*block, {"Lo", "Lm"}) for block in _SOUTH_EAST_ASIAN)
_MARKS = _ranges(*_MARKED_BLOCKS, {"Mn", "Mc"}) + _JOINERS
_UNSPACED = re.compile(f"[{_UNSPACED_CLASS}]")
_WORD = re.compile(r"[^\W_]\S*")
_MIXED_WORD = re.compile(rf"[{_UNSPACED_CLASS}]|[^\W_{_UNSPACED_CLASS}][^\s{_UNSPACED_CLASS}]*")
_TOKEN = re.compile(rf"\w[\w{_MARKS}]*")
_MIXED_TOKEN = re.compile(rf"[{_UNSPACED_CLASS}]|[^\W{_UNSPACED_CLASS}](?:[^\W{_UNSPACED_CLASS}]|[{_MARKS}])*")

# For plain ASCII, tables and a split give what the expressions give, at a quarter of the time. Most text is plain but
# for the typography of its punctuation, which is worth the replacing.
_TYPOGRAPHY = tuple(zip("\u2019\u2018\u201c\u201d\u2013\u2014\u2026\u2022\u00a0", "''\"\"--.* ", strict=True))
_NO_WORD = "".join(mark for mark in map(chr, range(128)) if not mark.isalnum() and not mark.isspace())
_NO_PUNCTUATION = str.maketrans("", "", _NO_WORD)
_SPACED_PUNCTUATION = str.maketrans({mark: None if mark == "'" else " " for mark in _NO_WORD})


def _plain(text: str) -> str:
    if not text.isascii():
        for typographic, plain in _TYPOGRAPHY:
            text = text.replace(typographic, plain)
    return text


@lru_cache(maxsize=_TURNS_KEPT)
def count_words(text: str) -> int:
    """Words in a text, letters where the script has no spaces. More white space between words changes nothing."""
    text = _plain(text)
    if text.isascii():
        return len(text.translate(_NO_PUNCTUATION).split())
    pattern = _MIXED_WORD if _UNSPACED.search(text) else _WORD
    return len(pattern.findall(text))


@lru_cache(maxsize=_TURNS_KEPT)
def tokens(text: str) -> tuple[str, ...]:
    """Words in lower case without punctuation, single letters where the script has no spaces: what is compared."""
    text = _plain(text).lower()
    if text.isascii():
        return tuple(text.translate(_SPACED_PUNCTUATION).split())
    pattern = _MIXED_TOKEN if _UNSPACED.search(text) else _TOKEN
    return tuple(pattern.findall(text.replace("'", "").replace("_", " ")))


@lru_cache(maxsize=_TURNS_KEPT)
def gram_set(text: str, size: int) -> frozenset[tuple[str, ...]]:
    """The runs of `size` tokens that occur in a text."""
    words = tokens(text)
    return frozenset(zip(*(words[offset:] for offset in range(size)), strict=False))


def is_mostly_unspaced(text: str) -> bool:
    """Whether most of the words of a text are letters of a script without spaces."""
    return not text.isascii() and 2 * len(_UNSPACED.findall(text)) > count_words(text)
