"""A2A failures -> the project's errors, by tables: no code reads the text of a message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from streaming_queue.comm import jsonrpc
from streaming_queue.comm.strict_json import read_or_none
from streaming_queue.comm.wire_errors import excerpt, parse_retry_after, refusal, reported_error
from streaming_queue.errors import (
    AgentFailedError,
    AuthError,
    ProtocolError,
    RateLimitedError,
    RemoteError,
    StreamingQueueError,
    error_from_event,
)
from streaming_queue.messages import ERROR
from streaming_queue.protocol_backend.a2a.dialect import AGENT_ERROR


class UnknownTaskError(RemoteError):
    """The peer does not know the task, or has forgotten it; a new task may work."""


_ERRORS: Mapping[str, tuple[int, type[StreamingQueueError], bool]] = {
    "TASK_NOT_FOUND": (-32001, UnknownTaskError, True),
    "TASK_NOT_CANCELABLE": (-32002, RemoteError, False),
    "PUSH_NOTIFICATION_NOT_SUPPORTED": (-32003, ProtocolError, True),
    "UNSUPPORTED_OPERATION": (-32004, ProtocolError, True),
    "CONTENT_TYPE_NOT_SUPPORTED": (-32005, ProtocolError, True),
    "INVALID_AGENT_RESPONSE": (-32006, AgentFailedError, True),
    "EXTENDED_AGENT_CARD_NOT_CONFIGURED": (-32007, ProtocolError, True),
    "EXTENSION_SUPPORT_REQUIRED": (-32008, ProtocolError, True),
    "VERSION_NOT_SUPPORTED": (-32009, ProtocolError, True),
}
"""A2A's errors (specification 1.0, section 5.4) by their reason in HTTP+JSON (`google.rpc.ErrorInfo`): the code in
JSON-RPC, the class, and whether a retry can help: another agent may have other capabilities."""

VERDICTS: jsonrpc.Verdicts = jsonrpc.VERDICTS | {code: (cls, again) for code, cls, again in _ERRORS.values()}
CODE_BY_REASON: Mapping[str, int] = {reason: code for reason, (code, _, _) in _ERRORS.items()} | {
    "INVALID_PARAMS": jsonrpc.INVALID_PARAMS,
    "INVALID_REQUEST": jsonrpc.INVALID_REQUEST,
    "METHOD_NOT_FOUND": jsonrpc.METHOD_NOT_FOUND,
    "INTERNAL_ERROR": jsonrpc.INTERNAL_ERROR,
}

BY_STATE: Mapping[str, tuple[type[StreamingQueueError], bool, str]] = {
    "failed": (AgentFailedError, True, "the task failed"),
    "rejected": (AgentFailedError, True, "the agent rejected the task"),
    "canceled": (AgentFailedError, True, "the task was cancelled at the agent"),
    "input-required": (AgentFailedError, True, "the agent asks for further input, which a question cannot give"),
    "auth-required": (AuthError, False, "the agent asks for an authentication beyond the agent's credential"),
}
"""Final states of a task without an answer, by `dialect.state_name`. Another agent may answer."""


def rpc_error(error: Any, address: str) -> StreamingQueueError:
    """The error for an error object of a JSON-RPC response or an HTTP+JSON stream."""
    if isinstance(error, Mapping):
        details = list(_details(error.get("data") or error.get("details")))
        for detail in details:
            if detail.get("type") == ERROR:
                return error_from_event(_typed({"message": error.get("message"), **detail}), address)
        if error.get("status") is not None or error.get("code") not in VERDICTS:
            codes = (CODE_BY_REASON.get(str(detail.get("reason"))) for detail in details)
            error = {**error, "code": next((code for code in codes if code is not None), error.get("code"))}
    return jsonrpc.failure_of(error, address, "A2A", VERDICTS)


def http_error(status: int, body: bytes, retry_after: str | None, address: str) -> StreamingQueueError:
    """The error for a status other than 200: A2A's own error, our host's refusal, or a proxy's answer."""
    retry_after_s = parse_retry_after(retry_after)
    document = parsed(body)
    if (failure := reported_error(document, retry_after_s, address)) is not None:
        return failure
    error = document.get("error")
    if isinstance(error, Mapping) and (
        error.get("code") in VERDICTS
        or any(detail.get("type") == ERROR or "reason" in detail for detail in _details(error.get("details")))
    ):
        return rpc_error(error, address)
    if status == 503 and retry_after_s is not None:
        return RateLimitedError(f"{address}: answered 503{excerpt(body)}", retry_after_s=retry_after_s)
    return refusal(status, body, retry_after_s, address)


def task_error(state: str, message: Any, said: str, address: str) -> StreamingQueueError:
    """The error for a task without an answer; `message` is its status message, `said` the message's text."""
    metadata = message.get("metadata") if isinstance(message, Mapping) else None
    event = metadata.get(AGENT_ERROR) if isinstance(metadata, Mapping) else None
    if isinstance(event, Mapping):
        return error_from_event(_typed(event), address)
    if state not in BY_STATE:
        return ProtocolError(f"{address}: its task has a state that A2A does not define: {state[:40]!a}")
    cls, retryable, what = BY_STATE[state]
    return cls(f"{address}: {what}" + (f": {said[:300]!a}" if said else ""), retryable=retryable)


def _details(details: Any) -> Iterator[Mapping[str, Any]]:
    """Each detail of an error, and the metadata in it: an SDK may write either."""
    for detail in details if isinstance(details, list) else [details]:
        if isinstance(detail, Mapping):
            metadata = detail.get("metadata")
            if isinstance(metadata, Mapping):
                yield metadata
            yield detail


def _typed(event: Mapping[str, Any]) -> dict[str, Any]:
    """The event with its types restored: in an ErrorInfo every value is text."""
    typed = dict(event)
    if isinstance(event.get("retryable"), str):
        typed["retryable"] = event["retryable"] == "true"
    if isinstance(wish := event.get("retry_after_s"), str):
        try:
            typed["retry_after_s"] = float(wish)
        except ValueError:
            typed["retry_after_s"] = None
    return typed


def parsed(body: bytes) -> Mapping[str, Any]:
    """The JSON object in a body; empty if the body is not one."""
    document = read_or_none(body)
    return document if isinstance(document, Mapping) else {}
