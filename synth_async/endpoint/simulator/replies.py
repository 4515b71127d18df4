"""HTTP replies of the embedded endpoint that several of its routes give."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping

from aiohttp import web

from synth_async.endpoint.simulator.faults import FaultyResponse, error_body

__all__ = ["faulty_reply", "json_reply", "refuse_key", "reset_connection"]


def json_reply(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> web.Response:
    """A reply in JSON."""
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def faulty_reply(failure: FaultyResponse) -> web.Response:
    """A reply that reports a failure."""
    return web.Response(
        status=failure.status, body=failure.body, content_type=failure.content_type, headers=failure.headers
    )


def refuse_key(authorization: str) -> web.Response | None:
    """What `Bearer invalid` and `Bearer no-quota` get; None for any other key."""
    key = authorization.removeprefix("Bearer ").strip()
    if key == "invalid":
        problem = error_body("Incorrect API key provided.", kind="invalid_request_error", code="invalid_api_key")
        return json_reply(401, problem)
    if key == "no-quota":
        message = "You exceeded your current quota, please check your plan and billing details."
        return json_reply(429, error_body(message, kind="insufficient_quota", code="insufficient_quota"))
    return None


def reset_connection(request: web.Request) -> None:
    """Close the connection with a RST, and not politely."""
    transport = request.transport
    if transport is None:  # the client was faster
        return
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
