"""The HTTP client of the backends: one session, one agent's requests, bodies within limits, typed errors."""

from __future__ import annotations

import io
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ssl import SSLContext
from types import TracebackType
from typing import Any, Generic, TypeVar
from weakref import WeakSet

import aiohttp
from aiohttp.connector import Connection
from multidict import CIMultiDict
from yarl import URL

from streaming_queue.comm.answer_limit import MAX_EVENT_BYTES, over_limit
from streaming_queue.comm.base import EndpointOptions
from streaming_queue.comm.client.exchange import Cancels, Exchange
from streaming_queue.comm.context import heard
from streaming_queue.comm.strict_json import read_or_none
from streaming_queue.comm.wire_errors import parse_retry_after, refusal, reported_error
from streaming_queue.errors import (
    BackendClosedError,
    CommError,
    ConfigError,
    ConnectError,
    ProtocolError,
    SendTimeoutError,
    StreamingQueueError,
    UnavailableError,
    os_reason,
)

JSON = "application/json"
CONNECT_TIMEOUT_S = 5.0
KEEP_ALIVE_S = 30.0
PROBES: Mapping[str, int] = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""The kernel probes an idle connection (tcp(7)) after 15 s, then every 5 s; three lost probes end it."""

BROKEN = (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError, OSError)
"""The library's errors if a connection breaks before the whole answer."""
NOT_BEGUN = (aiohttp.ClientConnectorError, TimeoutError)
"""Those of BROKEN that a new connection does not help: none was made, or the time is over."""
_BYTES_AT_ONCE = 1024 * 1024


class HttpSession:
    """One session for all agents of a backend; the first request opens it. Errors name `protocol`.

    The backend sets `closed` when it begins to close. From then on a failure is a BackendClosedError, and requests
    still pass until `close`, so that cancels arrive.
    """

    def __init__(self, protocol: str) -> None:
        self.closed = False
        self._protocol = protocol
        self._opened: aiohttp.ClientSession | None = None

    def check_open(self) -> None:
        """Raises BackendClosedError."""
        if self.closed:
            raise BackendClosedError(f"the {self._protocol} backend is closed")

    def request(
        self, method: str, url: URL, *, headers: Mapping[str, str], tls: SSLContext | None, body: bytes | None = None
    ) -> Any:
        """A request; await it or enter it for its response. It does not follow redirects.

        Raises BackendClosedError, and the library's errors: see `translated`.
        """
        if self._opened is None:
            self.check_open()
            self._opened = open_session()
        data = io.BytesIO(body) if body is not None and len(body) > _BYTES_AT_ONCE else body
        ssl = True if tls is None else tls
        return self._opened.request(method, url, data=data, headers=headers, ssl=ssl, allow_redirects=False)

    def translated(self, address: str) -> Translated:
        """A block that turns the library's errors into ours. Many tasks may enter it, also at the same time."""
        return Translated(self, address)

    def failure(self, error: Exception, address: str) -> CommError:
        """The library's error as one of ours."""
        if self.closed:
            return BackendClosedError(f"{address}: the {self._protocol} backend was closed before the answer")
        return translate(error, address)

    async def close(self) -> None:
        """Close all connections; pending reads fail. Idempotent."""
        self.closed = True
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()


class Translated:
    """See `HttpSession.translated`. It is a class, since each question enters one and a generator costs more CPU."""

    __slots__ = ("_address", "_session")

    def __init__(self, session: HttpSession, address: str) -> None:
        self._session = session
        self._address = address

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, StreamingQueueError):
            return
        if isinstance(error, aiohttp.ClientError | OSError):
            raise self._session.failure(error, self._address) from error


class HttpPeer:
    """An agent at an HTTP address (`address`, parsed as `url`), and the headers of every request to it."""

    def __init__(self, agent_id: str, address: str, options: EndpointOptions, session: HttpSession) -> None:
        """Raises ConfigError on an address or a header that is not valid."""
        self.address = address
        self.url = agent_url(agent_id, address)
        self.headers = agent_headers(agent_id, options, {"Accept": JSON, "Content-Type": JSON})
        self.translated = session.translated(address)
        self._session = session
        self._tls = options.tls

    def request(
        self, method: str, url: URL, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """A request; await it or enter it for its response. Raises like `HttpSession.request`."""
        merged = self.headers
        if headers:
            merged = merged.copy()
            merged.update(headers)
        return self._session.request(method, url, headers=merged, tls=self._tls, body=body)


PeerT = TypeVar("PeerT", bound=HttpPeer)


class HttpExchange(Exchange, Generic[PeerT]):
    """An exchange with an agent at an HTTP address; its host finds the work again by the idempotency key."""

    def __init__(self, peer: PeerT, payload: Mapping[str, Any], cancels: Cancels) -> None:
        super().__init__(peer.address, payload, cancels, peer.translated)
        self.peer = peer

    def resumes(self, error: Exception) -> bool:
        """Whether the connection broke and the message has a key."""
        return self.key is not None and is_broken(error)


def open_session() -> aiohttp.ClientSession:
    """A session without cookies, without proxies from the environment, without a time limit for an answer.

    Closing it fails pending reads: the library itself lets the reader of an incomplete response wait forever.
    """
    responses: WeakSet[aiohttp.ClientResponse] = WeakSet()

    class Response(aiohttp.ClientResponse):
        async def start(self, connection: Connection) -> aiohttp.ClientResponse:
            responses.add(self)
            return await super().start(connection)

    class Connector(aiohttp.TCPConnector):
        def close(self, **how: Any) -> Any:
            for response in responses:
                if response.content is not None:  # None before the headers arrived
                    response.content.set_exception(aiohttp.ClientConnectionError("the session was closed"))
            return super().close(**how)

    return aiohttp.ClientSession(
        connector=Connector(limit=0, keepalive_timeout=KEEP_ALIVE_S, socket_factory=_probed_socket),
        response_class=Response,
        timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("User-Agent",),
        auto_decompress=False,
        trust_env=False,
    )


def _probed_socket(address: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
    """A socket whose idle connection the kernel probes: it closes if the peer vanished, and stays if the peer works."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in PROBES.items():
        if (number := getattr(socket, option, None)) is not None:
            made.setsockopt(socket.IPPROTO_TCP, number, value)
    return made


def is_broken(error: BaseException | None) -> bool:
    """Whether the connection of a request broke, so that a new connection may help."""
    return isinstance(error, BROKEN) and not isinstance(error, NOT_BEGUN)


def agent_url(agent_id: str, address: str, schemes: tuple[str, str] = ("http", "https")) -> URL:
    """The URL of an agent, without a slash at its end. Raises ConfigError if the address is not valid."""
    try:
        url = URL(address.rstrip("/"))
        usable = url.scheme in schemes and url.host and url.user is None
    except ValueError:
        usable = False
    if not usable or url.raw_query_string or url.raw_fragment:
        forms = " or ".join(f"{scheme}://host:port" for scheme in schemes)
        raise ConfigError(
            f"agent {agent_id!r}: address {address.rpartition('@')[2]!r} must be {forms} with at most a path; "
            "set a credential in the agent's options"
        )
    return url


def agent_headers(agent_id: str, options: EndpointOptions, defaults: Mapping[str, str]) -> CIMultiDict[str]:
    """The headers of every request to an agent. Raises ConfigError on a header that cannot be sent."""
    headers = CIMultiDict({"Accept-Encoding": "identity", **defaults, **options.headers})
    if options.credential is not None:
        headers["Authorization"] = f"Bearer {options.credential}"
    for name, value in headers.items():
        if not (name.isascii() and name.isprintable() and value.isprintable()):
            raise ConfigError(f"agent {agent_id!r}: the value of header {name!r} cannot be sent")
    return headers


def translate(error: Exception, address: str) -> CommError:
    """The library's error as one of ours, the most specific class first."""
    reason = str(error) or type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        failure = f"the TLS certificate is not trusted: {reason}; check the agent's tls option"
        return UnavailableError(f"{address}: {failure}", retryable=False)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return UnavailableError(f"{address}: no connection within {CONNECT_TIMEOUT_S:g} s")
    if isinstance(error, TimeoutError):
        return SendTimeoutError(f"{address}: the connection timed out: {reason}")
    if isinstance(error, aiohttp.ClientConnectorError):
        return UnavailableError(f"{address}: cannot connect: {os_reason(error.os_error)}")
    if isinstance(error, BROKEN):
        return ConnectError(f"{address}: the connection broke before the answer: {reason}")
    return ProtocolError(f"{address}: the answer is not HTTP: {reason}")


async def read_body(response: aiohttp.ClientResponse, address: str, limit: int = MAX_EVENT_BYTES) -> bytes:
    """The body. Raises ProtocolError over `limit` bytes, and stops reading there.

    A body without a Content-Length may take long: each chunk is a sign of life.
    """
    length = response.content_length
    if length is not None and length <= limit:
        return await response.read()
    chunks, size = [], length or 0
    while size <= limit and (chunk := await response.content.readany()):
        heard()
        chunks.append(chunk)
        size += len(chunk)
    if size > limit:
        response.close()
        raise over_limit(address, limit=limit)
    return b"".join(chunks)


def response_error(response: aiohttp.ClientResponse, body: bytes, address: str) -> StreamingQueueError:
    """The error for a response other than 2xx: our own error from its body, else the error for its status."""
    retry_after_s = parse_retry_after(response.headers.get("Retry-After"))
    failure = reported_error(read_or_none(body), retry_after_s, address)
    return failure or refusal(response.status, body, retry_after_s, address)


def peer_date(headers: Mapping[str, str]) -> datetime | None:
    """The peer's clock (RFC 9110, 6.6.1), to the second; None without a Date, or if a cache answers."""
    if "Age" in headers:
        return None
    try:
        moment = parsedate_to_datetime(headers["Date"])
    except (KeyError, ValueError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
