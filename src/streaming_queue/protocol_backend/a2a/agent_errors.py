"""Failures of an agent hosted here, as A2A writes them."""

from __future__ import annotations

import orjson
from a2a.utils.errors import A2AError, InternalError, InvalidParamsError

from streaming_queue.errors import AgentFailedError, ConfigError, error_event
from streaming_queue.messages import StreamEvent


def to_a2a(event: StreamEvent) -> A2AError:
    """An `agent_error` event as the error of a response.

    What its sender has to mend is invalid params (-32602, HTTP 400), all else an internal error (-32603, HTTP 500).
    The event travels in the details, its values as text (`google.rpc.ErrorInfo`), the message as the error's own.
    """
    cls = InvalidParamsError if event["code"] == ConfigError.code else InternalError
    details = {"type": event["type"], "code": event["code"], "retryable": str(event.get("retryable")).lower()}
    if (wish := event.get("retry_after_s")) is not None:
        details["retry_after_s"] = str(wish)
    return cls(str(event["message"]), data=details)


def sendable(event: StreamEvent) -> StreamEvent:
    """The event with its metadata as JSON keeps it, or the failure that JSON cannot hold the metadata."""
    if not event.get("metadata"):
        return event
    try:
        return {**event, "metadata": orjson.loads(orjson.dumps(event["metadata"]))}
    except TypeError as error:
        return error_event(AgentFailedError(f"the agent's answer cannot be sent as JSON: {error}"))
