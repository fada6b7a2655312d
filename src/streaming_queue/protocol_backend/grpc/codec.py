"""Messages and answers of `agent.proto`, with the call's context in metadata. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC
from typing import Any

import orjson
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as ProtobufMessage

from streaming_queue.comm import strict_json
from streaming_queue.comm.answer_limit import AnswerMeter
from streaming_queue.comm.context_headers import read_context, write_trace
from streaming_queue.comm.payload import decode_object, malformed
from streaming_queue.errors import AgentFailedError, ConfigError, ProtocolError
from streaming_queue.messages import DELTA, MESSAGE, STATUS, Message, Reply, ReplyMetadata, TextEvent, is_metadata
from streaming_queue.protocol_backend.grpc import agent_pb2

SERVICE: str = agent_pb2.DESCRIPTOR.services_by_name["Agent"].full_name
HEARTBEAT = b""
"""An event without any field, on the wire."""


def encode_message(payload: Mapping[str, Any], message_id: str) -> tuple[bytes, dict[str, str], float | None]:
    """The message, the call's metadata and its deadline in seconds; a command has no deadline.

    Raises:
        ConfigError: the payload has neither text nor parts.
        ProtocolError: a part is not text, or JSON cannot hold the metadata; not retryable.
    """
    headers, metadata = write_trace(payload.get("metadata") or {})
    seconds = None
    deadline_ms = metadata.get("deadline_ms")
    if metadata.get("kind") != "command" and type(deadline_ms) is int and deadline_ms >= 0:
        # The library rounds up to about three digits: with a millisecond less, 10 s stay 10 s and do not become 10.1.
        seconds = max(0, metadata.pop("deadline_ms") - 1) / 1000
    try:
        message = agent_pb2.Message(id=message_id, metadata_json=orjson.dumps(metadata).decode() if metadata else "")
        if "text" in payload:
            message.text = payload["text"]
        elif "parts" in payload:
            message.parts.extend(agent_pb2.Part(text=_part_text(part)) for part in payload["parts"])
        else:
            raise ConfigError('a payload needs "text" or "parts"')
        return serialize(message), headers, seconds
    except (TypeError, UnicodeError) as error:
        raise malformed(f"the payload cannot be sent: {error}") from error


def _part_text(part: Any) -> str:
    if not isinstance(part, Mapping) or part.get("kind", "text") != "text" or not isinstance(part.get("text"), str):
        raise malformed("grpc carries text parts only")
    text: str = part["text"]
    return text


def decode_message(
    message: agent_pb2.Message, headers: Mapping[str, str], seconds_left: float | None
) -> dict[str, Any]:
    """The payload of a message, with the call's context in its metadata. Raises ProtocolError if it is not valid."""
    payload: dict[str, Any] = {}
    if len(message.parts) > strict_json.MAX_VALUES:
        raise malformed(f"the message has more than {strict_json.MAX_VALUES:,} parts")
    if message.parts:
        payload["parts"] = [{"kind": "text", "text": part.text} for part in message.parts]
    else:
        payload["text"] = message.text
    metadata = read_context(headers)
    if seconds_left is not None:
        metadata["deadline_ms"] = int(seconds_left * 1000)
    if message.metadata_json:
        metadata = {**decode_object(message.metadata_json.encode(), "metadata_json"), **metadata}
    if metadata:
        payload["metadata"] = metadata
    return payload


def encode_answer(end: Message) -> bytes:
    """An execution's answer. Raises AgentFailedError if the service cannot carry it."""
    with _sendable():
        return serialize(agent_pb2.Answer(text=end["data"], metadata_json=_json(end.get("metadata"))))


def encode_event(event: TextEvent) -> bytes:
    """An event of a stream; a failure is not an event but the call's status. Raises like `encode_answer`."""
    text = event["data"]
    with _sendable():
        if event["type"] == DELTA:
            return serialize(agent_pb2.Event(delta=text))
        metadata_json = _json(event.get("metadata"))
        if event["type"] == STATUS:
            return serialize(agent_pb2.Event(status=agent_pb2.Status(text=text, metadata_json=metadata_json)))
        return serialize(agent_pb2.Event(answer=agent_pb2.Answer(text=text, metadata_json=metadata_json)))


@contextmanager
def _sendable() -> Iterator[None]:
    try:
        yield
    except (TypeError, UnicodeError) as error:
        raise AgentFailedError(f"the agent's answer cannot be sent: {error}") from error


def serialize(message: ProtobufMessage) -> bytes:
    """The bytes of a message."""
    body: bytes = message.SerializeToString()
    return body


def _json(metadata: Mapping[str, Any] | None) -> str:
    return orjson.dumps(metadata).decode() if metadata else ""


def decode_answer(body: bytes, address: str) -> Reply:
    """The reply in an answer; `raw` is the message. Raises ProtocolError if it is not an answer."""
    try:
        return _reply(agent_pb2.Answer.FromString(body), address)
    except DecodeError as error:
        raise ProtocolError(f"{address}: the response is not an answer: {error}") from error


def decode_event(body: bytes, address: str) -> TextEvent | None:
    """The event in a message of a stream, None for a heartbeat. Raises ProtocolError if it is not an event."""
    try:
        event = agent_pb2.Event.FromString(body)
    except DecodeError as error:
        raise ProtocolError(f"{address}: a message of the stream is not an event: {error}") from error
    kind = event.WhichOneof("event")
    if kind is None:
        return None
    if kind == "delta":
        return {"type": DELTA, "data": event.delta}
    decoded: TextEvent
    if kind == "status":
        decoded = {"type": STATUS, "data": event.status.text}
        metadata_json = event.status.metadata_json
    else:
        decoded = {"type": MESSAGE, "data": event.answer.text}
        metadata_json = event.answer.metadata_json
    if metadata_json:
        decoded["metadata"] = _reply_object(metadata_json, address)
    return decoded


def encode_description(agent_id: str, executor: object) -> bytes:
    """An agent's description, from the `description` and `skills` of its executor."""
    description = agent_pb2.Description(agent_id=agent_id, description=str(getattr(executor, "description", "")))
    description.skills.extend(agent_pb2.Skill(**asdict(skill)) for skill in getattr(executor, "skills", ()))
    description.time.GetCurrentTime()
    return serialize(description)


def decode_description(body: bytes, address: str) -> dict[str, Any]:
    """The facts in a description. Raises ProtocolError if it is not a description."""
    try:
        said = agent_pb2.Description.FromString(body)
        facts: dict[str, Any] = {"name": said.agent_id, "about": said.description}
        facts["skills"] = [skill.name for skill in said.skills]
        if said.HasField("time"):
            facts["date"] = said.time.ToDatetime(tzinfo=UTC)
    except (DecodeError, ValueError) as error:
        raise ProtocolError(f"{address}: the response is not a description: {error}") from error
    return {key: value for key, value in facts.items() if value}


def _reply(answer: agent_pb2.Answer, address: str) -> Reply:
    AnswerMeter(address).whole(answer.text)
    reply = Reply(raw=answer, text=answer.text)
    if answer.metadata_json:
        reply["metadata"] = _reply_object(answer.metadata_json, address)
    return reply


def _reply_object(text: str, address: str) -> ReplyMetadata:
    document = strict_json.read_answer(text, address)
    if not is_metadata(document):
        raise ProtocolError(f"{address}: metadata_json is not a JSON object: {text[:120]!a}")
    return document
