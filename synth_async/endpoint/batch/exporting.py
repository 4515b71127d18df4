"""Batches as files in a folder, for somebody who runs them: vLLM's `run-batch` reads them as they are.

It stands in the place of a client: an upload writes the file, a creation is nothing, and the first look at a batch ends
the run, as its answers come by another way.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import BinaryIO, NoReturn

import anyio

from synth_async.endpoint.batch.record import EXPORTED
from synth_async.endpoint.batch.states import BatchStatus, BatchView
from synth_async.errors import DiskFailure, StoppedEarly

__all__ = ["Exported", "FolderClient"]


class Exported(StoppedEarly):
    """What there is to ask is in files, and the run waits for answers that are brought to it."""


class FolderClient:
    """A `BatchClient` that writes files. `on_file` gets the path of each one."""

    def __init__(self, folder: Path, endpoint: str, *, quiet_s: float, on_file: Callable[[Path], None]) -> None:
        self._folder = folder
        self._endpoint = endpoint
        self._quiet_s = quiet_s
        self._on_file = on_file

    def __repr__(self) -> str:
        return f"<FolderClient {self._folder}>"

    async def upload(self, name: str, content: BinaryIO) -> str:
        """Write a file, whole or not at all."""
        path = self._folder / f"{self._endpoint}-{name}"
        part = path.with_name(f".{path.name}.part")
        content.seek(0)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                shutil.copyfileobj(content, file)
            part.replace(path)
        except OSError as error:
            raise DiskFailure(f"{path}: could not be written: {error.strerror}") from None
        self._on_file(path)
        return f"{EXPORTED}{path.name}"

    async def create(self, file_id: str, metadata: Mapping[str, str]) -> BatchView:  # noqa: ARG002 - as a client
        """Nothing is created; the batch goes by its file."""
        return BatchView(file_id, BatchStatus.VALIDATING, "exported", input_file=file_id)

    async def retrieve(self, batch_id: str) -> NoReturn:
        """End the run, when other endpoints have had the time to write their files."""
        await anyio.sleep(self._quiet_s)
        raise Exported(f"{batch_id} waits for `synth-async import-responses`")

    async def page(self, after: str | None) -> tuple[list[BatchView], str | None]:  # noqa: ARG002 - as a client
        """No batch is anywhere."""
        return [], None

    async def cancel(self, batch_id: str) -> BatchView:
        """Whoever runs the file is not told."""
        return BatchView(batch_id, BatchStatus.CANCELLED, "given up")

    async def lines(self, file_id: str) -> AsyncGenerator[bytes, None]:  # noqa: ARG002 - as a client
        """There are none: answers are imported."""
        nothing: tuple[bytes, ...] = ()
        for line in nothing:
            yield line

    async def aclose(self) -> None:
        """Nothing is open."""
