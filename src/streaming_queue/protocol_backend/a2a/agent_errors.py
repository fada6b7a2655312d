"""Failures of a hosted agent as A2A errors."""

from __future__ import annotations

from typing import TypeVar

import orjson
from a2a.utils.errors import A2AError, InternalError, InvalidParamsError

from streaming_queue.comm.host.respond import unfit
from streaming_queue.errors import ConfigError, FailureEvent
from streaming_queue.messages import ERROR, End, Status

E = TypeVar("E", Status, End)


def to_a2a(event: FailureEvent) -> A2AError:
    """An `agent_error` event as the error of a response.

    A fault of the sender becomes invalid params (-32602, HTTP 400), any other an internal error (-32603, HTTP 500).
    The details carry the event, its values as text (`google.rpc.ErrorInfo`); the error's message is the event's.
    """
    cls = InvalidParamsError if event["code"] == ConfigError.code else InternalError
    details = {"type": event["type"], "code": event["code"], "retryable": str(event["retryable"]).lower()}
    if (wish := event["retry_after_s"]) is not None:
        details["retry_after_s"] = str(wish)
    return cls(event["message"], data=details)


def sendable(event: E) -> E | FailureEvent:
    """The event with metadata that JSON can hold; if JSON cannot hold it, this failure instead."""
    if event["type"] == ERROR or not (metadata := event.get("metadata")):
        return event
    try:
        return {**event, "metadata": orjson.loads(orjson.dumps(metadata))}
    except TypeError as error:
        return unfit(error)
