"""Messages and the events of their answers, by the contract (docs/protocols/nats.md). No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from streaming_queue.comm import strict_json
from streaming_queue.comm.context_headers import read_context
from streaming_queue.comm.payload import decode_object, decode_payload
from streaming_queue.comm.wire_errors import excerpt
from streaming_queue.errors import AgentFailedError, ProtocolError, error_event, error_from_event
from streaming_queue.messages import ERROR, StreamEvent, is_event

HEARTBEAT = "agent_heartbeat"
"""The event that reports that the agent works."""
QUEUE_GROUP = "stq"
"""The queue group of an agent's instances: each message goes to one of them."""
CREDENTIAL_HEADER = "authorization"
"""The header with the sender's bearer credential; a probe with this header checks the credential."""
STREAM_HEADER, STREAM = "stq-stream", "1"
"""The header of a message that asks for a stream of events."""
NO_RESPONDERS_HEADERS: Mapping[str, str] = {"Status": "503"}
"""The headers of the server's answer when a subject has no receiver, and of a receiver that forgot the request."""


def decode_request(body: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
    """The payload of a message, with the context headers in its metadata. Raises ProtocolError if it is not valid."""
    payload = decode_payload(decode_object(body, "the message"))
    if context := read_context(headers):
        payload["metadata"] = {**payload.get("metadata", {}), **context}
    return payload


def encode_event(event: StreamEvent | None) -> bytes:
    """One event; if JSON cannot hold the event, this failure instead."""
    try:
        return orjson.dumps({"type": HEARTBEAT} if event is None else event)
    except TypeError as error:
        return orjson.dumps(error_event(AgentFailedError(f"the agent's answer cannot be sent as JSON: {error}")))


def decode_event(body: bytes, origin: str) -> StreamEvent | None:
    """The event in a reply, also a heartbeat. Errors have the prefix `origin`.

    Raises:
        StreamingQueueError: the error that an error event describes, as the same class.
        ProtocolError: it is not an event.
    """
    event = strict_json.read_answer(body, origin)
    kind = event.get("type") if isinstance(event, dict) else None
    if kind == HEARTBEAT:
        return None
    if kind == ERROR:
        raise error_from_event(event, origin)
    if not is_event(event):
        raise ProtocolError(f"{origin}: a reply is not an event{excerpt(body) or ': it is empty'}")
    return event


def encode_health(agent_id: str, *, ready: bool) -> bytes:
    """An agent's answer to a probe; `ready`: it takes questions."""
    return orjson.dumps({"status": "ok" if ready else "draining", "agent_id": agent_id})


def decode_health(body: bytes, origin: str) -> dict[str, Any]:
    """An agent's answer to a probe. Raises the error of an error event, and ProtocolError on garbage."""
    document = strict_json.read_answer(body, origin)
    if not isinstance(document, dict):
        raise ProtocolError(f"{origin}: the answer to a probe is not a JSON object{excerpt(body) or ': it is empty'}")
    if document.get("type") == ERROR:
        raise error_from_event(document, origin)
    return document


def is_no_responders(body: bytes, headers: Mapping[str, str] | None) -> bool:
    """Whether a message reports that its subject has no receiver."""
    return not body and headers is not None and headers.get("Status") == NO_RESPONDERS_HEADERS["Status"]
