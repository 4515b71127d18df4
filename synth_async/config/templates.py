"""Syntax of the prompt templates in a config. Imported only for a config that has one: jinja2 costs 60 ms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jinja2 import TemplateSyntaxError, meta, nodes
from jinja2.sandbox import SandboxedEnvironment

from synth_async.config.checks import section
from synth_async.config.source import KeyPath, Mistake
from synth_async.config.wording import suggestion

__all__ = ["VARIABLES", "template_mistakes"]

VARIABLES: dict[str, tuple[str, ...]] = {
    "topics": ("domain", "system_prompt", "context", "count", "known", "angle", "category", "evolve"),
    "generation": (
        *("domain", "system_prompt", "topic", "category", "facets", "facet_lines", "examples", "context", "turns"),
        *("variation", "missing"),
    ),
    "judge": ("domain", "system_prompt", "context", "criteria", "topic"),
}
"""What each section's `prompt` may use, as the docstrings of the models say."""


def template_mistakes(tree: object, text_lines: dict[KeyPath, int]) -> Iterator[Mistake]:
    """Mistakes in `topics.prompt`, `generation.prompt` and `judge.prompt`, each at its line in the file."""
    for stage, known in VARIABLES.items():
        prompt = section(tree, stage).get("prompt")
        if not isinstance(prompt, str):
            continue
        path = (stage, "prompt")
        for mistake_line, message in _mistakes(prompt, known):
            start = text_lines.get(path)
            yield Mistake(path, message, None if start is None else start + mistake_line - 1)


def _mistakes(prompt: str, known: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    if not prompt.strip():
        yield 1, "must not be empty"
        return
    environment = SandboxedEnvironment()
    try:
        environment.compile(prompt, raw=True)  # finds unknown filters, which parsing does not
        tree = environment.parse(prompt)
    except TemplateSyntaxError as error:
        yield error.lineno, f"is not a Jinja2 template: {error.message}"
        return
    except RecursionError:
        yield 1, "is not a Jinja2 template: nested too deeply"
        return
    for name in sorted(meta.find_undeclared_variables(tree) - set(known) - set(environment.globals)):
        hint = suggestion(name, list(known)) or f" (there is: {', '.join(known)})"
        yield _first_use(tree, name), f"unknown variable {name}{hint}"


def _first_use(tree: Any, name: str) -> int:
    return min((node.lineno for node in tree.find_all(nodes.Name) if node.name == name), default=1)
