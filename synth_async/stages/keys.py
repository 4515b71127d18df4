"""Keys: the name under which an answer is journaled, found again, and never paid for twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import orjson

from synth_async.records import Message, ResponseFormat, Stage

__all__ = ["request_key"]

KEY_BYTES = 16


def request_key(
    stage: Stage,
    messages: Sequence[Message],
    *,
    system_prompt: str,
    model: str,
    temperature: float | None,
    max_tokens: int | None,
    response_format: ResponseFormat,
    sample: int,
    extra_body: Mapping[str, Any],
    topic: str = "",
) -> str:
    """32 hex digits of blake2b-128 over what was asked, as configured.

    The host and the API key are not part of it, nor what is negotiated on the wire: an answer stays valid when it could
    have come from another server. The sample index is: ten samples of one prompt are ten keys.
    """
    asked = [
        stage.value,
        list(messages),
        system_prompt,
        model,
        temperature,
        max_tokens,
        response_format,
        sample,
        extra_body,
        topic,
    ]
    return blake2b(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS), digest_size=KEY_BYTES).hexdigest()
