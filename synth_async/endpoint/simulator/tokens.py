"""How the embedded endpoint counts tokens.

Words and numbers count one, and one more for every nine characters; runs of punctuation one, and one more for every
four; every character outside ASCII one. That is near what byte-pair encoders give for English, and unlike a client's
estimate by characters, so that an estimator is put to the test. Passes over bytes and no regex: counting is on the path
of every request, and this takes a quarter of the time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable


def _classes() -> bytes:
    table = bytearray(b"." * 256)
    for byte in range(256):
        character = chr(byte)
        if byte >= 0xC0:
            table[byte] = ord("u")
        elif character.isascii() and character.isalnum():
            table[byte] = ord("a")
        elif character.isascii() and character.isspace():
            table[byte] = ord(" ")
    return bytes(table)


_CLASS_OF = _classes()
_CONTINUATIONS = bytes(range(0x80, 0xC0))  # the further bytes of a character in UTF-8
_STARTS = (b" a", b".a", b"ua", b" .", b"a.", b"u.")
_LONG = (b"a" * 9, b"." * 4)

# OpenAI's cookbook: every message carries about three tokens of framing, and the reply is primed with three more.
_PER_MESSAGE = 3
_PER_REPLY = 3


def count_tokens(text: str) -> int:
    """Tokens in a text."""
    count = (b" " + text.encode("utf-8", "replace").translate(_CLASS_OF, _CONTINUATIONS)).count
    return sum(map(count, _STARTS)) + sum(map(count, _LONG)) + count(b"u")


def count_prompt_tokens(texts: Iterable[str]) -> int:
    """Tokens of a prompt made of these message texts, framing included."""
    return _PER_REPLY + sum(_PER_MESSAGE + count_tokens(text) for text in texts)


def cut_to_tokens(text: str, limit: int) -> str:
    """The longest beginning of `text` that holds at most `limit` tokens."""
    length = bisect_right(range(len(text) + 1), limit, key=lambda end: count_tokens(text[:end])) - 1
    return text[:length]
