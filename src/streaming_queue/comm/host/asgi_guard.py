"""The checks of a request before the application gets it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sized

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streaming_queue.comm.base import HostLimits
from streaming_queue.comm.host.admission import Admission, Refusal, error_body, too_many_connections
from streaming_queue.comm.host.asgi_protocol import connection_of
from streaming_queue.errors import (
    AgentFailedError,
    ProtocolError,
    SendTimeoutError,
    StreamingQueueError,
)

logger = logging.getLogger(__name__)

ErrorBody = Callable[[StreamingQueueError], bytes]
"""Writes an error as the protocol's JSON."""

_LINGER_S = 1.0
"""The host reads and drops a refused body for this time, in seconds, so that the sender gets the refusal."""


class _GuardedRequest:
    """The `receive` and `send` of one request, with limits on its body."""

    __slots__ = ("_complete", "_deadline", "_error_body", "_limits", "_receive", "_send", "_size", "refused", "started")

    def __init__(
        self, receive: Receive, send: Send, limits: HostLimits, error_body: ErrorBody, *, complete: bool
    ) -> None:
        self._receive = receive
        self._send = send
        self._limits = limits
        self._error_body = error_body
        self._complete = complete
        self._deadline: float | None = None
        self._size = 0
        self.refused = False
        self.started = False

    async def receive(self) -> Message:
        """The next message; a disconnect after the request is refused."""
        if self.refused:
            return {"type": "http.disconnect"}
        if self._complete:
            return await self._receive()
        limits = self._limits
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().time() + limits.body_deadline_s
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            late = SendTimeoutError(f"the request's body took longer than {limits.body_deadline_s:g} s")
            return await self.refuse(Refusal(408, late), linger_s=0.0)
        self._count(message)
        return await self.refuse(_too_large(limits)) if self._size > limits.body_bytes else message

    def _count(self, message: Message) -> None:
        self._size += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)

    async def send(self, message: Message) -> None:
        """Pass on a message of the application, unless the request is refused."""
        if not self.refused:
            self.started = True
            await self._send(message)

    async def refuse(self, refusal: Refusal, *, linger_s: float = _LINGER_S) -> Message:
        """Answer instead of the application; the application gets a disconnect."""
        self.refused = True
        if not self.started:
            body = self._error_body(refusal.error)
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(body)),
                (b"connection", b"close"),
                *refusal.headers,
            ]
            await self._send({"type": "http.response.start", "status": refusal.status, "headers": headers})
            await self._send({"type": "http.response.body", "body": body, "more_body": True})
            if linger_s:
                await self._drop_rest(linger_s)
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        return {"type": "http.disconnect"}

    async def _drop_rest(self, linger_s: float) -> None:
        try:
            async with asyncio.timeout(linger_s):
                while not self._complete:
                    self._count(await self._receive())
        except TimeoutError:
            return


def _too_large(limits: HostLimits) -> Refusal:
    return Refusal(
        413, ProtocolError(f"the request's body is over the limit of {limits.body_bytes} bytes", retryable=False)
    )


class Guard:
    """ASGI middleware around every hosted application.

    A refusal is JSON by `error_body`: 400 without exactly one Host, 401, 403 and 421 by the admission, 408 and 413 for
    the body's time and size, 503 for too many connections. `open_paths` need no credential. The server sets
    `connections`, the open ones.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: HostLimits,
        admission: Admission,
        *,
        open_paths: Collection[str] = (),
        error_body: ErrorBody = error_body,
    ) -> None:
        self.connections: Sized = ()
        self._app = app
        self._limits = limits
        self._admission = admission
        self._open_paths = frozenset(open_paths)
        self._error_body = error_body

    # mutmut's wrapper takes any arguments: uvicorn would take it for a factory.
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # pragma: no mutate block
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        connection = connection_of(scope)
        complete = b"transfer-encoding" not in headers and connection.has_whole_body(scope)
        request = _GuardedRequest(receive, send, self._limits, self._error_body, complete=complete)
        try:
            refusal = self._refusal(scope, headers)
            if refusal is None and not self._admission.open and scope["path"] not in self._open_paths:
                refusal = await self._authenticate(scope, headers)
            if refusal is not None:
                await request.refuse(refusal)
            else:
                await self._app(scope, request.receive, request.send)
        except asyncio.CancelledError:
            if not connection.lost:
                raise
        except Exception:
            if request.refused:
                return
            if request.started:
                raise
            logger.exception("%s %s failed", scope["method"], scope["path"])
            await request.refuse(Refusal(500, AgentFailedError("the host failed on this request; its log says why")))

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> Refusal | None:
        limits = self._limits
        if len(self.connections) > limits.connections:
            return too_many_connections()
        host = headers.get(b"host")
        if host is None or (len(headers) != len(scope["headers"]) and _count(scope, b"host") > 1):
            return Refusal(400, ProtocolError("a request has exactly one Host header", retryable=False))
        refusal = self._admission.check(host, headers.get(b"origin"))
        if refusal is not None:
            return refusal
        length = headers.get(b"content-length")
        if length is not None and int(length) > limits.body_bytes:
            return _too_large(limits)
        return None

    async def _authenticate(self, scope: Scope, headers: dict[bytes, bytes]) -> Refusal | None:
        found = await self._admission.identify(headers.get(b"authorization", b""))
        if isinstance(found, Refusal):
            return found
        scope["state"]["principal"] = found
        return None


def _count(scope: Scope, name: bytes) -> int:
    return sum(1 for key, _ in scope["headers"] if key == name)
