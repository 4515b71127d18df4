"""What a config names from outside this package: the user's own functions, and optional packages.

Importing a function runs the user's code, when a config is loaded that names it, and not before.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from synth_async.config.source import Mistake
from synth_async.config.wording import shown
from synth_async.errors import UsageError

__all__ = ["FILTER_GROUP", "LANGUAGES", "extension_mistakes", "function_digest", "function_name", "load_function"]

FILTER_GROUP = "synth_async.filters"
"""Entry points of this group can be named in `filters.custom`."""

_LISTED_LANGUAGES = (
    "ace af am an ar ary arz as az ba bcl be bg bn br bs ca crh cs cy da de dz el en eo es et eu ext fa fi fo fr "
    "fuv fy ga gcf gcr gd gl gom grc gu gug guw ha hbo he hi hr ht hu hy id ig is it ja jv ka kab kik kk km kn ko "
    "ku ky la lb lg lij ln lo lt ltg lv mg mk ml mn mr ms mt my ne nl nn no nso oc om or pa pcm pl ps pt qu ro ru "
    "rw sa sdh se si sk sl sn so sq sr st sv sw ta te tg th tk tl tr tt ug uk ur uz uzs vec vi vo wa wuu xh yo yue "
    "zh zu"
)
LANGUAGES = frozenset(_LISTED_LANGUAGES.split())
"""ISO 639 codes of the languages that py3langid 0.4 tells apart."""

_LANGUAGE_PACKAGE = "py3langid"


def load_function(name: str) -> Callable[..., Any]:
    """The function behind `package.module:function`, or behind the entry point of that name.

    Raises `UsageError` where it cannot be imported, is not there, or is no function, whatever its code raises.
    """
    try:
        function = _imported(name) if ":" in name else _entry_point(name)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{name} cannot be loaded: {type(error).__name__}: {error}") from error
    if not callable(function):
        raise UsageError(f"{name} is a {type(function).__name__}, a function is wanted")
    return function  # type: ignore[no-any-return] # callable() narrows Any to nothing more


def function_name(function: Callable[..., Any]) -> str:
    """`package.module:function`, under which a config can name a function.

    Raises `UsageError` where it cannot be found by that: a lambda, a method of an object, a function inside another.
    """
    name = f"{getattr(function, '__module__', None)}:{getattr(function, '__qualname__', None)}"
    try:
        is_found = load_function(name) is function
    except UsageError:
        is_found = False
    if not is_found:
        raise UsageError(f"{function!r} cannot be found by its name: define it with def at the top of a module")
    return name


def _imported(name: str) -> Any:
    module, _, path = name.partition(":")
    found: Any = import_module(module)
    for attribute in path.split("."):
        found = getattr(found, attribute)
    return found


def _entry_point(name: str) -> Any:
    points = entry_points(group=FILTER_GROUP)
    if name not in points.names:
        known = f"there is: {', '.join(sorted(points.names))}" if points.names else "no installed package has one"
        raise UsageError(f"no entry point of {FILTER_GROUP} is named {name} ({known}); or give package.module:function")
    return points[name].load()


def function_digest(name: str) -> str:
    """A hash of the file that a function stands in, so that a change of it is a change of the config.

    What the file imports is not followed. Of a function in a notebook it is the hash of the function's own source.
    Empty where there is neither.
    """
    function = inspect.unwrap(load_function(name))
    try:
        source = inspect.getsourcefile(function)
    except TypeError:  # a class instance, or something built in
        return ""
    if source is None:
        return ""
    # The source of a notebook's cell has a name, and is no file.
    content = Path(source).read_bytes() if Path(source).exists() else inspect.getsource(function).encode()
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def extension_mistakes(filters: Mapping[str, Any], folder: Path) -> list[Mistake]:
    """Functions that cannot be loaded, and languages that cannot be told apart; modules may stand in `folder`."""
    return [*_custom_mistakes(filters.get("custom"), folder), *_language_mistakes(filters.get("language"))]


def _custom_mistakes(names: object, folder: Path) -> Iterator[Mistake]:
    if not isinstance(names, list) or not names:
        return
    # At the end, so that a file beside the config hides no module that is installed.
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    for position, name in enumerate(names):
        if isinstance(name, str):
            try:
                load_function(name)
            except UsageError as error:
                yield Mistake(("filters", "custom", position), str(error))


def _language_mistakes(wanted: object) -> Iterator[Mistake]:
    path = ("filters", "language")
    if wanted is None or isinstance(wanted, bool):
        return
    if find_spec(_LANGUAGE_PACKAGE) is None:
        yield Mistake(path, "needs an optional package: pip install 'synth-async[language]'")
    for code in [wanted] if isinstance(wanted, str) else wanted if isinstance(wanted, list) else []:
        if isinstance(code, str) and code not in LANGUAGES:
            yield Mistake(path, f"no language that can be told apart has the code {shown(code)}: such as en, de, zh")
