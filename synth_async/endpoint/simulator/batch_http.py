"""The files and batches of the embedded endpoint over HTTP.

    POST /v1/files    GET /v1/files/ID/content    POST /v1/batches    GET /v1/batches[/ID]    POST /v1/batches/ID/cancel

Of `simulation.faults`, `rate_limited` and `server_error` befall these calls too, before they have any effect.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web

from synth_async.config.models import Simulation
from synth_async.endpoint.simulator.batches import BatchDesk, NotThere
from synth_async.endpoint.simulator.chat import InvalidRequest
from synth_async.endpoint.simulator.faults import arrival_draw, error_body, rate_limited, server_error
from synth_async.endpoint.simulator.replies import faulty_reply, json_reply, refuse_key, reset_connection

__all__ = ["BatchRoutes"]

_CALLS = 0xCA11
_PAGE = 20
_MOST_A_PAGE = 100

_BOUNDARY = re.compile(r'boundary="?([^";,]+)')
_NAMED = re.compile(r'\b(name|filename)="([^"]*)"')

Reply = Callable[[web.Request], Awaitable[web.Response]]


class BatchRoutes:
    """What a server does with a request for files and batches."""

    def __init__(self, simulation: Simulation) -> None:
        self.desk = BatchDesk(simulation)
        self._simulation = simulation
        self._calls = 0

    def add_to(self, app: web.Application) -> None:
        """Serve them."""
        add = app.router.add_route
        add("POST", "/v1/files", self._served(self._upload))
        add("GET", "/v1/files/{id}/content", self._served(self._content))
        add("POST", "/v1/batches", self._served(self._create))
        add("GET", "/v1/batches", self._served(self._page))
        add("GET", "/v1/batches/{id}", self._served(self._retrieve))
        add("POST", "/v1/batches/{id}/cancel", self._served(self._cancel))

    def _served(self, reply: Reply) -> Reply:
        async def served(request: web.Request) -> web.Response:
            if (refused := refuse_key(request.headers.get("Authorization", ""))) is not None:
                return refused
            if (failure := self._fault()) is not None:
                return failure
            try:
                return await reply(request)
            except NotThere as missing:
                message = f"No such object: {missing}"
                return json_reply(404, error_body(message, kind="invalid_request_error", code="not_found"))
            except InvalidRequest as problem:
                body = error_body(str(problem), kind="invalid_request_error", param=problem.param)
                return json_reply(400, body)

        return served

    def _fault(self) -> web.Response | None:
        mix, self._calls = self._simulation.faults, self._calls + 1
        draw = arrival_draw(self._simulation.seed ^ _CALLS, self._calls)
        if draw < mix.rate_limited:
            return faulty_reply(rate_limited(self._calls, unix_time=time.time()))
        if draw < mix.rate_limited + mix.server_error:
            return faulty_reply(server_error(self._calls))
        return None

    async def _upload(self, request: web.Request) -> web.Response:
        # Not by aiohttp's reader, whose limit on a body is that of chat requests.
        parts = _form(await request.content.read(), str(request.headers.get("Content-Type")))
        (name, content), (_, purpose) = parts.get("file", ("", b"")), parts.get("purpose", ("", b""))
        if purpose != b"batch" or not name.endswith(".jsonl"):
            raise InvalidRequest("A .jsonl file with the purpose 'batch' is wanted.", "purpose")
        return _told(self.desk.upload(name, content))

    async def _content(self, request: web.Request) -> web.Response:
        return web.Response(body=self.desk.content(request.match_info["id"]), content_type="application/octet-stream")

    async def _create(self, request: web.Request) -> web.Response:
        wanted = orjson.loads(await request.read())
        metadata = wanted.get("metadata") or {}
        made = self.desk.create(str(wanted.get("input_file_id")), metadata)
        made_id = (made.get("job") or made)["id"]
        if self.desk.loses_reply(made_id):
            reset_connection(request)
        return _told(made)

    async def _page(self, request: web.Request) -> web.Response:
        limit = min(_MOST_A_PAGE, int(request.query.get("limit", _PAGE)))
        return _told(self.desk.page(request.query.get("after"), limit))

    async def _retrieve(self, request: web.Request) -> web.Response:
        return _told(self.desk.view(request.match_info["id"]))

    async def _cancel(self, request: web.Request) -> web.Response:
        return _told(self.desk.cancel(request.match_info["id"]))


def _form(body: bytes, content_type: str) -> dict[str, tuple[str, bytes]]:
    """The parts of a form by their names: (file name, content)."""
    found = {}
    boundary = _BOUNDARY.search(content_type)
    for part in body.split(b"--" + boundary[1].encode())[1:-1] if boundary is not None else ():
        head, _, content = part.partition(b"\r\n\r\n")
        named = dict(_NAMED.findall(head.decode("utf-8", "replace")))
        found[named.get("name", "")] = (named.get("filename", ""), content.removesuffix(b"\r\n"))
    return found


def _told(value: dict[str, Any]) -> web.Response:
    return json_reply(200, orjson.dumps(value))
