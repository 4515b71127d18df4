"""The rule against turns that hold parts of a prompt instead of a conversation.

A model that loses the thread writes its instructions into its answer: the heading of the topic, a sentence of the
system prompt, the keys of the format, a word about the JSON that follows, the marks of a chat template.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from synth_async.config.models import Config
from synth_async.records import Example, Message, Task
from synth_async.stages.filters.turns import quoted
from synth_async.stages.templates import (
    GENERATION_FORMAT,
    GENERATION_FORMAT_TURNS,
    GENERATION_PROMPT,
    REPLY_PROMPT,
    REVISION_PROMPT,
)
from synth_async.stages.words import gram_set, is_mostly_unspaced, tokens

__all__ = ["build_leakage", "prompt_texts"]

_QUOTED_WORDS = 12
_QUOTED_LETTERS = 30
"""So many words (letters without spaces) in a row are a quotation; shorter phrases may be shared."""

_WHOLE_WORDS = 8
"""A prompt that is shorter than a quotation counts when it stands there whole, from so many words on."""

_GRAM_WORDS = 4
"""Length of the grams that tell whether to look closer; the rule against repetition has them anyway."""

_TEMPLATE_PARTS = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
# Keys of our format, tags of our prompt, marks of chat templates.
_MARKER = re.compile(
    r"\b(?:user_message|assistant_response)\b|</?instructions>|<\|(?:im_start|im_end|eot_id|endoftext)\|>|\[/?INST\]"
)
_ANNOUNCED = re.compile(
    r"\W*(?:(?:sure|certainly|of course|okay|ok|absolutely|great)\b[,.! ]*)?(?:here(?:['’]s| is| are)|below (?:is|are))"
    r"(?: (?:the|a|an|your|one|my))?(?: \w+){0,2}? "
    r"(?:json|(?:training|example|sample|realistic|simulated|synthetic|generated)"
    r"(?: \w+){0,3}? (?:conversation|dialogue|exchange)s?)\b",
    re.IGNORECASE,
)
_LONGEST_HEADING = 40
_MARKUP = " \t*_#>-"


def prompt_texts(config: Config) -> tuple[str, ...]:
    """The texts of ours and of the user's that a model is given and may not quote; a context document it may."""
    template = config.generation.prompt or GENERATION_PROMPT
    return (
        config.system_prompt,
        *_TEMPLATE_PARTS.split(template),
        *_TEMPLATE_PARTS.split(GENERATION_FORMAT),
        *_TEMPLATE_PARTS.split(GENERATION_FORMAT_TURNS),
        *(_TEMPLATE_PARTS.split(REVISION_PROMPT) if config.revise is not None else ()),
        *(_TEMPLATE_PARTS.split(REPLY_PROMPT) if config.mode == "preference" else ()),
    )


def build_leakage(prompts: Iterable[str]) -> Callable[[Example], str | None]:
    """The rule against quoting `prompts`, and against what is left over from a request."""
    quotations: set[tuple[str, ...]] = set()
    anchors: set[tuple[str, ...]] = set()
    for words, length in _quotable(prompts):
        quotations.update(words[start : start + length] for start in range(len(words) - length + 1))
        # However a quotation lies, one of the grams that begin at these distances is in it.
        anchors.update(words[start : start + _GRAM_WORDS] for start in range(0, len(words), length - _GRAM_WORDS + 1))
    return partial(_breach, quotations=frozenset(quotations), anchors=frozenset(anchors))


def _quotable(prompts: Iterable[str]) -> Iterator[tuple[tuple[str, ...], int]]:
    """The words of each prompt that can be quoted, with how many in a row are a quotation."""
    for prompt in prompts:
        words = tokens(prompt)
        length = _QUOTED_LETTERS if is_mostly_unspaced(prompt) else _QUOTED_WORDS
        if len(words) >= _WHOLE_WORDS:
            yield words, min(length, len(words))


def _breach(
    example: Example, *, quotations: frozenset[tuple[str, ...]], anchors: frozenset[tuple[str, ...]]
) -> str | None:
    for message in example.messages:
        text = message["content"]
        found = (
            _marker(text)
            or (_heading(text, example.task) if ":" in text else None)
            or _announcement(message, example)
            or _quotation(text, quotations, anchors)
        )
        if found:
            return f"{message['role']}: {found}"
    return None


def _marker(text: str) -> str | None:
    if "_" not in text and "[" not in text and "<" not in text:
        return None
    found = _MARKER.search(text)
    return quoted(found[0]) if found else None


def _heading(text: str, task: Task) -> str | None:
    """A line such as `Topic: late delivery` with what this task was about, or a turn that begins with `Topic:`."""
    for number, line in enumerate(text.split("\n")):
        name, colon, value = line[: 4 * _LONGEST_HEADING].partition(":")
        if not colon or len(name) > _LONGEST_HEADING:
            continue
        name, value = name.strip(_MARKUP).lower(), value.strip(_MARKUP).lower()
        if number == 0 and name == "topic":
            return quoted(line)
        told = (
            task.topic.text if name == "topic" else task.topic.category if name == "category" else task.facets.get(name)
        )
        if told and value == told.lower() and (number == 0 or " " in value):
            return quoted(line)
    return None


def _announcement(message: Message, example: Example) -> str | None:
    """A turn that opens by announcing the answer's format; a customer who asked for JSON may be given it."""
    found = _ANNOUNCED.match(message["content"])
    if found is None:
        return None
    if message["role"] == "assistant" and found[0].lower().endswith("json") and "json" in example.user.lower():
        return None
    return quoted(found[0])


def _quotation(text: str, quotations: frozenset[tuple[str, ...]], anchors: frozenset[tuple[str, ...]]) -> str | None:
    if anchors.isdisjoint(gram_set(text, _GRAM_WORDS)):
        return None
    words = tokens(text)
    for length in {len(quotation) for quotation in quotations}:
        for start in range(len(words) - length + 1):
            if words[start : start + length] in quotations:
                return f"quotes a prompt: {quoted(' '.join(words[start : start + length]))}"
    return None
