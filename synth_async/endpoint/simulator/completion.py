"""The body of a chat completion, online or as a line of a batch."""

from __future__ import annotations

import time
from typing import Any

import orjson

from synth_async.config.models import SIMULATOR, Simulation
from synth_async.endpoint.simulator.answers import Answer, Draws, answer
from synth_async.endpoint.simulator.chat import ChatBody

__all__ = ["completion_body"]


def completion_body(chat: ChatBody, simulation: Simulation, draws: Draws, prompt_tokens: int) -> tuple[bytes, int]:
    """The body of a chat completion, and its total of tokens."""
    answers = [answer(chat, simulation, draws, choice) for choice in range(chat.n)]
    completion_tokens = sum(one.tokens for one in answers)
    total = prompt_tokens + completion_tokens
    body = {
        "id": f"chatcmpl-{draws.body_hash:016x}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": SIMULATOR,
        "choices": [_choice(index, one) for index, one in enumerate(answers)],
        "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total},
        "system_fingerprint": "fp_simulated",
    }
    return orjson.dumps(body), total


def _choice(index: int, one: Answer) -> dict[str, Any]:
    message = {"role": "assistant", "content": one.content, "refusal": one.refusal}
    return {"index": index, "message": message, "logprobs": None, "finish_reason": one.finish_reason}
