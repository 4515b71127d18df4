"""YAML text as a tree of plain values, with the line of every key.

What differs from `yaml.safe_load`, because a config is not a program:

* keys are the text as written (`1:` and `yes:` are "1" and "yes"), a key given twice is a mistake
* dates and `1:30` stay text, `1e3` is a number; values are null, booleans, 64-bit integers, finite numbers and text
* nesting and aliases are bounded: libyaml overflows the C stack on deep nesting, and aliases can multiply without end
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    _BaseLoader = yaml.SafeLoader
else:
    _BaseLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

__all__ = ["KeyPath", "Mistake", "Source", "dotted", "looks_secret", "parse_yaml"]

KeyPath = tuple[str | int, ...]

MAX_DEPTH = 60
MAX_NODES = 50_000
_TAG = "tag:yaml.org,2002:"
_KEY_WITH_DASH = re.compile(r"(?i)^(sk|pk|rk|gsk|xai|nvapi|key|token|bearer)[- ]\S{6,}")
_KEY_WITH_UNDERSCORE = re.compile(r"(?i)^(sk|pk|rk|gsk|hf|r8|ghp|xai)_\S{12,}|^AIza\S{12,}")


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake at a place in the tree. `line` goes before the line of the key."""

    path: KeyPath
    message: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """What a text holds. `lines`: line of each key; `text_lines`: first line of each block text, for templates."""

    tree: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    text_lines: dict[KeyPath, int] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)


def looks_secret(text: str) -> bool:
    """Whether a text may be a credential: a known prefix with a tail, or a long run of mixed letters and digits.

    Names of variables (`HF_TOKEN_2`, upper case) are none.
    """
    text = text.strip()
    if _KEY_WITH_DASH.match(text):
        return True
    mixed = any(c.isdigit() for c in text) and any(c.islower() for c in text)
    long_run = len(text) >= 24 and re.fullmatch(r"[A-Za-z0-9_.~+/=-]+", text) is not None
    return mixed and (long_run or _KEY_WITH_UNDERSCORE.match(text) is not None)


def dotted(path: KeyPath) -> str:
    """The path as a person writes it (`judge.criteria.0.weight`); what may be a credential is left out."""
    return ".".join("***" if isinstance(part, str) and looks_secret(part) else str(part) for part in path)


class _Loader(_BaseLoader):
    """libyaml's parser with our own idea of what a plain scalar may be."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - as in its base


def _resolve_plain(kind: str, pattern: str, first: str) -> None:
    _Loader.add_implicit_resolver(_TAG + kind, re.compile(rf"^(?:{pattern})$"), list(first))


_resolve_plain("bool", "yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", "yYnNtTfFoO")
_resolve_plain("int", r"[-+]?(0|[1-9][0-9_]*)|0x[0-9a-fA-F]+", "-+0123456789")
_resolve_plain("float", r"[-+]?([0-9][0-9_]*\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?", "-+.0123456789")
_resolve_plain("null", "~|null|Null|NULL|", "~nN\0")
_Loader.add_implicit_resolver(_TAG + "null", re.compile("^$"), [""])
_resolve_plain("merge", "<<", "<")


def parse_yaml(text: str) -> Source:
    """The one document in `text`, or its mistakes. An empty text is None."""
    try:
        if _is_too_deep(text):
            return Source(mistakes=[Mistake((), f"nested deeper than {MAX_DEPTH} levels")])
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except (yaml.YAMLError, UnicodeEncodeError) as error:
        return Source(mistakes=[_syntax_mistake(error, text)])
    source = Source()
    if node is None:
        return source
    reader = _Reader(source)
    return Source(reader.read(node, (), ()), source.lines, source.text_lines, source.mistakes)


def _is_too_deep(text: str) -> bool:
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            return True
    return False


def _syntax_mistake(error: yaml.YAMLError | UnicodeEncodeError, text: str) -> Mistake:
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        position = getattr(error, "position", getattr(error, "start", None))
        line = None if position is None else text.count("\n", 0, position) + 1
        return Mistake((), "not valid YAML: a character that YAML does not allow", line)
    mark, problem = error.problem_mark, error.problem or "cannot be read"
    line = min(mark.line + 1, text.rstrip("\n").count("\n") + 1)
    if "another document" in problem:
        return Mistake((), "holds several YAML documents, one is wanted", line)
    if text.split("\n")[line - 1][mark.column : mark.column + 1] == "\t":
        return Mistake((), "not valid YAML: a tab in the indentation, use spaces", line)
    problem = re.sub(r" *('[^']*'|\"[^\"]*\")", "", problem)  # what is quoted there is the user's text: maybe a key
    return Mistake((), f"not valid YAML: {problem} (column {mark.column + 1})", line)


class _Reader:
    """Turns nodes into values, notes lines, collects mistakes."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._nodes_seen = 0

    def _complain(self, path: KeyPath, message: str, node: yaml.Node) -> None:
        self._source.mistakes.append(Mistake(path, message, node.start_mark.line + 1))

    def read(self, node: yaml.Node, path: KeyPath, above: tuple[int, ...]) -> Any:
        self._nodes_seen += 1
        if self._nodes_seen > MAX_NODES:
            if self._nodes_seen == MAX_NODES + 1:
                self._complain((), f"holds more than {MAX_NODES} values, counting aliases each time", node)
            return None
        if id(node) in above:
            self._complain(path, "an alias stands inside its own anchor", node)
            return None
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path, (*above, id(node)))
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return self._sequence(node, path, (*above, id(node)))
        return self._scalar(node, path)

    def _sequence(self, node: yaml.SequenceNode, path: KeyPath, above: tuple[int, ...]) -> list[Any]:
        values = []
        for index, child in enumerate(node.value):
            self._source.lines[*path, index] = child.start_mark.line + 1
            values.append(self.read(child, (*path, index), above))
        return values

    def _mapping(self, node: yaml.MappingNode, path: KeyPath, above: tuple[int, ...]) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                for part in self._merge_parts(value_node, path, above):
                    merged = {**part, **merged}
            elif not isinstance(key_node, yaml.ScalarNode):
                self._complain(path, "a key must be text", key_node)
            elif key_node.value in own:
                first = self._source.lines[*path, key_node.value]
                self._complain((*path, key_node.value), f"given twice, first in line {first}", key_node)
            else:
                key = key_node.value
                self._source.lines[*path, key] = key_node.start_mark.line + 1
                own[key] = self.read(value_node, (*path, key), above)
        return {**merged, **own}

    def _merge_parts(self, node: yaml.Node, path: KeyPath, above: tuple[int, ...]) -> Iterator[dict[str, Any]]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for part_node in nodes:
            # Lines of what is merged in are not noted: they would hide the lines of the keys that stand here.
            part = _Reader(Source(mistakes=self._source.mistakes))
            part._nodes_seen = self._nodes_seen
            value = part.read(part_node, path, above)
            self._nodes_seen = part._nodes_seen
            if isinstance(value, dict):
                yield value
            else:
                self._complain(path, "<< wants a mapping, or a list of mappings", part_node)

    def _scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        kind, text = node.tag.removeprefix(_TAG), node.value
        if kind == "str" and isinstance(node, yaml.ScalarNode):
            if node.style == "|":
                self._source.text_lines[path] = node.start_mark.line + 2
            if any("\ud800" <= c <= "\udfff" for c in text):
                self._complain(path, "holds a lone surrogate, which is not a character", node)
            return text
        try:
            return _plain_value(kind, text)
        except (ValueError, TypeError, AttributeError) as error:
            reason = str(error) if type(error) is _BadScalar else f"is not a YAML {kind}" if kind in _PLAIN else ""
            self._complain(path, reason or "has a YAML tag that is not known here", node)
            return None


class _BadScalar(ValueError):
    """A value that a config cannot hold; the message is for the user."""


_PLAIN = ("null", "bool", "int", "float")


def _plain_value(kind: str, text: str) -> bool | int | float | None:
    if kind == "null":
        return None
    if kind == "bool":
        return _boolean(text.lower())
    number: int | float
    if kind == "int":
        number = int(text, 16) if text.startswith("0x") else int(text)
    elif kind == "float":
        number = float(text)
    else:
        raise ValueError(kind)
    if isinstance(number, float) and not math.isfinite(number):
        raise _BadScalar("must be a finite number")
    if isinstance(number, int) and not -(2**63) <= number < 2**63:
        raise _BadScalar("does not fit in 64 bits")
    return number


def _boolean(text: str) -> bool:
    if text not in ("yes", "true", "on", "no", "false", "off"):
        raise ValueError(text)
    return text in ("yes", "true", "on")
