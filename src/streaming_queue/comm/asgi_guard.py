"""What a host demands of a request before the application sees it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sized
from dataclasses import dataclass
from ipaddress import ip_address

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streaming_queue.comm.asgi_protocol import connection_of
from streaming_queue.comm.base import HostLimits, HostOptions
from streaming_queue.errors import (
    AgentFailedError,
    AuthError,
    ConfigError,
    ProtocolError,
    RateLimitedError,
    SendTimeoutError,
    StreamingQueueError,
    error_event,
)

logger = logging.getLogger(__name__)

Header = tuple[bytes, bytes]

_LINGER_S = 1.0
"""How long the rest of a refused body is read and dropped, so that its sender gets to read the refusal."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A status, the error that tells why, and further headers."""

    status: int
    error: StreamingQueueError
    headers: tuple[Header, ...] = ()


class _Exchange:
    """One request's `receive` and `send`, with the body held to its limits."""

    __slots__ = ("_complete", "_deadline", "_limits", "_receive", "_send", "_size", "refused", "started")

    def __init__(self, receive: Receive, send: Send, limits: HostLimits, *, complete: bool) -> None:
        self._receive = receive
        self._send = send
        self._limits = limits
        self._complete = complete
        self._deadline: float | None = None
        self._size = 0
        self.refused = False
        self.started = False

    async def receive(self) -> Message:
        """The next message; a disconnect once the request is refused."""
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
            return await self.refuse(_Refusal(408, late), linger_s=0.0)
        self._count(message)
        return await self.refuse(_too_large(limits)) if self._size > limits.body_bytes else message

    def _count(self, message: Message) -> None:
        self._size += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)

    async def send(self, message: Message) -> None:
        """Pass the application's message on, unless the request is refused."""
        if not self.refused:
            self.started = True
            await self._send(message)

    async def refuse(self, refusal: _Refusal, *, linger_s: float = _LINGER_S) -> Message:
        """Answer in the application's place, which sees a disconnect."""
        self.refused = True
        if not self.started:
            body = orjson.dumps({"error": error_event(refusal.error)})
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


def _too_large(limits: HostLimits) -> _Refusal:
    return _Refusal(
        413, ProtocolError(f"the request's body is over the limit of {limits.body_bytes} bytes", retryable=False)
    )


def host_name(authority: str) -> str:
    """The name in a Host header, lower case, without the port; an IPv6 address keeps its brackets."""
    authority = authority.lower()
    if authority.startswith("["):
        return authority[: authority.find("]") + 1]
    return authority.partition(":")[0]


class Guard:
    """ASGI middleware around every hosted application.

    A refusal is JSON, `{"error": <agent_error event>}`: 400 without one Host, 401 without a valid bearer credential,
    403 for a page of another origin, 408 and 413 for the body's time and size, 421 for a Host that is not ours, 503
    for too many connections. `hosts` are the names that are ours (`*`: any), `any_address` accepts every IP address
    beside them, `open_paths` need no credential. `connections` are those now open; the server gives them.
    """

    def __init__(
        self,
        app: ASGIApp,
        options: HostOptions,
        *,
        hosts: Collection[str],
        any_address: bool = False,
        open_paths: Collection[str] = (),
    ) -> None:
        self.connections: Sized = ()
        self._app = app
        self._limits = options.limits
        self._authenticator: Callable[[str], Awaitable[str | None]] | None = options.authenticator
        self._hosts = frozenset(host.lower() for host in hosts)
        self._foreign_origins = frozenset(host.lower() for host in options.allowed_hosts)
        self._any_address = any_address
        self._open_paths = frozenset(open_paths)
        self._hosts_seen: set[bytes] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        connection = connection_of(scope)
        complete = b"transfer-encoding" not in headers and connection.has_whole_body(scope)
        exchange = _Exchange(receive, send, self._limits, complete=complete)
        try:
            refusal = self._refusal(scope, headers)
            if refusal is None and self._authenticator is not None and scope["path"] not in self._open_paths:
                refusal = await self._authenticate(self._authenticator, scope, headers)
            if refusal is not None:
                await exchange.refuse(refusal)
            else:
                await self._app(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            if not connection.lost:
                raise
        except Exception:
            if exchange.refused:
                return
            if exchange.started:
                raise
            logger.exception("%s %s failed", scope["method"], scope["path"])
            await exchange.refuse(_Refusal(500, AgentFailedError("the host failed on this request; its log says why")))

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> _Refusal | None:
        limits = self._limits
        if len(self.connections) > limits.connections:
            busy = RateLimitedError("the host has too many connections", retry_after_s=1.0)
            return _Refusal(503, busy, ((b"retry-after", b"1"),))
        host = headers.get(b"host")
        if host is None or (len(headers) != len(scope["headers"]) and _count(scope, b"host") > 1):
            return _Refusal(400, ProtocolError("a request has exactly one Host header", retryable=False))
        if host not in self._hosts_seen and not self._is_ours(host):
            name = host[:200].decode("latin-1")
            return _Refusal(421, ConfigError(f"host {name!r} is not served here: add it to the host's allowed_hosts"))
        origin = headers.get(b"origin")
        if origin is not None and not self._is_welcome(origin, host):
            return _Refusal(403, AuthError("pages of another origin may not call this host"))
        length = headers.get(b"content-length")
        if length is not None and int(length) > limits.body_bytes:
            return _too_large(limits)
        return None

    def _is_ours(self, host: bytes) -> bool:
        name = host_name(host.decode("latin-1"))
        ours = name in self._hosts or "*" in self._hosts or (self._any_address and _is_address(name))
        if ours and len(self._hosts_seen) < 100:
            self._hosts_seen.add(host)
        return ours

    def _is_welcome(self, origin: bytes, host: bytes) -> bool:
        authority = origin.partition(b"://")[2]
        return authority == host or host_name(authority.decode("latin-1")) in self._foreign_origins

    async def _authenticate(
        self, authenticator: Callable[[str], Awaitable[str | None]], scope: Scope, headers: dict[bytes, bytes]
    ) -> _Refusal | None:
        scheme, _, credential = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if scheme.lower() == "bearer" and credential:
            async with asyncio.timeout(self._limits.body_deadline_s):
                principal = await authenticator(credential.strip())
            if principal is not None:
                scope["state"]["principal"] = principal
                return None
            reason, challenge = "the bearer credential is not valid", b'Bearer error="invalid_token"'
        else:
            reason, challenge = "a bearer credential is needed (Authorization: Bearer ...)", b"Bearer"
        return _Refusal(401, AuthError(reason), ((b"www-authenticate", challenge),))


def _count(scope: Scope, name: bytes) -> int:
    return sum(1 for key, _ in scope["headers"] if key == name)


def _is_address(name: str) -> bool:
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
