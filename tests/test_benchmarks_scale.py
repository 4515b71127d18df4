"""The arithmetic of `benchmarks/scale.py`."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.scale import Constants, Limits, Machine, forecast

_SIZES = st.floats(10, 1e9)
_LIMITS = st.builds(
    Limits,
    rpm=st.none() | st.floats(1, 1e6),
    tpm=st.none() | st.floats(1e3, 1e9),
    in_flight=st.integers(1, 10_000),
    latency_s=st.floats(0.1, 60),
)
_KNOWN = Constants()


@given(_SIZES, _LIMITS, st.integers(0, 64))
def test_no_forecast_is_faster_than_a_limit_allows(examples: float, limits: Limits, workers: int) -> None:
    """Whatever the engine, and into however many runs it is cut: all of them share one limit."""
    said = forecast(examples, limits, Machine(), _KNOWN, workers=workers)
    if limits.rpm is not None:
        assert said.seconds >= examples * _KNOWN.requests / (limits.rpm / 60) * 0.999
    if limits.tpm is not None:
        assert said.seconds >= examples * _KNOWN.tokens / (limits.tpm / 60) * 0.999


@given(_SIZES, _LIMITS, st.floats(1e9, 1e12))
def test_every_run_fits_into_the_memory_of_its_machine(examples: float, limits: Limits, memory_bytes: float) -> None:
    """What does not fit is cut, and what was cut is merged."""
    machine = replace(Machine(), memory_bytes=memory_bytes)
    said = forecast(examples, limits, machine, _KNOWN)
    assert said.memory_bytes <= memory_bytes * (1 + 1e-9)
    assert (said.runs > 1) == (said.merge_s > 0)
    assert "memory" not in said.too_much


@given(_SIZES, _LIMITS, st.integers(0, 64))
def test_more_examples_never_take_less_of_one_run(examples: float, limits: Limits, workers: int) -> None:
    """Time, CPU, memory and disk grow with the number of examples."""
    less, more = (
        forecast(count, limits, Machine(), _KNOWN, workers=workers, runs=1) for count in (examples, 2 * examples)
    )
    assert (more.seconds, more.cpu_s) >= (less.seconds, less.cpu_s)
    assert more.memory_bytes > less.memory_bytes
    assert more.disk_bytes > less.disk_bytes
