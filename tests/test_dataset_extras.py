"""An extra that is not installed is told with the command that installs it."""

from __future__ import annotations

import pytest

from synth_async.dataset.extras import required
from synth_async.errors import UsageError


def test_a_missing_package_names_its_extra() -> None:
    """The command is there to be copied; a module that is there is given."""
    with pytest.raises(UsageError, match=r"needs the package no_such: pip install 'synth-async\[merge\]'"):
        required("no_such.part", extra="merge")
    assert required("json", extra="merge").loads("1") == 1
