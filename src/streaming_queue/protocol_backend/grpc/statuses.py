"""Errors in gRPC: a status for any client, and the whole event in trailing metadata.

Tables decide. The code reads the text of a status only to see whether the library itself created the status.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import orjson
from grpc import StatusCode
from grpc.aio import AioRpcError

from streaming_queue.comm.grpc_wire import COMMON_LIMIT_BYTES, is_unavailable, own_failure
from streaming_queue.comm.strict_json import read_or_none
from streaming_queue.errors import (
    AgentFailedError,
    AuthError,
    ConfigError,
    ConnectError,
    ProtocolError,
    RateLimitedError,
    RemoteError,
    SendTimeoutError,
    StreamingQueueError,
    UnavailableError,
    error_event,
    error_from_event,
)
from streaming_queue.messages import ERROR
from streaming_queue.protocol_backend.grpc.codec import SERVICE

ERROR_KEY = "agent-error-bin"
"""Trailing metadata: the `agent_error` event as JSON."""
PUSHBACK_KEY = "grpc-retry-pushback-ms"
"""Trailing metadata: the milliseconds to wait (gRPC proposal A6), like HTTP's Retry-After."""

MAX_TEXT_BYTES = 3000
"""The largest text of an error on the wire: gRPC's peers take 8 KiB of metadata by default."""

STATUS_BY_CODE: Mapping[str, StatusCode] = {
    "config": StatusCode.INVALID_ARGUMENT,
    "unknown_protocol": StatusCode.INVALID_ARGUMENT,
    "timeout": StatusCode.DEADLINE_EXCEEDED,
    "llm_timeout": StatusCode.DEADLINE_EXCEEDED,
    "unknown_agent": StatusCode.NOT_FOUND,
    "unreachable": StatusCode.PERMISSION_DENIED,
    "auth": StatusCode.UNAUTHENTICATED,
    "rate_limited": StatusCode.RESOURCE_EXHAUSTED,
    "quota": StatusCode.RESOURCE_EXHAUSTED,
    "queue_full": StatusCode.RESOURCE_EXHAUSTED,
    "disk_full": StatusCode.RESOURCE_EXHAUSTED,
    "topology": StatusCode.FAILED_PRECONDITION,
    "lease_lost": StatusCode.ABORTED,
    "backend_not_installed": StatusCode.UNIMPLEMENTED,
    "internal": StatusCode.INTERNAL,
    "agent_failed": StatusCode.INTERNAL,
    "protocol": StatusCode.INTERNAL,
    "connect": StatusCode.UNAVAILABLE,
    "unavailable": StatusCode.UNAVAILABLE,
    "backend_closed": StatusCode.UNAVAILABLE,
    "queue": StatusCode.UNAVAILABLE,
    "queue_closed": StatusCode.UNAVAILABLE,
    "run_closed": StatusCode.FAILED_PRECONDITION,
    "run_cancelled": StatusCode.FAILED_PRECONDITION,
    "unknown_run": StatusCode.NOT_FOUND,
    "queue_in_use": StatusCode.UNAVAILABLE,
    "queue_stalled": StatusCode.UNAVAILABLE,
    "comm": StatusCode.UNKNOWN,
    "remote": StatusCode.UNKNOWN,
    "llm": StatusCode.UNKNOWN,
    "bad_response": StatusCode.UNKNOWN,
}
"""An error's code -> the status for any client; our own ends read the event."""

FOREIGN: Mapping[StatusCode, tuple[type[StreamingQueueError], bool]] = {
    StatusCode.CANCELLED: (RemoteError, True),
    StatusCode.UNKNOWN: (RemoteError, True),
    StatusCode.INVALID_ARGUMENT: (RemoteError, False),
    StatusCode.DEADLINE_EXCEEDED: (SendTimeoutError, True),
    StatusCode.NOT_FOUND: (RemoteError, False),
    StatusCode.ALREADY_EXISTS: (RemoteError, False),
    StatusCode.PERMISSION_DENIED: (AuthError, False),
    StatusCode.RESOURCE_EXHAUSTED: (RemoteError, True),
    StatusCode.FAILED_PRECONDITION: (RemoteError, False),
    StatusCode.ABORTED: (RemoteError, True),
    StatusCode.OUT_OF_RANGE: (RemoteError, False),
    StatusCode.UNIMPLEMENTED: (ConfigError, False),
    StatusCode.INTERNAL: (RemoteError, True),
    StatusCode.UNAVAILABLE: (ConnectError, True),
    StatusCode.DATA_LOSS: (RemoteError, True),
    StatusCode.UNAUTHENTICATED: (AuthError, False),
}
"""A status of another implementation -> the class, and whether to retry.

For RemoteError, `own_failure` decides if the library itself created the status.
"""

REMEDIES: Mapping[StatusCode, str] = {
    StatusCode.UNIMPLEMENTED: f"the server there does not have {SERVICE}: correct the address",
    StatusCode.UNAUTHENTICATED: "check the agent's credential",
    StatusCode.PERMISSION_DENIED: "check the agent's credential",
}

Trailers = tuple[tuple[str, str | bytes], ...]


def encode_error(event: Mapping[str, Any]) -> tuple[StatusCode, str, Trailers]:
    """The status, its text and the trailing metadata for a failure."""
    text = _shortened(str(event.get("message") or ""))
    try:
        document = orjson.dumps({**event, "message": text})
    except TypeError as error:
        return encode_error(error_event(AgentFailedError(f"the agent's failure cannot be sent as JSON: {error}")))
    trailers: Trailers = ((ERROR_KEY, document),)
    retry_after_s = event.get("retry_after_s")
    if isinstance(retry_after_s, int | float) and 0 <= retry_after_s < math.inf:
        trailers = (*trailers, (PUSHBACK_KEY, str(math.ceil(retry_after_s * 1000))))
    return STATUS_BY_CODE.get(str(event.get("code")), StatusCode.INTERNAL), text[:200], trailers


def _shortened(text: str) -> str:
    """The beginning of a text, within `MAX_TEXT_BYTES` of valid UTF-8."""
    encoded = text.encode(errors="replace")
    kept = encoded[:MAX_TEXT_BYTES].decode(errors="ignore")
    return kept if len(encoded) <= MAX_TEXT_BYTES else f"{kept} ..."


def decode_error(error: AioRpcError, address: str, sent_bytes: int = 0) -> StreamingQueueError:
    """The error that ended a call: from the event if there is one, else by the table.

    RESOURCE_EXHAUSTED means that a message is too large, or that there were too many messages. With a time to wait, it
    asks to slow down. Without it, the message is too large if `sent_bytes` are over the common limit.
    """
    trailers = dict(error.trailing_metadata() or ())
    if (event := _event(trailers.get(ERROR_KEY))) is not None:
        return error_from_event(event, address)
    status = error.code()
    cls, retryable = FOREIGN.get(status, (RemoteError, True))
    retry_after_s = _seconds(trailers.get(PUSHBACK_KEY))
    remedy = REMEDIES.get(status)
    own = own_failure(error) if cls is RemoteError else None
    if own is not None:
        cls, retryable = own, True
    elif is_unavailable(error):
        cls = UnavailableError
    elif status is StatusCode.RESOURCE_EXHAUSTED:
        if retry_after_s is not None:
            cls = RateLimitedError
        elif sent_bytes > COMMON_LIMIT_BYTES:
            cls, retryable, remedy = ProtocolError, False, f"the message has {sent_bytes} bytes"
    said = f"{address}: {status.name}: {ascii((error.details() or '')[:300])[1:-1] or 'no text'}"
    return cls(f"{said}; {remedy}" if remedy else said, retryable=retryable, retry_after_s=retry_after_s)


def _event(document: str | bytes | None) -> Mapping[str, Any] | None:
    event = read_or_none(document or b"")
    return event if isinstance(event, dict) and event.get("type") == ERROR else None


def _seconds(milliseconds: str | bytes | None) -> float | None:
    return int(milliseconds) / 1000 if milliseconds and len(milliseconds) < 10 and milliseconds.isdigit() else None
