"""Mistakes in plain words: what pydantic finds, said without its jargon, and unknown keys with a suggestion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from synth_async.config.shape import is_number, section_at
from synth_async.config.source import KeyPath, Mistake, looks_secret

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

__all__ = ["bool_mistakes", "shown", "suggestion", "validation_mistakes"]

_QUIET_SECTIONS = frozenset({"headers", "query", "api_key", "api_key_env"})
"""Values under these keys are never shown."""

_FORMS = {
    r"^[a-z][a-z0-9_]*$": "must be lower-case letters, digits and '_', starting with a letter",
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$": "must be letters, digits, '.', '_' or '-' (at most 100, no spaces)",
}

_WORDS: Mapping[str, str] = {
    "missing": "is missing",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be text",
    "path_type": "must be a path",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "model_type": "must be a section with keys",
    "model_attributes_type": "must be a section with keys",
    "dict_type": "must be a section with keys",
    "tuple_type": "must be a list",
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be one of {expected}",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
}
_WITHOUT_VALUE = frozenset({"missing", "too_short", "string_too_short"})


def shown(value: object, path: KeyPath = ()) -> str:
    """The value as a message may show it: short, and nothing that may be a credential."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a section with keys"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str) and (len(value) > 40 or looks_secret(value)):
        return f"a text of {len(value)} characters"
    return "a text" if _QUIET_SECTIONS.intersection(path) else repr(value)


def suggestion(word: str, known: list[str]) -> str:
    """` (did you mean temperature?)`, or nothing where no known word is near."""
    from difflib import get_close_matches  # noqa: PLC0415 - 10 ms that only a mistake shall cost

    near = get_close_matches(word, known, n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near else ""


def unknown_key(path: KeyPath) -> Mistake:
    """The mistake of a key that the section does not have."""
    section, key = section_at(path[:-1]), str(path[-1])
    if key in ("api_key", "apikey", "key", "token") and "endpoints" in path:
        advice = "a key does not belong into a config: export it as a variable, and name that with api_key_env"
        return Mistake(path, advice)
    return Mistake(path, "unknown key" + suggestion(key, list(section.model_fields) if section is not None else []))


def place(loc: tuple[str | int, ...], tree: object) -> KeyPath:
    """The place in the file that pydantic's `loc` means: without the names of union members, keys for positions."""
    path: list[str | int] = []
    for part in loc:
        if isinstance(tree, dict):
            # A position in a mapping: the rubric with its names as keys, which the model reads as a list.
            key = list(tree)[part] if isinstance(part, int) and part < len(tree) else part
            if key in tree:
                path.append(key)
                tree = tree[key]
        elif isinstance(tree, list) and isinstance(part, int) and part < len(tree):
            path.append(part)
            tree = tree[part]
    return tuple(path)


def validation_mistakes(error: ValidationError, tree: dict[str, Any]) -> list[Mistake]:
    """Pydantic's findings, each at its place in the file."""
    details = error.errors(include_url=False)
    return [_in_words(detail, tree) for detail in details if not _is_left_to_checks(detail) and not _is_echo(detail)]


def _is_left_to_checks(detail: ErrorDetails) -> bool:
    """Values of facets have short forms that pydantic's own words would not fit."""
    where = detail["loc"]
    return where[:1] == ("facets",) and (len(where) < 3 or "values" in where[2:])


def _is_echo(detail: ErrorDetails) -> bool:
    """A list whose entries all have mistakes is also reported as too short."""
    return detail["type"] == "too_short" and bool(detail["input"])


def _in_words(detail: ErrorDetails, tree: dict[str, Any]) -> Mistake:
    path, kind, context = place(detail["loc"], tree), detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown_key(path)
    if kind == "value_error":
        return _of_validator(path, str(context["error"]))
    if kind == "missing":
        return Mistake((*path, detail["loc"][-1]), "is missing")
    if kind == "literal_error":
        context = {"expected": context["expected"].replace("'", "").replace(" or ", ", ")}
    if kind == "string_pattern_mismatch":
        words = _FORMS.get(context["pattern"], "does not have the form that is wanted")
    else:
        words = _WORDS.get(kind, "cannot be used").format(**context)
    if kind in _WITHOUT_VALUE:
        return Mistake(path, words)
    value = detail["input"]
    quotes = ": put it in quotes" if kind == "string_type" and isinstance(value, bool | int | float) else ""
    return Mistake(path, f"{words}, got {shown(value, path)}{quotes}")


def _of_validator(path: KeyPath, message: str) -> Mistake:
    """A validator of the whole config opens its message with the key that it means."""
    key, colon, rest = message.partition(": ")
    if not path and colon and " " not in key:
        return Mistake(tuple(key.split(".")), rest)
    return Mistake(path, message)


def bool_mistakes(tree: object) -> list[Mistake]:
    """`true` and `false` where a number belongs, which pydantic would take for 1 and 0."""
    return [
        Mistake(path, f"must be a number, got {shown(value)}")
        for path, value in _leaves(tree, ())
        if isinstance(value, bool) and is_number(path) and not (path[0] == "filters" and value is False)
    ]


def _leaves(tree: object, path: KeyPath) -> Iterator[tuple[KeyPath, object]]:
    if not isinstance(tree, dict | list):
        yield path, tree
        return
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield from _leaves(value, (*path, key))
