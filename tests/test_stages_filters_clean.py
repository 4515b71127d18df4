"""Clean texts of many kinds, most of which nobody wrote for a test: what the filters must leave alone."""

from __future__ import annotations

import ast
import inspect
import re
import sysconfig
import textwrap
from collections.abc import Iterator
from importlib.metadata import distributions
from itertools import islice
from pathlib import Path

import pytest
from filter_cases import DEFAULTS, SUPPORT, example_of

from synth_async.config.models import Filters
from synth_async.stages.filters import build_filters, first_breach
from synth_async.stages.words import count_words


@pytest.mark.parametrize("reply", SUPPORT)
def test_honest_support_passes_every_rule(reply: str) -> None:
    """Apologies, limits and steps are what support is made of."""
    assert first_breach(example_of(assistant=reply), DEFAULTS) is None
    assert first_breach(example_of(assistant=reply.replace("'", "’")), DEFAULTS) is None


# Words that the placeholder rule drops wherever they stand, addresses of authors, and consoles with repeated prompts.
NOT_CLEAN = re.compile(
    r"xxx|placeholder|lorem|\{\{|\[name\]|\w@[\w-]+\.\w|>>>|^ *\w+\(.*\) *->", re.IGNORECASE | re.MULTILINE
)
STDLIB = Path(sysconfig.get_path("stdlib"))
# Left out: tests, what is installed, and a reference in which every method has the wording of the one before it.
NOT_READ = {"test", "tests", "site-packages", "dist-packages", "idlelib", "lib2to3", "_pydecimal.py"}


def docstrings(paths: Iterator[Path]) -> Iterator[tuple[str, str]]:
    """Docstrings of the standard library, with where they stand."""
    for path in paths:
        if NOT_READ.isdisjoint(path.relative_to(STDLIB).parts):
            for node in ast.walk(ast.parse(path.read_text("utf-8", "replace"))):
                if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                    yield f"{path.name}:{getattr(node, 'name', 'module')}", ast.get_docstring(node) or ""


def readmes_and_licences() -> Iterator[tuple[str, str]]:
    """Paragraphs of what installed packages say about themselves, and of their licences."""
    for package in distributions():
        texts = [(package.read_text("METADATA") or "").partition("\n\n")[2]]
        texts += [
            file.read_text("utf-8") for file in package.files or () if file.name.startswith(("LICENSE", "COPYING"))
        ]
        for text in texts:
            yield from ((package.name, part) for part in re.split(r"\n\s*\n", text))


def clean(texts: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The texts of reply length that are prose: sentences, not tables, badges, code or consoles; each once."""
    seen: set[str] = set()
    for where, text in texts:
        prose = text.strip()
        letters = sum(character.isalpha() or character == " " for character in prose)
        if prose in seen or not 25 <= count_words(prose) <= 400 or letters < 0.85 * len(prose):
            continue
        if prose[-1] in ".!?:" and "http" not in prose and not NOT_CLEAN.search(prose):
            seen.add(prose)
            yield where, prose


def test_the_prose_of_the_standard_library_passes() -> None:
    """Of hundreds of texts that nobody wrote for this, fewer than one in a hundred is dropped."""
    texts = list(islice(clean(docstrings(iter(sorted(STDLIB.glob("*.py"))))), 600))
    drops = {where: drop for where, text in texts if (drop := first_breach(example_of(assistant=text), DEFAULTS))}
    assert len(texts) > 300
    assert len(drops) < len(texts) / 100, drops


@pytest.fixture(scope="module")
def two_thousand_texts() -> list[str]:
    """500 paragraphs of readmes and licences of installed packages, 1,500 docstrings of the standard library."""
    written = islice(clean(readmes_and_licences()), 500)
    documented = islice(clean(docstrings(iter(sorted(STDLIB.rglob("*.py"))))), 1500)
    return [text for _, text in (*written, *documented)]


@pytest.mark.slow
@pytest.mark.parametrize("side", ["user", "assistant"])
def test_two_thousand_human_texts_pass_on_either_side(two_thousand_texts: list[str], side: str) -> None:
    """Fewer than one in a hundred is dropped by the rules that are on by default."""
    rules = build_filters(Filters(short_reply=None, echo=None), prompts=SUPPORT)
    drops = [drop for text in two_thousand_texts if (drop := first_breach(example_of(**{side: text}), rules))]
    assert len(two_thousand_texts) == 2000
    assert len(drops) < 20, drops


def test_the_python_licence_passes() -> None:
    """Legal prose restates its terms; its paragraphs are still no repetition, refusal or echo."""
    licence = Path(inspect.getfile(ast)).parent / "LICENSE.txt"
    if not licence.exists():
        pytest.skip("this Python was installed without its licence text")
    paragraphs = [textwrap.dedent(part) for part in licence.read_text("utf-8").split("\n\n")]
    prose = [part for part in paragraphs if 25 <= count_words(part) <= 500 and "    " not in part.strip()]  # no tables
    assert len(prose) > 10
    for part in prose:
        assert first_breach(example_of(assistant=part), DEFAULTS) is None, part
