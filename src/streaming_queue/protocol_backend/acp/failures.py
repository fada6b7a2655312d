"""ACP failures: written by our hosts, and translated from a peer. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson

from streaming_queue.comm.strict_json import read_or_none
from streaming_queue.comm.wire_errors import excerpt, parse_retry_after, refusal
from streaming_queue.errors import (
    AgentFailedError,
    ConfigError,
    FailureEvent,
    ProtocolError,
    RemoteError,
    StreamingQueueError,
    UnknownAgentError,
    error_from_event,
)
from streaming_queue.messages import ERROR, Reply, is_metadata
from streaming_queue.protocol_backend.acp.codec import (
    AWAITING,
    CANCELLED,
    COMPLETED,
    FAILED,
    UNDER_WAY,
    UnreadableError,
    messages_text,
)

INVALID_INPUT, NOT_FOUND, SERVER_ERROR = "invalid_input", "not_found", "server_error"
"""The codes of ACP's Error."""


class AwaitingError(AgentFailedError):
    """The run awaits further input, which a question cannot give."""


class NotFoundError(RemoteError):
    """The peer has no agent, run or session of this name."""


def acp_error(event: FailureEvent, code: str | None = None) -> dict[str, Any]:
    """An `agent_error` event as ACP's Error, for all clients; its `data` has the event, for our own."""
    if code is None:
        bad_input = event["code"] == ConfigError.code or (
            event["code"] == ProtocolError.code and not event["retryable"]
        )
        code = INVALID_INPUT if bad_input else NOT_FOUND if event["code"] == UnknownAgentError.code else SERVER_ERROR
    data = {key: value for key, value in event.items() if key != "message"}
    return {"code": code, "message": event["message"], "data": data}


def reported_error(error: Any, address: str) -> StreamingQueueError | None:
    """The error in ACP's Error, as the same class; None if a foreign agent wrote it."""
    data = error.get("data") if isinstance(error, Mapping) else None
    if not isinstance(data, Mapping) or data.get("type") != ERROR:
        return None
    return error_from_event({**data, "message": error.get("message")}, address)


def http_error(response: aiohttp.ClientResponse, body: bytes, address: str) -> StreamingQueueError:
    """The error for a response other than 2xx."""
    found = read_or_none(body)
    document = found if isinstance(found, dict) else {}
    retry_after_s = parse_retry_after(response.headers.get("Retry-After"))
    if (error := reported_error(document, address)) is not None:
        error.retry_after_s = retry_after_s if error.retry_after_s is None else error.retry_after_s
        return error
    if response.status == 404 and document.get("code") == NOT_FOUND:
        said = excerpt(str(document.get("message")).encode())
        return NotFoundError(f"{address}: answered 404{said}", retryable=False)
    return refusal(response.status, body, retry_after_s, address)


def event_error(error: Any, address: str) -> StreamingQueueError:
    """The error for ACP's Error as an agent's failure."""
    if (failure := reported_error(error, address)) is not None:
        return failure
    if not isinstance(error, Mapping):
        return AgentFailedError(f"{address}: the agent failed without a reason")
    code, said = error.get("code"), excerpt(str(error.get("message")).encode())
    return AgentFailedError(
        f"{address}: the agent failed with {code!r}{said}", retryable=code not in (INVALID_INPUT, NOT_FOUND)
    )


def decode_run(run: Any, address: str) -> Reply | None:
    """The reply in a completed run, None while the run is in flight: the run's status decides, not the HTTP status.

    Raises:
        StreamingQueueError: the run failed or was cancelled; from a host of ours the class that its agent raised.
        AwaitingError: the run awaits input.
        ProtocolError: the document is not a run, or the run completed without a text.
    """
    status = run.get("status") if isinstance(run, Mapping) else None
    if status in UNDER_WAY:
        return None
    if status == COMPLETED:
        return _reply(dict(run), address)
    if status == FAILED:
        raise event_error(run.get("error"), address)
    if status == CANCELLED:
        raise reported_error(run.get("error"), address) or AgentFailedError(f"{address}: the run was cancelled")
    if status == AWAITING:
        raise AwaitingError(
            f"{address}: the agent awaits further input, which a question cannot give; the run was cancelled",
            retryable=False,
        )
    raise ProtocolError(f"{address}: the answer is not a run{excerpt(orjson.dumps(run))}")


def _reply(run: dict[str, Any], address: str) -> Reply:
    try:
        text = messages_text(run.get("output"))
    except UnreadableError as error:
        raise ProtocolError(f"{address}: the output of the run cannot be read: {error}") from error
    if text is None:
        raise ProtocolError(f"{address}: the run completed without a text")
    reply = Reply(raw=run, text=text)
    metadata = run.get("metadata")
    if metadata and is_metadata(metadata):
        reply["metadata"] = metadata
    return reply
