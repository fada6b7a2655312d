"""JSON-RPC 2.0 as MCP uses it: what is sent, and what an answer says. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from streaming_queue.comm.client.http import excerpt
from streaming_queue.comm.payload import malformed
from streaming_queue.comm.strict_json import read_answer
from streaming_queue.errors import AgentFailedError, ProtocolError, RemoteError, StreamingQueueError

Message = Mapping[str, Any]


class LostSessionError(RemoteError):
    """The server does not know the session any more: a new one may be begun."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request, and the headers it has where it goes over HTTP."""

    id: int
    method: str
    params: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        """As JSON. Raises ProtocolError, not retryable, when JSON cannot hold it."""
        return encode({"jsonrpc": "2.0", "id": self.id, "method": self.method, "params": self.params})


def encode(message: Message) -> bytes:
    """A message as JSON. Raises ProtocolError, not retryable, when JSON cannot hold it."""
    try:
        return orjson.dumps(message)
    except TypeError as error:
        raise malformed(f"the message cannot be sent as JSON: {error}") from error


def notification(method: str, params: Mapping[str, Any] | None = None) -> bytes:
    """A notification as JSON."""
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    return encode(message if params is None else {**message, "params": params})


def decode(body: bytes, origin: str) -> list[Message]:
    """The messages in a body: one, or those of a batch. Raises ProtocolError; `origin` is put before it."""
    document = read_answer(body, origin)
    messages = document if isinstance(document, list) else [document]
    if not messages or not all(isinstance(message, dict) for message in messages):
        raise ProtocolError(f"{origin}: what came back is no JSON-RPC{excerpt(body)}")
    return messages


def is_response(message: Message) -> bool:
    """Whether a message is a response, rather than a request or a notification."""
    return "method" not in message and ("result" in message or "error" in message)


def refuse_request(message: Message) -> bytes | None:
    """What we answer to a request of a server's own: a ping gets its pong, all else is not supported.

    None where the message is no request.
    """
    if "method" not in message or message.get("id") is None:
        return None
    reply: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
    if message["method"] == "ping":
        return encode({**reply, "result": {}})
    return encode({**reply, "error": {"code": -32601, "message": "this client takes no requests"}})


def result_of(response: Message, origin: str) -> Mapping[str, Any]:
    """The result in a response. Raises what its error means, and ProtocolError when it is no response."""
    if response.get("error") is not None:
        raise rpc_error(response["error"], origin)
    result = response.get("result")
    if not isinstance(result, dict):
        raise ProtocolError(f"{origin}: the result is no object: {str(result)[:120]!a}")
    return result


BY_CODE: Mapping[int, tuple[type[StreamingQueueError], bool]] = {
    -32700: (ProtocolError, False),  # parse error
    -32600: (ProtocolError, False),  # invalid request
    -32601: (ProtocolError, True),  # method not found
    -32602: (ProtocolError, False),  # invalid params, an unknown tool
    -32603: (RemoteError, True),  # internal error
    -32020: (ProtocolError, False),  # headers do not match the body
    -32021: (ProtocolError, True),  # the client lacks a capability
    -32022: (ProtocolError, True),  # unsupported protocol version
    -32042: (AgentFailedError, True),  # a person has to visit a URL first
    -32800: (AgentFailedError, True),  # the request was cancelled at the server
}
"""MCP's codes (basic/index, "Error Codes") -> the class, and whether another server may do better."""


def rpc_error(error: Any, origin: str) -> StreamingQueueError:
    """The error object of a response."""
    if not isinstance(error, Mapping):
        return ProtocolError(f"{origin}: its error is no object: {str(error)[:120]!a}")
    code = error.get("code")
    cls, retryable = BY_CODE.get(code, (RemoteError, True)) if isinstance(code, int) else (RemoteError, True)
    said = f"{origin}: MCP error {str(code)[:20]!a}: {str(error.get('message'))[:300]!a}"
    data = error.get("data")
    if code == -32022 and isinstance(data, Mapping) and isinstance(data.get("supported"), list):
        said += f"; it supports {', '.join(ascii(version)[:40] for version in data['supported'][:10])}"
    return cls(said, retryable=retryable)
