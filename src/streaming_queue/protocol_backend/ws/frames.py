"""The contract's frames: each is a JSON object in a text message (docs/protocols/ws.md). No I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import orjson
from websockets.typing import Subprotocol

from streaming_queue.comm import strict_json
from streaming_queue.comm.answer_limit import MAX_EVENT_BYTES, over_limit
from streaming_queue.comm.payload import encode_document, encode_payload, malformed
from streaming_queue.comm.wire_errors import excerpt
from streaming_queue.errors import AgentFailedError, ProtocolError, error_from_event
from streaming_queue.messages import ERROR, StreamEvent, is_event

SUBPROTOCOL = Subprotocol("streaming-queue.v1")
LIMIT_HEADER = "stq-request-limit"
"""Header of the handshake's answer: the largest frame that this host accepts, in bytes."""
REQUEST_LIMIT = 1024 * 1024
"""The limit of a host without this header."""

REQUEST, CANCEL, HEARTBEAT, PING, PONG = "request", "cancel", "heartbeat", "ping", "pong"
MAX_ID = 2**53 - 1
"""The largest integer that every JSON reader keeps exactly (RFC 8259, 6)."""


class RefusedCallError(ProtocolError):
    """A frame that the host refuses; `number` is the frame's id."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message, retryable=False)
        self.number = number


def encode_request(number: int, payload: Mapping[str, Any], *, streaming: bool) -> bytes:
    """A message to an agent.

    Raises:
        ConfigError: the payload has neither text nor parts.
        ProtocolError: JSON cannot hold it; not retryable.
    """
    frame = {"type": REQUEST, "id": number, **encode_payload(payload)}
    if metadata := payload.get("metadata"):
        frame["metadata"] = metadata
    if streaming:
        frame["stream"] = True
    return encode_document(frame)


def encode_cancel(number: int) -> bytes:
    """The frame that cancels this request."""
    return orjson.dumps({"type": CANCEL, "id": number})


def encode_ping(number: int) -> bytes:
    """The probe: the agent answers whether it takes questions."""
    return orjson.dumps({"type": PING, "id": number})


def encode_pong(number: int, agent_id: str, *, ready: bool) -> bytes:
    """The answer to a ping."""
    return orjson.dumps({"type": PONG, "id": number, "status": "ok" if ready else "draining", "agent_id": agent_id})


def encode_heartbeat(numbers: Collection[int]) -> bytes:
    """The frame that reports that these requests are in flight."""
    return orjson.dumps({"type": HEARTBEAT, "ids": list(numbers)})


def encode_event(number: int, event: StreamEvent) -> bytes:
    """One event of an answer.

    Raises:
        AgentFailedError: JSON cannot hold it.
        ProtocolError: it is over the limit of an event.
    """
    try:
        data = orjson.dumps({**event, "id": number})
    except TypeError as error:
        raise AgentFailedError(f"the agent's answer cannot be sent as JSON: {error}") from error
    if len(data) > MAX_EVENT_BYTES:
        raise over_limit(what="an event of the agent's answer", limit=MAX_EVENT_BYTES)
    return data


def decode_call(data: str | bytes) -> tuple[str, int, dict[str, Any]]:
    """A client's frame: its type, its id and itself.

    Raises RefusedCallError if it has too many values, ProtocolError if it is not a frame: then it has no id to answer.
    """
    if not isinstance(data, str):
        raise malformed("frames must be text, this one is binary")
    try:
        frame = strict_json.loads(data.encode())
    except strict_json.OverBoundsError as error:
        raise RefusedCallError(_number(_loaded(data)), f"the frame is over the limits: {error}") from error
    except ValueError as error:
        raise malformed(f"the frame is not valid JSON: {error}") from error
    number = _number(frame)
    return str(frame.get("type")), number, frame


def _number(frame: Any) -> int:
    if not isinstance(frame, dict):
        raise malformed("a frame must be a JSON object")
    number = frame.get("id")
    if type(number) is not int or not 1 <= number <= MAX_ID:
        raise malformed(f'a frame must have "id", an integer from 1 to {MAX_ID}')
    return number


def _loaded(data: str) -> Any:
    """Read an oversized frame to get its id: its connection has other requests in flight."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise malformed(f"the frame is not valid JSON: {error}") from error


def decode_answer(data: str | bytes) -> tuple[dict[str, Any], str]:
    """A host's frame and its text. Raises ProtocolError on any other data, not retryable on too many values."""
    if not isinstance(data, str):
        raise ProtocolError("frames must be text, this one is binary")
    frame = strict_json.read_answer(data, "a frame")
    if not isinstance(frame, dict):
        raise ProtocolError(f"a frame is not a JSON object{excerpt(data[:120].encode())}")
    return frame, data


def decode_event(frame: dict[str, Any], origin: str) -> StreamEvent:
    """The event in a host's frame. Raises the error of an error event, and ProtocolError if it is not an event."""
    if frame.get("type") == ERROR:
        raise error_from_event(frame, origin)
    event = {key: value for key, value in frame.items() if key != "id" and value is not None}
    if not is_event(event):
        raise ProtocolError(f"{origin}: a frame is not an event{excerpt(orjson.dumps(frame))}")
    return event
