"""A headless Chromium that opens one page, driven over its debugging port (the Chrome DevTools Protocol)."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

__all__ = ["Page", "chromium_path", "opened"]

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
)


def chromium_path() -> str | None:
    """The browser of this machine, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page:
    """An open page. `said` is what it logged, `asked` are the addresses that it wanted."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self._socket = socket
        self._number = 0
        self._has_loaded = False

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command, and its result; what happens meanwhile is noted."""
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            told = await self._socket.receive_json()
            if told.get("id") == self._number:
                assert "error" not in told, told
                result: dict[str, Any] = told["result"]
                return result
            self._note(told)

    async def is_loaded(self) -> None:
        """Wait until the page and all that it brings are there."""
        while not self._has_loaded:
            self._note(await self._socket.receive_json())

    def _note(self, told: dict[str, Any]) -> None:
        match told.get("method"):
            case "Page.loadEventFired":
                self._has_loaded = True
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown" | "Log.entryAdded":
                self.said.append(str(told["params"]))
            case "Network.requestWillBeSent":
                self.asked.append(told["params"]["request"]["url"])

    async def value(self, expression: str) -> Any:
        """What an expression comes to in the page."""
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")


@asynccontextmanager
async def opened(address: str) -> AsyncIterator[Page]:
    """The page at an address, loaded, in a browser of its own."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [str(chromium_path()), *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: ASYNC220
        try:
            port = await _port(Path(profile))
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                    (target,) = [each for each in await answer.json() if each["type"] == "page"]
                async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    page = Page(socket)
                    for domain in ("Page", "Runtime", "Log", "Network"):
                        await page.call(f"{domain}.enable")
                    await page.call("Page.navigate", url=address)
                    await page.is_loaded()
                    yield page
        finally:
            browser.terminate()
            browser.wait(10)


async def _port(profile: Path, patience_s: float = 30.0) -> str:
    """The port that the browser chose; it writes it into its profile."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        found = profile / "DevToolsActivePort"
        if found.exists() and (lines := found.read_text().splitlines()):
            return lines[0]
        await asyncio.sleep(0.05)
    raise TimeoutError("the browser did not open its debugging port")
