"""Failures of an agent hosted here, as A2A writes them."""

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

    What its sender has to mend is invalid params (-32602, HTTP 400), all else an internal error (-32603, HTTP 500).
    The event travels in the details, its values as text (`google.rpc.ErrorInfo`), the message as the error's own.
    """
    cls = InvalidParamsError if event["code"] == ConfigError.code else InternalError
    details = {"type": event["type"], "code": event["code"], "retryable": str(event["retryable"]).lower()}
    if (wish := event["retry_after_s"]) is not None:
        details["retry_after_s"] = str(wish)
    return cls(event["message"], data=details)


def sendable(event: E) -> E | FailureEvent:
    """The event with its metadata as JSON keeps it, or the failure that JSON cannot hold the metadata."""
    if event["type"] == ERROR or not (metadata := event.get("metadata")):
        return event
    try:
        return {**event, "metadata": orjson.loads(orjson.dumps(metadata))}
    except TypeError as error:
        return unfit(error)
