"""JSON-RPC 2.0 as both halves write it. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from streaming_queue.comm import strict_json
from streaming_queue.comm.client.http import excerpt
from streaming_queue.comm.payload import malformed
from streaming_queue.comm.strict_json import read_answer
from streaming_queue.errors import (
    ERRORS_BY_CODE,
    AgentFailedError,
    ProtocolError,
    RemoteError,
    StreamingQueueError,
    error_event,
    error_from_event,
)
from streaming_queue.messages import DELTA, ERROR, MESSAGE, STATUS, StreamEvent

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602
AGENT_ERROR = -32000
"""An agent's failure; `data` is the `agent_error` event (of the codes that JSON-RPC leaves to servers)."""

EVENT_METHOD = "event"

_OUR_MISTAKES = frozenset({PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS})

CallId = str | int | float | None


class BadCallError(ProtocolError):
    """A request that is no call of ours; `rpc_code` says why (JSON-RPC 2.0, 5.1), `call_id` whose it is."""

    def __init__(self, rpc_code: int, message: str, call_id: CallId = None) -> None:
        super().__init__(message, retryable=False)
        self.rpc_code = rpc_code
        self.call_id = call_id


@dataclass(frozen=True, slots=True)
class Call:
    """A method, its parameters by name, and the id under which the answer is awaited."""

    call_id: CallId
    method: str
    params: dict[str, Any]


def encode_call(call: Call) -> bytes:
    """A request. Raises ProtocolError when JSON cannot hold it; not retryable."""
    try:
        return orjson.dumps({"jsonrpc": "2.0", "id": call.call_id, "method": call.method, "params": call.params})
    except TypeError as error:
        raise malformed(f"the payload cannot be sent as JSON: {error}") from error


def decode_call(body: bytes) -> Call:
    """The call in a request. Raises BadCallError; batches and notifications are none."""
    try:
        document = strict_json.loads(body)
    except ValueError as error:
        raise BadCallError(PARSE_ERROR, f"the body is no valid JSON: {error}") from error
    if not isinstance(document, dict) or document.get("jsonrpc") != "2.0":
        raise BadCallError(INVALID_REQUEST, "the body must be one JSON-RPC 2.0 request")
    call_id, method, params = document.get("id"), document.get("method"), document.get("params", {})
    if not isinstance(call_id, str | int | float) or isinstance(call_id, bool):
        raise BadCallError(INVALID_REQUEST, "a call has an id, a string or a number")
    if not isinstance(method, str):
        raise BadCallError(INVALID_REQUEST, "a call has a method", call_id)
    if not isinstance(params, dict):
        raise BadCallError(INVALID_PARAMS, "parameters are given by name, as an object", call_id)
    return Call(call_id, method, params)


def encode_result(call_id: CallId, result: Mapping[str, Any]) -> bytes:
    """A response. Raises TypeError when JSON cannot hold it."""
    return orjson.dumps({"jsonrpc": "2.0", "id": call_id, "result": result})


def encode_error(call_id: CallId, error: StreamingQueueError | StreamEvent) -> bytes:
    """The response that says what failed: an error of ours, or its event."""
    event = error_event(error) if isinstance(error, StreamingQueueError) else error
    code = error.rpc_code if isinstance(error, BadCallError) else AGENT_ERROR
    told = {"code": code, "message": event.get("message"), "data": event}
    try:
        return orjson.dumps({"jsonrpc": "2.0", "id": call_id, "error": told})
    except TypeError as unfit:
        return encode_error(call_id, AgentFailedError(f"the agent's failure cannot be sent as JSON: {unfit}"))


def encode_end(call_id: CallId, end: StreamEvent) -> bytes:
    """The response for an execution's end."""
    if end["type"] == ERROR:
        return encode_error(call_id, end)
    answer = {"text": end["data"]}
    if end.get("metadata"):
        answer["metadata"] = end["metadata"]
    try:
        return encode_result(call_id, answer)
    except TypeError as error:
        return encode_error(call_id, AgentFailedError(f"the agent's answer cannot be sent as JSON: {error}"))


def encode_event(call_id: CallId, event: StreamEvent) -> bytes:
    """An event of a stream: a notification, or, at the end, the response."""
    if event["type"] in (MESSAGE, ERROR):
        return encode_end(call_id, event)
    try:
        return orjson.dumps({"jsonrpc": "2.0", "method": EVENT_METHOD, "params": event})
    except TypeError as error:
        return encode_error(call_id, AgentFailedError(f"the agent's event cannot be sent as JSON: {error}"))


def decode_event(body: bytes, origin: str) -> StreamEvent | None:
    """The delta or status in a notification; None where it is something else: a response. Raises ProtocolError."""
    document = read_answer(body, origin)
    if not isinstance(document, dict) or document.get("method") != EVENT_METHOD:
        return None
    event = document.get("params")
    if (
        not isinstance(event, dict)
        or event.get("type") not in (DELTA, STATUS)
        or not isinstance(event.get("data"), str)
    ):
        raise ProtocolError(f"{origin}: a message of the stream is no event{excerpt(body)}")
    return event


def decode_response(body: bytes, call_id: CallId, origin: str) -> Any:
    """The result in a response; `origin` is put before errors.

    Raises:
        StreamingQueueError: what the agent raised, as the same class.
        RemoteError: an error of an agent that has no such classes; not retryable where it says that the call is wrong.
        ProtocolError: it is no response to this call.
    """
    document = read_answer(body, origin)
    if not isinstance(document, dict) or ("result" in document) == ("error" in document):
        what = "what came back is no JSON-RPC response" if body else "an empty body came back"
        raise ProtocolError(f"{origin}: {what}{excerpt(body)}")
    if "error" in document:
        raise _told(document["error"], origin, body)
    if document.get("id") != call_id:
        raise ProtocolError(f"{origin}: the response is that of another call{excerpt(body)}")
    return document["result"]


def _told(error: Any, origin: str, body: bytes) -> StreamingQueueError:
    if not isinstance(error, dict):
        return ProtocolError(f"{origin}: the response's error is no object{excerpt(body)}")
    event, code = error.get("data"), error.get("code")
    if isinstance(event, dict) and str(event.get("code")) in ERRORS_BY_CODE:
        return error_from_event(event, origin)
    said = f"{origin}: answered with error {code!a}: {str(error.get('message'))[:500]!a}"
    return RemoteError(said, retryable=code not in _OUR_MISTAKES)
