from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import synth_async

ROOT = Path(__file__).parent.parent

# Split, so that this file is not the first to break its own rule.
PRIVATE = (
    "/" + "work/",
    "/" + "root/",
    "/" + "home/",
    "files." + "pythonhosted",
    "pypi.org" + "/simple",
    "--index" + "-url",
    "--extra-index" + "-url",
    "--find" + "-links",
)


def project_files() -> list[Path]:
    """Every file that git tracks or would track."""
    listing = subprocess.run(
        # The folder may belong to another user than the one who runs the tests.
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def private_lines(text: str) -> list[str]:
    """The lines that name a package index or a folder of somebody's machine."""
    return [line for line in text.splitlines() if any(pattern in line for pattern in PRIVATE)]


def unhashed(requirements: str) -> list[str]:
    """The entries of a requirements file that are not pinned to one version, or carry no hash."""
    entries = re.split(r"\n(?=\S)", re.sub(r"(?m)^\s*#.*\n?", "", requirements).strip())
    return [
        entry for entry in entries if not re.match(r"[\w.-]+(\[[\w,-]+\])?==[^\s]+ .*--hash=sha256:", entry, re.DOTALL)
    ]


def test_version_is_the_same_in_metadata_and_module() -> None:
    """The metadata that is built says the version that the module says."""
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "metadata", "version"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert built.stdout.strip() == synth_async.__version__


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="only a git checkout knows which files are the project's")
def test_no_file_names_a_package_index_or_a_folder_of_one_machine() -> None:
    """What is published works on every machine: no file names an index host or somebody's folder."""
    found = {
        f"{path.relative_to(ROOT)}: {line}"
        for path in project_files()
        for line in private_lines(path.read_bytes().decode("utf-8", errors="replace"))
    }
    assert not found


@pytest.mark.parametrize("pattern", PRIVATE)
def test_private_patterns_are_found(pattern: str) -> None:
    """Every pattern is found in the middle of a line, and a harmless line is not."""
    assert private_lines(f"harmless\nsee {pattern}x here\n") == [f"see {pattern}x here"]


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "requirements-build.txt"])
def test_requirements_are_pinned_and_hashed(name: str) -> None:
    """An install from a requirements file takes exactly the files that were locked."""
    assert unhashed((ROOT / name).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("line", ["anyio==4.16.0", "anyio>=4 \\\n    --hash=sha256:00", "-e ."])
def test_an_entry_without_pin_or_hash_is_found(line: str) -> None:
    """An entry that lacks its pin or its hash is found between entries that have both."""
    good = "idna==3.20 ; python_version < '4' \\\n    --hash=sha256:00\n    # via\n    #   anyio\n"
    assert unhashed(good + line + "\n" + good) == [line]


def test_importing_the_package_loads_nothing_heavy() -> None:
    """`import synth_async` costs nothing: no third-party package that takes time to load comes with it."""
    heavy = {"aiohttp", "anyio", "datasketch", "jinja2", "numpy", "openai", "pydantic", "rapidfuzz", "scipy", "typer"}
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, synth_async; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "synth_async" in loaded.stdout.split()
    assert not heavy & set(loaded.stdout.split())


def test_every_public_name_is_there() -> None:
    """Each name that is listed can be had, and no other; listing them loads nothing."""
    assert {name for name in synth_async.__all__ if getattr(synth_async, name) is None} == set()
    assert set(synth_async.__all__) <= set(dir(synth_async))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = synth_async.nothing


def test_the_types_are_shipped() -> None:
    """`py.typed` stands beside the modules, so that a type checker believes them."""
    assert (Path(synth_async.__file__).parent / "py.typed").read_bytes() == b""
