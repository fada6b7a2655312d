"""Failures as A2A writes them, turned into the project's errors. Tables, no words read in a message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from streaming_queue.comm.client.http import excerpt, parse_retry_after, refusal
from streaming_queue.comm.strict_json import read_or_none
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
    """The peer knows no such task: it never did, or has forgotten it; a new one may do."""


Verdict = tuple[type[StreamingQueueError], bool]
"""The class, and whether another try can help."""

BY_CODE: Mapping[int, Verdict] = {
    -32700: (ProtocolError, False),  # JSON parse error
    -32600: (ProtocolError, False),  # invalid request
    -32601: (ProtocolError, True),  # method not found
    -32602: (ProtocolError, False),  # invalid params
    -32603: (RemoteError, True),  # internal error
    -32001: (UnknownTaskError, True),  # task not found
    -32002: (RemoteError, False),  # task not cancelable
    -32003: (ProtocolError, True),  # push notifications not supported
    -32004: (ProtocolError, True),  # unsupported operation
    -32005: (ProtocolError, True),  # content type not supported
    -32006: (AgentFailedError, True),  # invalid agent response
    -32007: (ProtocolError, True),  # extended card not configured
    -32008: (ProtocolError, True),  # extension required
    -32009: (ProtocolError, True),  # version not supported
}
"""A2A's JSON-RPC codes (specification 1.0, section 5.4). What one agent cannot do another may."""

CODE_BY_REASON: Mapping[str, int] = {
    "TASK_NOT_FOUND": -32001,
    "TASK_NOT_CANCELABLE": -32002,
    "PUSH_NOTIFICATION_NOT_SUPPORTED": -32003,
    "UNSUPPORTED_OPERATION": -32004,
    "CONTENT_TYPE_NOT_SUPPORTED": -32005,
    "INVALID_AGENT_RESPONSE": -32006,
    "EXTENDED_AGENT_CARD_NOT_CONFIGURED": -32007,
    "EXTENSION_SUPPORT_REQUIRED": -32008,
    "VERSION_NOT_SUPPORTED": -32009,
    "INVALID_PARAMS": -32602,
    "INVALID_REQUEST": -32600,
    "METHOD_NOT_FOUND": -32601,
    "INTERNAL_ERROR": -32603,
}
"""The reasons that stand for the codes in HTTP+JSON (`google.rpc.ErrorInfo`)."""

BY_STATE: Mapping[str, tuple[type[StreamingQueueError], bool, str]] = {
    "failed": (AgentFailedError, True, "the task failed"),
    "rejected": (AgentFailedError, True, "the agent rejected the task"),
    "canceled": (AgentFailedError, True, "the task was cancelled at the agent"),
    "input-required": (AgentFailedError, True, "the agent asks for further input, which nobody here can give"),
    "auth-required": (AuthError, False, "the agent asks for an authentication beyond the agent's credential"),
}
"""Ends of a task that are no answer, by `dialect.state_name`. What one agent will not do another may."""


def rpc_error(error: Any, address: str) -> StreamingQueueError:
    """The error object of a JSON-RPC response, or of an HTTP+JSON stream."""
    if not isinstance(error, Mapping):
        return ProtocolError(f"{address}: its error is no object: {str(error)[:120]!a}")
    details = error.get("data") or error.get("details")
    for detail in _details(details):
        if detail.get("type") == ERROR:
            return error_from_event(_typed({"message": error.get("message"), **detail}), address)
    code = error.get("code")
    if error.get("status") is not None or code not in BY_CODE:
        reasons = (CODE_BY_REASON.get(str(detail.get("reason"))) for detail in _details(details))
        code = next((found for found in reasons if found is not None), code)
    cls, retryable = BY_CODE.get(code, (RemoteError, True)) if isinstance(code, int) else (RemoteError, True)
    said = f"{address}: A2A error {code!a}: {str(error.get('message'))[:300]!a}"
    return cls(said, retryable=retryable)


def http_error(status: int, body: bytes, retry_after: str | None, address: str) -> StreamingQueueError:
    """A response whose status is not 200: A2A's own error, our host's refusal, or somebody in between."""
    retry_after_s = parse_retry_after(retry_after)
    error = parsed(body).get("error")
    if isinstance(error, Mapping):
        if error.get("type") == ERROR:
            return error_from_event({"retry_after_s": retry_after_s, **_set(error)}, address)
        if any(detail.get("type") == ERROR or "reason" in detail for detail in _details(error.get("details"))):
            return rpc_error(error, address)
        if error.get("code") in BY_CODE:
            return rpc_error(error, address)
    if status == 503 and retry_after_s is not None:
        return RateLimitedError(f"{address}: answered 503{excerpt(body)}", retry_after_s=retry_after_s)
    return refusal(status, body, retry_after_s, address)


def task_error(state: str, message: Any, said: str, address: str) -> StreamingQueueError:
    """The end of a task that is no answer; `message` is its status message, `said` the message's text."""
    metadata = message.get("metadata") if isinstance(message, Mapping) else None
    event = metadata.get(AGENT_ERROR) if isinstance(metadata, Mapping) else None
    if isinstance(event, Mapping):
        return error_from_event(_typed(event), address)
    if state not in BY_STATE:
        return ProtocolError(f"{address}: its task is in a state that A2A does not know: {state[:40]!a}")
    cls, retryable, what = BY_STATE[state]
    return cls(f"{address}: {what}" + (f": {said[:300]!a}" if said else ""), retryable=retryable)


def _details(details: Any) -> Iterator[Mapping[str, Any]]:
    """Each detail of an error, and the metadata inside of it: the SDK of a peer may write either."""
    for detail in details if isinstance(details, list) else [details]:
        if isinstance(detail, Mapping):
            metadata = detail.get("metadata")
            if isinstance(metadata, Mapping):
                yield metadata
            yield detail


def _typed(event: Mapping[str, Any]) -> dict[str, Any]:
    """The event with its own types: in an ErrorInfo every value is text."""
    typed = dict(event)
    if isinstance(event.get("retryable"), str):
        typed["retryable"] = event["retryable"] == "true"
    if isinstance(wish := event.get("retry_after_s"), str):
        try:
            typed["retry_after_s"] = float(wish)
        except ValueError:
            typed["retry_after_s"] = None
    return typed


def _set(event: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if value is not None}


def parsed(body: bytes) -> Mapping[str, Any]:
    """The JSON object in a body; empty where it is none."""
    document = read_or_none(body)
    return document if isinstance(document, Mapping) else {}
