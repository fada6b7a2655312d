"""Errors as gRPC carries A2A's: a `google.rpc.Status` in the trailing metadata, else the bare status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from grpc.aio import AioRpcError

from streaming_queue.comm.grpc_wire import COMMON_LIMIT_BYTES, own_failure
from streaming_queue.errors import AuthError, ConnectError, ProtocolError, RemoteError, StreamingQueueError
from streaming_queue.protocol_backend.a2a.failures import Verdict, rpc_error

DETAILS_KEY = "grpc-status-details-bin"

BY_STATUS: Mapping[StatusCode, Verdict] = {
    StatusCode.UNAUTHENTICATED: (AuthError, False),
    StatusCode.PERMISSION_DENIED: (AuthError, False),
    StatusCode.UNAVAILABLE: (ConnectError, True),
    StatusCode.UNIMPLEMENTED: (ProtocolError, True),
    StatusCode.INVALID_ARGUMENT: (ProtocolError, False),
    StatusCode.FAILED_PRECONDITION: (RemoteError, False),
    StatusCode.OUT_OF_RANGE: (RemoteError, False),
}
"""A peer's status without A2A's own word -> the class, and whether to try again; any other is `RemoteError, True`."""


def said_by_a2a(error: AioRpcError) -> Mapping[str, Any] | None:
    """What A2A says of the failure, as HTTP+JSON would write it; None where it is the library's or a stranger's."""
    document = dict(error.trailing_metadata() or ()).get(DETAILS_KEY)
    if not isinstance(document, bytes):
        return None
    try:
        status = status_pb2.Status.FromString(document)
        details = []
        for detail in status.details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                details.append(MessageToDict(info))
    except DecodeError:
        return None
    return {"status": error.code().name, "message": status.message, "details": details} if details else None


def status_error(error: AioRpcError, address: str, sent_bytes: int) -> StreamingQueueError:
    """What ended a call. A message of `sent_bytes` over the common limit is at fault where resources were exhausted."""
    if (said := said_by_a2a(error)) is not None:
        return rpc_error(said, address)
    status = error.code()
    cls, retryable = BY_STATUS.get(status, (RemoteError, True))
    text = f"{address}: gRPC {status.name}: {(error.details() or '')[:300]!a}"
    if cls is RemoteError and (own := own_failure(error)) is not None:
        return own(text, retryable=True)
    if status is StatusCode.RESOURCE_EXHAUSTED and sent_bytes > COMMON_LIMIT_BYTES:
        return ProtocolError(f"{text}; the message has {sent_bytes} bytes", retryable=False)
    return cls(text, retryable=retryable)
