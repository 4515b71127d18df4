"""Texts for `dedup.py`: real passages, real-like texts without end, a grammar of look-alikes, and edited copies.

Real passages are the docstrings of the standard library and of the packages installed beside this project, cut at
paragraphs; man pages in Chinese, Japanese and Korean where the system has them. So they differ between environments,
and the benchmark prints how many it found. Everything else is drawn from a seeded generator.
"""

from __future__ import annotations

import gzip
import random
import re
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

__all__ = ["Chain", "cjk_passages", "grammar_text", "heavily_edited", "lightly_edited", "mixed", "real_passages"]

MOST_CHARACTERS = 12_000_000
_DOCSTRING = re.compile(r':\n\s+r?"""((?:[^"]|"(?!""))*+)"""')
_MARKUP = re.compile(r"^[.'].*$|\\f[A-Z(]|\\", re.MULTILINE)
_MAN = Path("/usr/share/man")
_CJK = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3]")

NAMES = ["Amara", "Bruno", "Chen", "Dana", "Emil", "Farah", "Goran", "Hana", "Ines", "Jonas", "Keiko", "Luis", "Mira"]
THINGS = ["lamp", "router", "invoice", "parcel", "chair", "ticket", "phone", "contract", "kettle", "bicycle", "jacket"]
FLAWS = ["arrived broken", "was charged twice", "never came", "stopped working", "has the wrong colour", "lost a part"]
PLACES = ["Lyon", "Porto", "Graz", "Turin", "Malmo", "Gent", "Brno", "Cork", "Split", "Varna", "Leeds", "Bergen"]
WISHES = ["wants a refund", "asks for a new one", "needs a written answer", "would like to cancel", "wants to know why"]
ADVICE = ["check the order page", "send a photo", "keep the receipt", "wait two days", "call us", "reset the device"]
TEMPERS = ["politely", "in a hurry", "for the third time", "with much detail", "without an order number", "at night"]
SENTENCES: tuple[Callable[[random.Random], str], ...] = (
    lambda r: f"The {r.choice(THINGS)} that {r.choice(NAMES)} ordered on day {r.randrange(365)} {r.choice(FLAWS)}.",
    lambda r: f"{r.choice(NAMES)} from {r.choice(PLACES)} {r.choice(WISHES)} and writes {r.choice(TEMPERS)}.",
    lambda r: f"First {r.choice(ADVICE)}, then {r.choice(ADVICE)}; it takes {r.randrange(2, 90)} minutes.",
    lambda r: f"Our office in {r.choice(PLACES)} can exchange the {r.choice(THINGS)} for {r.randrange(5, 900)} euros.",
    lambda r: f"If the {r.choice(THINGS)} {r.choice(FLAWS)} again, {r.choice(ADVICE)} and tell {r.choice(NAMES)}.",
    lambda r: f"Reference {r.randrange(10**6):06d} covers the {r.choice(THINGS)} and the {r.choice(THINGS)} alike.",
    lambda r: f"Nobody in {r.choice(PLACES)} knew that a {r.choice(THINGS)} could be returned {r.choice(TEMPERS)}.",
)


def real_passages(most_characters: int = MOST_CHARACTERS) -> list[str]:
    """Passages of 300 to 3,000 characters from docstrings, in the order of their files, each text once."""
    found: dict[str, None] = {}
    left = most_characters
    for folder in (sysconfig.get_paths()["stdlib"], sysconfig.get_paths()["purelib"]):
        for path in sorted(Path(folder).rglob("*.py")):
            if "site-packages" in path.relative_to(folder).parts or "test" in str(path.relative_to(folder)):
                continue
            for docstring in _DOCSTRING.findall(path.read_text(encoding="utf-8", errors="replace")):
                for passage in _cut(docstring, 300, 3000):
                    found.setdefault(passage)
                    left -= len(passage)
            if left < (most_characters // 2 if folder == sysconfig.get_paths()["stdlib"] else 0):
                break
    return list(found)


def cjk_passages() -> list[str]:
    """Passages of 150 to 1,000 characters from man pages in Chinese, Japanese and Korean, if there are any."""
    found: dict[str, None] = {}
    for path in sorted(path for language in ("ja", "ko", "zh_CN", "zh_TW") for path in _MAN.glob(f"{language}/*/*.gz")):
        text = _MARKUP.sub("", gzip.decompress(path.read_bytes()).decode("utf-8", "replace"))
        for passage in _cut(re.sub(r"\n(?!\n)", " ", text).replace(" ", "\n\n"), 150, 1000):
            if 2 * len(_CJK.findall(passage)) > len(passage):
                found.setdefault(passage)
    return list(found)


def _cut(text: str, least: int, most: int) -> Iterator[str]:
    """Whole paragraphs up to `most` characters together; what is shorter than `least` is left out."""
    piece = ""
    for paragraph in [*text.split("\n\n"), ""]:
        joined = " ".join([piece, *paragraph.split()]).strip()
        if paragraph and len(joined) <= most and (len(piece) < least or random.Random(joined).random() < 0.7):
            piece = joined
            continue
        if least <= len(piece) <= most:
            yield piece
        piece = " ".join(paragraph.split())


class Chain:
    """Texts without end in which each word follows the two before it as it does somewhere in the given ones."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._words = [word for text in texts for word in text.split()]
        self._next: dict[tuple[str, str], list[int]] = {}
        for place, pair in enumerate(zip(self._words[:-2], self._words[1:-1], strict=True)):
            self._next.setdefault(pair, []).append(place + 2)

    def text(self, rng: random.Random, words: int = 250) -> str:
        """A text of so many words; one word in a hundred begins somewhere else."""
        written = self._begin(rng)
        while len(written) < words:
            places = self._next.get((written[-2], written[-1]))
            if places is None or rng.random() < 0.01:
                written += self._begin(rng)
            else:
                written.append(self._words[places[int(rng.random() * len(places))]])
        return " ".join(written[:words])

    def _begin(self, rng: random.Random) -> list[str]:
        place = rng.randrange(len(self._words) - 2)
        return self._words[place : place + 2]


def grammar_text(rng: random.Random) -> str:
    """100 to 250 words of seven sentences: unrelated texts are unusually alike, the worst case for a look-up."""
    words, sentences = rng.randrange(100, 240), list[str]()
    while sum(sentence.count(" ") + 1 for sentence in sentences) < words:
        sentences.append(rng.choice(SENTENCES)(rng))
    return " ".join(sentences)


def lightly_edited(rng: random.Random, text: str) -> str:
    """A copy with one or two plausible edits: words swapped, other digits or names, cut off, other case, a greeting."""
    for edit in rng.sample(_EDITS, rng.choice([1, 1, 2])):
        text = edit(rng, text)
    return text


def _swapped(rng: random.Random, text: str) -> str:
    words, parts = _units(text)
    for _ in range(max(1, int(len(words) * rng.choice([0.02, 0.05])))):
        place = rng.randrange(max(1, len(words) - 1))
        words[place : place + 2] = words[place : place + 2][::-1]
    return parts.join(words)


def _renumbered(rng: random.Random, text: str) -> str:
    return re.sub(r"[0-9]", lambda _: rng.choice("0123456789"), text)


def _renamed(rng: random.Random, text: str) -> str:
    words, parts = _units(text)
    for name in rng.sample(sorted(set(words)), min(3, len(set(words)))):
        other = rng.choice(NAMES) if parts else rng.choice(words)
        words = [other if word == name and rng.random() < 0.8 else word for word in words]
    return parts.join(words)


def _truncated(rng: random.Random, text: str) -> str:
    return text[: int(len(text) * rng.uniform(0.8, 0.98))]


def _cased(rng: random.Random, text: str) -> str:
    return rng.choice([text.upper(), text.lower(), text.title()])


def _greeted(rng: random.Random, text: str) -> str:
    return f"Hello {rng.choice(NAMES)}, thank you for writing to us. {text}"


_EDITS = (_swapped, _renumbered, _renamed, _truncated, _cased, _greeted)


def heavily_edited(rng: random.Random, text: str) -> str:
    """A copy with 2 to 40 % of its words replaced by others of the same text, moved, or left out."""
    words, parts = _units(text)
    share = rng.uniform(0.02, 0.4)
    written: list[str] = []
    for word in words:
        roll = rng.random()
        if roll > share:
            written.append(word)
        elif roll < share / 2:
            written.append(rng.choice(words))
        elif roll < share * 3 / 4:
            written.insert(rng.randrange(max(0, len(written) - 8), len(written) + 1), word)
    return parts.join(written)


def _units(text: str) -> tuple[list[str], str]:
    """Words and the space between them; characters and nothing for a text that is mostly Chinese or Japanese."""
    return (list(text), "") if 3 * len(_CJK.findall(text)) > len(text) else (text.split(), " ")


def mixed(texts: Sequence[str], rng: random.Random, edit: Callable[[random.Random, str], str]) -> list[str]:
    """The texts, and an edited copy of a third of them somewhere behind the original."""
    placed = [(number + 0.0, text) for number, text in enumerate(texts)]
    copied = rng.sample(range(len(texts)), len(texts) // 3)
    placed += [(rng.uniform(number, len(texts)), edit(rng, texts[number])) for number in copied]
    return [text for _, text in sorted(placed)]
