"""The fence between a judge and what it judges.

What is judged stands as JSON on one line between two fence lines with a random nonce. Text in a JSON string has no line
breaks and no bare quotes, so it can neither close the fence nor add a line outside it. The nonce is drawn for each
request and left out of the key, so that a verdict is found again after a restart.
"""

from __future__ import annotations

import secrets
from dataclasses import replace

import orjson

from synth_async.records import ChatRequest, Message

__all__ = ["fenced", "fenced_anew", "one_json_line"]


def one_json_line(value: object) -> str:
    """JSON on one line by anybody's idea of a line: Unicode's separators, which JSON allows in strings, are escaped."""
    text = orjson.dumps(value).decode()
    for separator in "\u0085\u2028\u2029":
        text = text.replace(separator, f"\\u{ord(separator):04x}")
    return text


def fenced(lead: str, shown: str) -> str:
    """`lead` on a line of its own, then what is judged, between fence lines with a nonce of their own."""
    nonce = secrets.token_hex(8)
    return f"{lead}\n<<<EXAMPLE {nonce}\n{shown}\nEXAMPLE {nonce}>>>"


def fenced_anew(request: ChatRequest) -> ChatRequest:
    """The same question under the same key, in another fence: a judge that repeats itself may answer this one."""
    system, user = request.messages
    lead, _, shown, _ = user["content"].split("\n")
    again: Message = {"role": "user", "content": fenced(lead, shown)}
    return replace(request, messages=(system, again))
