"""Packages that only some exports need: loaded when they are called for, with the command that installs them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from synth_async.errors import UsageError

__all__ = ["required"]


def required(module: str, *, extra: str) -> Any:
    """The module, untyped; raises `UsageError` with the install command where the extra is not installed."""
    try:
        return import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise UsageError(f"this needs the package {package}: pip install 'synth-async[{extra}]'") from None
