"""What carries a run: this process alone, or Ray."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from synth_async.errors import UsageError

if TYPE_CHECKING:
    from synth_async.pipeline.endpoints import Connect
    from synth_async.store.run_folder import RunFolder

__all__ = ["RayRequest", "ray_connect", "ray_request"]


@dataclass(frozen=True, slots=True)
class RayRequest:
    """So many workers, on the cluster at an address, or on one that is started here."""

    workers: int
    address: str | None


def ray_request(workers: int | None, address: str | None, *, wanted: bool) -> RayRequest | None:
    """What was asked for, checked; None for a run in this process. Raises `UsageError`."""
    if not wanted:
        if workers is not None or address is not None:
            raise UsageError("--workers and --address say how a run goes on Ray: add --engine ray")
        return None
    if not is_installed():
        raise UsageError("--engine ray needs the package ray: pip install 'synth-async[ray]'")
    return RayRequest(workers or 2, address)


def is_installed() -> bool:
    """Whether Ray is there, without loading it."""
    try:
        return find_spec("ray") is not None
    except ValueError:  # what stands in its place is no module
        return False


def ray_connect(wanted: RayRequest, folder: RunFolder, on_note: Callable[[str], None]) -> Connect:
    """What connects a run in that folder to its endpoints, over workers on Ray."""
    from synth_async.distributed.cluster import ray_endpoints

    return partial(ray_endpoints, folder=folder, workers=wanted.workers, address=wanted.address, on_note=on_note)
