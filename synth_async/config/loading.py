"""From a config file to a checked `Config`, or to all of its mistakes at once, before anything is sent."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from synth_async.config.checks import section, tree_mistakes
from synth_async.config.inputs import InputMistake, read_personas, read_rows, read_text, read_topics, read_words
from synth_async.config.models import Config
from synth_async.config.overrides import apply_overrides
from synth_async.config.prices import listed_prices
from synth_async.config.source import KeyPath, Mistake, Source, dotted, parse_yaml
from synth_async.config.wording import bool_mistakes, place, shown, validation_mistakes
from synth_async.errors import ConfigError, ConfigProblem
from synth_async.records import Topic

__all__ = ["LoadedConfig", "config_of_text", "config_of_tree", "load_config", "tree_of"]

_PATHS = (("context", "file"), ("topics", "file"), ("personas", "file"), ("examples", "file"), ("output", "dir"))
"""The keys that hold a path, relative to the folder of the config."""


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A config without mistakes. Its paths are absolute; `text` is the file as read, before any override.

    `context` is the text of `context.file`; `topics` are those of `topics.file`, in its order, repetitions included;
    `personas` those of `personas.file`; `examples` the rows of `examples.file` with their line numbers, of any shape;
    `price_sources` says of endpoints without a price of their own where the one that they have is from.
    """

    config: Config
    path: Path
    text: str
    context: str | None = None
    topics: tuple[Topic, ...] = ()
    personas: tuple[str, ...] = ()
    examples: tuple[tuple[int, dict[str, Any]], ...] = ()
    price_sources: Mapping[str, str] = field(default_factory=dict)


def load_config(path: Path, overrides: Sequence[str] = ()) -> LoadedConfig:
    """The checked config of a file, `overrides` (`generation.temperature=0.7`) applied.

    Raises `ConfigError` with every mistake: YAML, keys, types, bounds, templates, and the files that the config names.
    """
    file = str(path)
    try:
        text = read_text(path)
    except InputMistake as error:
        raise ConfigError([ConfigProblem(file, "", error.message)]) from None
    return config_of_text(text, path, overrides)


def config_of_text(text: str, path: Path, overrides: Sequence[str] = ()) -> LoadedConfig:
    """The checked config in a text; mistakes are told as those of `path`, and its paths are relative to that."""
    file = str(path)
    source = parse_yaml(text)
    if not isinstance(source.tree, dict):
        if not source.mistakes:
            wrong = "is empty" if source.tree is None else f"must be a mapping of keys, got {shown(source.tree)}"
            source.mistakes.append(Mistake((), wrong))
        raise ConfigError([_problem(file, mistake, source, set()) for mistake in source.mistakes])
    origins, override_mistakes = apply_overrides(source.tree, overrides)
    return _checked(path, text, source, origins, override_mistakes)


def config_of_tree(tree: Mapping[str, Any], path: Path) -> LoadedConfig:
    """The checked config in plain values, as a YAML file would give them; mistakes and paths as in `config_of_text`."""
    return _checked(path, "", Source(_plain(tree)), set(), [])


def tree_of(config: Config) -> dict[str, Any]:
    """What a config says, in plain values: `config_of_tree` gives the same config again."""
    return config.model_dump(mode="json", exclude_unset=True)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(child) for child in value]
    return str(value) if isinstance(value, Path) else value


def _checked(
    path: Path, text: str, source: Source, origins: set[KeyPath], override_mistakes: list[Mistake]
) -> LoadedConfig:
    file, folder, tree = str(path), path.absolute().parent, source.tree
    config, model_mistakes = _validated(tree)
    mistakes, no_bools = [*source.mistakes, *override_mistakes, *tree_mistakes(tree)], bool_mistakes(tree)
    sources: dict[str, str] = {}
    if not (mistakes or no_bools) and all(mistake.path[:1] == ("budget",) for mistake in model_mistakes):
        prices, sources = listed_prices(tree["endpoints"], os.environ)
        if prices:
            config, model_mistakes = _validated(_with_prices(tree, prices))
    mistakes += [*model_mistakes, *no_bools]
    if section(tree, "filters").get("custom") or section(tree, "filters").get("language"):
        from synth_async.config.extensions import extension_mistakes  # noqa: PLC0415 - runs the user's code

        mistakes.extend(extension_mistakes(section(tree, "filters"), folder))
    if any(section(tree, stage).get("prompt") is not None for stage in ("topics", "generation", "judge")):
        from synth_async.config.templates import template_mistakes  # noqa: PLC0415 - jinja2 costs 60 ms

        mistakes.extend(template_mistakes(tree, source.text_lines))
    inputs = _Inputs(folder, tree)
    mistakes.extend(inputs.mistakes)
    problems = [_problem(file, mistake, source, origins) for mistake in _once(mistakes)]
    problems.extend(inputs.line_problems)
    if problems or config is None:
        raise ConfigError(sorted(problems, key=lambda problem: (problem.file != file, problem.line or 0)))
    return LoadedConfig(
        _with_words(_with_absolute_paths(config, folder), folder, inputs.words),
        path,
        text,
        inputs.context,
        topics=inputs.topics,
        personas=inputs.personas,
        examples=inputs.examples,
        price_sources=sources,
    )


def _with_prices(tree: dict[str, Any], prices: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    named = {name: {**tree["endpoints"][name], "price": price} for name, price in prices.items()}
    return {**tree, "endpoints": {**tree["endpoints"], **named}}


def _validated(tree: dict[str, Any]) -> tuple[Config | None, list[Mistake]]:
    try:
        return Config.model_validate(tree), []
    except ValidationError as error:
        found = validation_mistakes(error, tree)
        if not found and not list(tree_mistakes(tree)):
            found = [
                Mistake(place(detail["loc"], tree), "cannot be used") for detail in error.errors(include_url=False)
            ]
        return None, found


class _Inputs:
    """The files that the tree names, read; and what is wrong with them."""

    def __init__(self, folder: Path, tree: dict[str, Any]) -> None:
        self.mistakes: list[Mistake] = []
        self.line_problems: list[ConfigProblem] = []
        self.context = self._text(folder, tree, ("context", "file"))
        self.topics: tuple[Topic, ...] = self._lines(folder, tree, "topics", read_topics)
        self.personas: tuple[str, ...] = self._lines(folder, tree, "personas", read_personas)
        self.examples: tuple[tuple[int, dict[str, Any]], ...] = self._lines(
            folder, tree, "examples", lambda _, text: read_rows(text)
        )
        self.words = read_words(self._text(folder, tree, ("filters", "profanity", "file")) or "")

    def _text(self, folder: Path, tree: dict[str, Any], path: tuple[str, ...]) -> str | None:
        name = section(tree, *path[:-1]).get(path[-1])
        if not isinstance(name, str):
            return None
        try:
            text = read_text(folder / name)
        except InputMistake as error:
            self.mistakes.append(Mistake(path, error.message))
            return None
        if not text.strip():
            self.mistakes.append(Mistake(path, f"{folder / name} is empty"))
            return None
        return text

    def _lines(
        self,
        folder: Path,
        tree: dict[str, Any],
        name: str,
        read: Callable[[Path, str], tuple[tuple[Any, ...], list[InputMistake]]],
    ) -> tuple[Any, ...]:
        """What the lines of a section's file hold; a malformed one is a mistake of that file."""
        text = self._text(folder, tree, (name, "file"))
        if text is None:
            return ()
        file = folder / tree[name]["file"]
        found, mistakes = read(file, text)
        self.line_problems.extend(ConfigProblem(str(file), "", each.message, each.line) for each in mistakes)
        return found


def _once(mistakes: list[Mistake]) -> Iterator[Mistake]:
    """One mistake a place where several rules found fault with it: the first, and never twice the same."""
    seen: set[KeyPath] = set()
    for mistake in mistakes:
        if not mistake.path or mistake.path not in seen or mistake.path[-1] == "prompt":
            yield mistake
        seen.add(mistake.path)


def _problem(file: str, mistake: Mistake, source: Source, origins: set[KeyPath]) -> ConfigProblem:
    path = mistake.path
    if any(path[: len(origin)] == origin for origin in origins):
        return ConfigProblem(file, f"--set {dotted(path)}", mistake.message)
    line = mistake.line
    for length in range(len(path), 0, -1):
        line = line or source.lines.get(path[:length])
    return ConfigProblem(file, dotted(path), mistake.message, line)


def _with_absolute_paths(config: Config, folder: Path) -> Config:
    changes: dict[str, Any] = {}
    for name, key in _PATHS:
        part = getattr(config, name)
        value: Path | None = getattr(part, key) if part is not None else None
        if value is not None:
            changes[name] = part.model_copy(update={key: folder / value})
    return config.model_copy(update=changes)


def _with_words(config: Config, folder: Path, words: tuple[str, ...]) -> Config:
    """The config with the words of `profanity.file` beside its own, so that a run needs no file for them."""
    profanity = config.filters.profanity
    if profanity is None or profanity.file is None:
        return config
    every = tuple(dict.fromkeys((*profanity.words, *words)))  # a config that was loaded before holds them already
    whole = profanity.model_copy(update={"file": folder / profanity.file, "words": every})
    return config.model_copy(update={"filters": config.filters.model_copy(update={"profanity": whole})})
