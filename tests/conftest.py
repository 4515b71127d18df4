"""Hypothesis profiles, and the event loop of async tests.

HYPOTHESIS_PROFILE names a profile; without it, CI=true takes `ci`.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# Examples are drawn on shared machines: a slow one says nothing about the code.
_PATIENT = (HealthCheck.too_slow,)

settings.register_profile("default", max_examples=50, deadline=None, suppress_health_check=_PATIENT)
settings.register_profile(
    "ci", max_examples=200, deadline=None, derandomize=True, print_blob=True, suppress_health_check=_PATIENT
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") == "true" else "default"))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The one event loop that the clients and limiters know."""
    return "asyncio"
