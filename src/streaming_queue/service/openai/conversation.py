"""Messages of a request -> the question: their roles, their parts and their order are checked. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from streaming_queue.messages import MAX_QUESTION_BYTES, is_too_long
from streaming_queue.service.openai.parameters import Offence, Parameters, Strict, Text, clipped
from streaming_queue.service.openai.refusals import InvalidRequestError, TooLargeError
from streaming_queue.service.openai.transcript import ROLES, Role, Turn, transcript

Endpoint = Literal["/v1/chat/completions", "/v1/responses"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was accepted: the question, and what its answer must repeat.

    `text` is the question for the agent and `model` the name that the caller gave. `stream` asks for events, and
    `include_usage` for a last chunk with the counts of tokens. `instructions` are in `text`, too.
    """

    endpoint: Endpoint
    text: str
    model: str
    stream: bool = False
    include_usage: bool = False
    metadata: Mapping[str, str] | None = None
    instructions: str | None = None


class Part(Strict):
    """A part of a message that is text."""

    text: Text


def _kind(content: object) -> str:
    return "<text>" if isinstance(content, str) else "<parts>"


class Message(Strict):
    """One message: its content is a text or a list of parts."""

    role: Role
    content: Annotated[
        Annotated[Text, Tag("<text>")] | Annotated[list[Part], Field(min_length=1), Tag("<parts>")],
        Discriminator(_kind),
    ]

    def turn(self) -> Turn:
        """The message with its whole text; parts are joined by newlines, as in a payload."""
        content = self.content
        return Turn(self.role, content if isinstance(content, str) else "\n".join(part.text for part in content))


@dataclass(frozen=True, slots=True)
class MessageRules:
    """What an endpoint's messages may hold; `kinds` are the types of parts that are text."""

    message: Parameters
    part: Parameters
    kinds: tuple[str, ...]

    def offending(self, messages: object, path: str) -> Iterator[Offence]:
        """The members, roles and parts of `messages` that are not supported. Wrong types are left to `Message`."""
        for place, message in _objects(messages, path):
            yield from self._message(message, place)

    def _message(self, message: Mapping[str, Any], place: str) -> Iterator[Offence]:
        kind = message.get("type", "message")
        if kind != "message" and "type" in self.message.honoured:
            yield Offence(f"{place}.type", _found(kind))
            return  # an item of another kind has other members: its kind says it all
        yield from self.message.offending(message, f"{place}.")
        if isinstance(role := message.get("role"), str) and role not in ROLES:
            yield Offence(f"{place}.role", clipped(role))
        for spot, part in _objects(message.get("content"), f"{place}.content"):
            if part.get("type") in self.kinds:
                yield from self.part.offending(part, f"{spot}.")
            else:
                yield Offence(f"{spot}.type", _found(part.get("type")))


def question_text(messages: Sequence[Message], path: str, instructions: str | None = None) -> str:
    """The question that a conversation asks (`transcript`); `instructions` are its first turn.

    Raises InvalidRequestError if the last message is not the user's or has no text, and TooLargeError if the question
    is over `MAX_QUESTION_BYTES`.
    """
    turns = [message.turn() for message in messages]
    last = f"{path}[{len(turns) - 1}]"
    if turns[-1].role != "user":
        raise InvalidRequestError(
            f"{last}.role: the last message must be the user's", param=f"{last}.role", reason="invalid_value"
        )
    if not turns[-1].text.strip():
        raise InvalidRequestError(f"{last}.content: it has no text", param=f"{last}.content", reason="invalid_value")
    text = transcript([Turn("system", instructions), *turns] if instructions else turns)
    if is_too_long(text):
        raise TooLargeError(
            f"the question has more than {MAX_QUESTION_BYTES:,} bytes", param=path, reason="question_too_large"
        )
    return text


def _objects(values: object, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The objects in a list, each with its path."""
    for index, value in enumerate(values if isinstance(values, list) else ()):
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            yield f"{path}[{index}]", value


def _found(kind: object) -> str:
    return clipped(kind) if isinstance(kind, str) else "no text"
