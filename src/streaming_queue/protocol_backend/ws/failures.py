"""The library's errors as ours, most specific first."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from streaming_queue.comm.client.http import CONNECT_TIMEOUT_S
from streaming_queue.comm.strict_json import read_or_none
from streaming_queue.comm.wire_errors import excerpt, parse_retry_after, refusal, reported_error
from streaming_queue.errors import (
    AuthError,
    CommError,
    ConnectError,
    ProtocolError,
    StreamingQueueError,
    UnavailableError,
    os_reason,
)

ERROR_BY_CLOSE_CODE: Mapping[int, type[CommError]] = {
    1002: ProtocolError,
    1003: ProtocolError,
    1007: ProtocolError,
    1009: ProtocolError,
    1010: ProtocolError,
    3000: AuthError,
    3003: AuthError,
}
"""A peer's close code -> our error (RFC 6455, 7.4, and IANA's registry); any other code is a lost connection."""


def not_connected(error: Exception, address: str) -> StreamingQueueError:
    """The error for a failed connection attempt."""
    if isinstance(error, ssl.SSLError):
        failure = f"the TLS certificate is not trusted: {error}; check the agent's tls option"
        return UnavailableError(f"{address}: {failure}", retryable=False)
    if isinstance(error, TimeoutError):
        return UnavailableError(f"{address}: no connection within {CONNECT_TIMEOUT_S:g} s")
    if isinstance(error, OSError):
        return UnavailableError(f"{address}: cannot connect: {os_reason(error)}")
    if isinstance(error, InvalidStatus):
        return _refused(error, address)
    if isinstance(error, InvalidMessage) and isinstance(error.__cause__, EOFError):
        return UnavailableError(f"{address}: the connection broke during the handshake")
    return ProtocolError(f"{address}: the answer is not a WebSocket handshake{_text_of(error)}")


def _refused(error: InvalidStatus, address: str) -> StreamingQueueError:
    response = error.response
    body = bytes(response.body)
    values = response.headers.get_all("Retry-After")
    retry_after_s = parse_retry_after(values[0]) if values else None
    failure = reported_error(read_or_none(body), retry_after_s, address)
    if failure is not None:
        return failure
    if 100 <= response.status_code < 300:
        status = f"{response.status_code}{excerpt(body)}"
        return ProtocolError(f"{address}: answered {status}, not a WebSocket handshake")
    return refusal(response.status_code, body, retry_after_s, address)


def lost(error: ConnectionClosed, given_up: str | None, address: str) -> CommError:
    """The error for a connection that ended; `given_up` is our own reason to end it."""
    if given_up is not None:
        return ConnectError(f"{address}: we closed the connection: {given_up}")
    if error.rcvd is not None and error.rcvd_then_sent is not False:
        reason = excerpt(error.rcvd.reason.encode())
        failure = ERROR_BY_CLOSE_CODE.get(error.rcvd.code, ConnectError)
        return failure(f"{address}: closed the connection with code {error.rcvd.code}{reason}")
    if error.sent is not None and error.sent.code in ERROR_BY_CLOSE_CODE:
        return ProtocolError(f"{address}: broke the protocol{_text_of(error)}")
    return ConnectError(f"{address}: the connection broke before the answer{_text_of(error.__cause__ or error)}")


def _text_of(error: BaseException) -> str:
    """The library's text, escaped; it may quote the peer."""
    text = str(error) or type(error).__name__
    if error.__cause__ is not None:
        text = f"{text}: {error.__cause__}"
    return excerpt(text.encode())
