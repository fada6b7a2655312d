"""JSON-RPC 2.0, for every protocol that uses it: requests, responses and their errors. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from streaming_queue.comm import strict_json
from streaming_queue.comm.payload import malformed
from streaming_queue.comm.wire_errors import excerpt
from streaming_queue.errors import (
    ERRORS_BY_CODE,
    ProtocolError,
    RemoteError,
    StreamingQueueError,
    error_event,
    error_from_event,
)
from streaming_queue.messages import ERROR, MESSAGE, StreamEvent, is_event

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
AGENT_ERROR = -32000
"""The code of an agent's failure; `data` is the `agent_error` event. JSON-RPC leaves this code to servers."""

EVENT_METHOD = "event"
"""The method of a notification that carries an event of an answer, from our host to our client."""

Message = Mapping[str, Any]
CallId = str | int | float | None

Verdicts = dict[Any, tuple[type[StreamingQueueError], bool]]
"""An error's code -> the class of the error, and whether a retry can help."""
VERDICTS: Verdicts = {
    PARSE_ERROR: (ProtocolError, False),
    INVALID_REQUEST: (ProtocolError, False),
    METHOD_NOT_FOUND: (ProtocolError, True),
    INVALID_PARAMS: (ProtocolError, False),
    INTERNAL_ERROR: (RemoteError, True),
}
"""JSON-RPC's own codes (JSON-RPC 2.0, 5.1). A protocol adds its own."""


_OUR_MISTAKES: Verdicts = dict.fromkeys(
    (PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS), (RemoteError, False)
)
ReadError = Callable[[Any, str], StreamingQueueError]
"""Translates a response's error object; the second argument is the prefix of the error's text."""


class BadCallError(ProtocolError):
    """A request that is not a valid call. `rpc_code` gives the reason (JSON-RPC 2.0, 5.1), `call_id` the call's id."""

    def __init__(self, rpc_code: int, message: str, call_id: CallId = None) -> None:
        super().__init__(message, retryable=False)
        self.rpc_code = rpc_code
        self.call_id = call_id


@dataclass(frozen=True, slots=True)
class Call:
    """A method, its parameters by name, and the id of the call."""

    call_id: CallId
    method: str
    params: Mapping[str, Any]


def encode(message: Message) -> bytes:
    """A message as JSON. Raises ProtocolError, not retryable, if JSON cannot hold it."""
    try:
        return orjson.dumps(message)
    except TypeError as error:
        raise malformed(f"the message cannot be sent as JSON: {error}") from error


def encode_call(call: Call) -> bytes:
    """A request. Raises like `encode`."""
    return encode({"jsonrpc": "2.0", "id": call.call_id, "method": call.method, "params": call.params})


def encode_notification(method: str, params: Mapping[str, Any] | None = None) -> bytes:
    """A notification. Raises like `encode`."""
    return encode({"jsonrpc": "2.0", "method": method} | ({} if params is None else {"params": params}))


def decode_call(body: bytes) -> Call:
    """The call in a request. Raises BadCallError, also on a batch and on a notification."""
    try:
        document = strict_json.loads(body)
    except ValueError as error:
        raise BadCallError(PARSE_ERROR, f"the body is no valid JSON: {error}") from error
    if not isinstance(document, dict) or document.get("jsonrpc") != "2.0":
        raise BadCallError(INVALID_REQUEST, "the body must be one JSON-RPC 2.0 request")
    call_id, method, params = document.get("id"), document.get("method"), document.get("params", {})
    if not isinstance(call_id, str | int | float) or isinstance(call_id, bool):
        raise BadCallError(INVALID_REQUEST, "a call needs an id, a string or a number")
    if not isinstance(method, str):
        raise BadCallError(INVALID_REQUEST, "a call needs a method", call_id)
    if not isinstance(params, dict):
        raise BadCallError(INVALID_PARAMS, "the parameters must be an object, by name", call_id)
    return Call(call_id, method, params)


def encode_result(call_id: CallId, result: Mapping[str, Any]) -> bytes:
    """A response. Raises TypeError if JSON cannot hold it."""
    return orjson.dumps({"jsonrpc": "2.0", "id": call_id, "result": result})


def encode_error(call_id: CallId, error: StreamingQueueError) -> bytes:
    """A response with an error."""
    event, code = error_event(error), error.rpc_code if isinstance(error, BadCallError) else AGENT_ERROR
    said = {"code": code, "message": event["message"], "data": event}
    return orjson.dumps({"jsonrpc": "2.0", "id": call_id, "error": said})


def encode_event(call_id: CallId, event: StreamEvent) -> bytes:
    """An event of an answer: a notification, or the response at the end. Raises TypeError if JSON cannot hold it."""
    if event["type"] == ERROR:
        error = {"code": AGENT_ERROR, "message": event["message"], "data": event}
        return orjson.dumps({"jsonrpc": "2.0", "id": call_id, "error": error})
    if event["type"] == MESSAGE:
        metadata = event.get("metadata")
        return encode_result(call_id, {"text": event["data"], **({"metadata": metadata} if metadata else {})})
    return orjson.dumps({"jsonrpc": "2.0", "method": EVENT_METHOD, "params": event})


def decode_event(body: bytes, origin: str) -> StreamEvent | None:
    """The delta or status in a notification; None if the body is a response. Raises ProtocolError."""
    document = strict_json.read_answer(body, origin)
    if not isinstance(document, dict) or document.get("method") != EVENT_METHOD:
        return None
    event = document.get("params")
    if not is_event(event) or event["type"] == MESSAGE:
        raise ProtocolError(f"{origin}: a message of the stream is not an event{excerpt(body)}")
    return event


def decode_messages(body: bytes, origin: str) -> list[Message]:
    """The messages in a body: one, or those of a batch. Raises ProtocolError, with the prefix `origin`."""
    document = strict_json.read_answer(body, origin)
    messages = document if isinstance(document, list) else [document]
    if not messages or not all(isinstance(message, dict) for message in messages):
        raise ProtocolError(f"{origin}: the answer is not JSON-RPC{excerpt(body)}")
    return messages


def decode_object(body: bytes, origin: str) -> dict[str, Any]:
    """The JSON object in a body. Raises ProtocolError if the body is not a JSON object."""
    document = strict_json.read_answer(body, origin)
    if not isinstance(document, dict):
        raise ProtocolError(f"{origin}: the answer is not a JSON object{excerpt(body) or ': it is empty'}")
    return document


def is_response(message: Message) -> bool:
    """Whether a message is a response, rather than a request or a notification."""
    return "method" not in message and ("result" in message or "error" in message)


def refuse_request(message: Message) -> bytes | None:
    """Our answer to a server's request: a pong to a ping, a refusal to others; None if the message is not a request."""
    if "method" not in message or message.get("id") is None:
        return None
    reply: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
    if message["method"] == "ping":
        return encode({**reply, "result": {}})
    return encode({**reply, "error": {"code": METHOD_NOT_FOUND, "message": "this client takes no requests"}})


def decode_response(body: bytes, call_id: CallId, origin: str, failure: ReadError) -> Any:
    """The result in the response to a call. Raises like `decode_object` and `result_of`."""
    return result_of(decode_object(body, origin), call_id, origin, failure)


def result_of(response: Message, call_id: CallId, origin: str, failure: ReadError) -> Any:
    """The result in a response; errors have the prefix `origin`.

    Raises:
        StreamingQueueError: the response's error, translated by `failure`.
        ProtocolError: the message is not a response, or is the response to another call.
    """
    error = response.get("error")
    if ("result" in response) == (error is not None):
        raise ProtocolError(f"{origin}: the response has neither result nor error, or both: {str(response)[:120]!a}")
    if error is not None:
        raise failure(error, origin)
    if response.get("id") != call_id:
        raise ProtocolError(f"{origin}: the response belongs to another call: {str(response.get('id'))[:40]!a}")
    return response["result"]


def failure_of(error: Any, origin: str, protocol: str, verdicts: Verdicts) -> StreamingQueueError:
    """The error for a response's error object, by its code; an unknown code is a retryable RemoteError."""
    if not isinstance(error, Mapping):
        return ProtocolError(f"{origin}: the response's error is not an object: {str(error)[:120]!a}")
    code = error.get("code")
    code = code if isinstance(code, int) else str(code)[:20]
    cls, retryable = verdicts.get(code, (RemoteError, True))
    said = f"{origin}: {protocol} error {code!a}: {str(error.get('message'))[:500]!a}"
    return cls(said, retryable=retryable)


def agent_failure(error: Any, origin: str) -> StreamingQueueError:
    """The error for a response to `ask`: the class that our host's agent raised; else a RemoteError."""
    event = error.get("data") if isinstance(error, Mapping) else None
    if isinstance(event, dict) and str(event.get("code")) in ERRORS_BY_CODE:
        return error_from_event(event, origin)
    return failure_of(error, origin, "ANP", _OUR_MISTAKES)
