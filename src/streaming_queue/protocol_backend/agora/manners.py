"""The ways in which a hosted agent is spoken to: what a body asks for, and how an end is told. No I/O."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import orjson

from streaming_queue.comm.payload import malformed
from streaming_queue.errors import StreamingQueueError, error_event
from streaming_queue.messages import MESSAGE, StreamEvent
from streaming_queue.protocol_backend.agora import routine
from streaming_queue.protocol_backend.agora.document import HASH, QUESTION_ANSWER
from streaming_queue.protocol_backend.agora.envelope import failure, success

PROPOSAL = f"""\
I speak by one protocol document, which needs no negotiation and cannot be changed. Take it as final, word for word; \
the base64 of its SHA-1 must be {HASH}. You may ask me in natural language as well.

{QUESTION_ANSWER}"""
FOLLOW = """\
The message below keeps to a protocol document. Reply as the document says, with the body of the reply and nothing else.

The protocol document:

{document}

The message:

{body}"""


@dataclass(frozen=True, slots=True)
class Ask:
    """The executor is to be asked."""

    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cancel:
    """The question with this idempotency key is to be cancelled."""

    key: str


@dataclass(frozen=True, slots=True)
class Say:
    """This is to be answered, and nobody is to be asked."""

    text: str


class Manner(ABC):
    """One way."""

    @abstractmethod
    def read(self, body: Any) -> Ask | Cancel | Say:
        """What is asked for. Raises ProtocolError when the body is none of this way."""

    def tell(self, end: StreamEvent) -> dict[str, Any]:
        """Agora's response to an execution's end."""
        return success(end["data"]) if end["type"] == MESSAGE else failure(str(end.get("message")))

    def refuse(self, error: StreamingQueueError) -> dict[str, Any]:
        """Agora's response to what cannot be done."""
        return self.tell(error_event(error))


class NaturalLanguage(Manner):
    """The body is the question, the answer is the body."""

    def read(self, body: Any) -> Ask:
        """The body as it is."""
        if not isinstance(body, str):
            raise malformed("in natural language the body is a text")
        return Ask({"text": body})


class QuestionAnswer(Manner):
    """By our own document: its failures are replies (specification 10.3)."""

    def read(self, body: Any) -> Ask | Cancel:
        """A question with its context, or a cancel."""
        payload = routine.read_request(body)
        return Cancel(payload["cancel"]) if "cancel" in payload else Ask(payload)

    def tell(self, end: StreamEvent) -> dict[str, Any]:
        """An answer with its metadata, or a failure."""
        return success(routine.write_end(end))


class Following(Manner):
    """By a document of others: the executor reads it with every message, and replies by it if it can."""

    def __init__(self, document: str) -> None:
        self._document = document

    def read(self, body: Any) -> Ask:
        """The document and the message."""
        text = body if isinstance(body, str) else orjson.dumps(body).decode()
        return Ask({"text": FOLLOW.format(document=self._document, body=text)})


class Negotiating(Manner):
    """Whoever wants to work out a document is told ours."""

    def read(self, body: Any) -> Say:
        """Our document, whatever is proposed."""
        del body
        return Say(PROPOSAL)


NATURAL_LANGUAGE, QUESTION_ANSWERING, NEGOTIATING = NaturalLanguage(), QuestionAnswer(), Negotiating()
