"""What a host demands of a connection before it is a WebSocket; every refusal is JSON."""

from __future__ import annotations

from collections.abc import Callable, Sized
from email.utils import formatdate
from http import HTTPStatus

import orjson
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from streaming_queue.comm.base import HostLimits
from streaming_queue.comm.host.admission import Admission, Refusal, too_many_connections
from streaming_queue.comm.payload import malformed
from streaming_queue.errors import ConfigError
from streaming_queue.protocol_backend.ws.connection import HostSide
from streaming_queue.protocol_backend.ws.frames import LIMIT_HEADER

_ONCE = ("Host", "Origin", "Authorization")


class Handshake:
    """The library's two hooks. `health` gives the agent's state, `connections` are those now open."""

    def __init__(
        self, admission: Admission, limits: HostLimits, connections: Sized, health: Callable[[], dict[str, str]]
    ) -> None:
        self._admission = admission
        self._limits = limits
        self._connections = connections
        self._health = health

    async def on_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse the request, answer it where it is for `/health`, or let the library go on (None)."""
        refusal = self._check(request.headers)
        if refusal is not None:
            return _refuse(refusal)
        path = request.path.partition("?")[0]
        if path == "/health" and request.method == "GET":
            state = self._health()
            return _json(200 if state["status"] == "ok" else 503, orjson.dumps(state))
        if path != "/":
            return _refuse(Refusal(404, ConfigError("there is nothing at this path; known are /, /health")))
        found = await self._admission.identify(request.headers.get("Authorization", "").encode("latin-1"))
        if isinstance(found, Refusal):
            return _refuse(found)
        if isinstance(connection, HostSide):
            connection.principal = found
        return None

    def on_response(self, connection: ServerConnection, request: Request, response: Response) -> Response | None:
        """Say what a request may weigh, or put the library's own refusal into our words."""
        del connection, request
        if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            response.headers[LIMIT_HEADER] = str(self._limits.body_bytes)
            return None
        if response.headers.get("Content-Type") == "application/json":
            return None
        said = bytes(response.body).decode().strip().replace("\n", " ")
        refusal = _refuse(Refusal(response.status_code, malformed(said)))
        for name in ("Allow", "Upgrade"):
            if name in response.headers:
                refusal.headers[name] = response.headers[name]
        return refusal

    def _check(self, headers: Headers) -> Refusal | None:
        if len(self._connections) > self._limits.connections:
            return too_many_connections()
        host, origin, _ = (headers.get_all(name) for name in _ONCE)
        if len(host) != 1 or any(len(headers.get_all(name)) > 1 for name in _ONCE):
            return Refusal(400, malformed(f"a request has one Host, and none of {', '.join(_ONCE)} twice"))
        return self._admission.check(host[0].encode("latin-1"), origin[0].encode("latin-1") if origin else None)


def _refuse(refusal: Refusal) -> Response:
    return _json(refusal.status, refusal.body, refusal.headers)


def _json(status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Response:
    fields = Headers(Date=formatdate(usegmt=True), Connection="close")
    fields["Content-Type"] = "application/json"
    fields["Content-Length"] = str(len(body))
    for name, value in headers:
        fields[name.decode("latin-1")] = value.decode("latin-1")
    return Response(status, HTTPStatus(status).phrase, fields, body)
