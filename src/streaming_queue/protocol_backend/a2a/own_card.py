"""The card of an agent hosted here, for each name it is reached by."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

import orjson
from a2a.server.request_handlers.response_helpers import agent_card_to_dict
from a2a.types.a2a_pb2 import (
    AgentCapabilities,
    AgentCard,
    AgentExtension,
    AgentInterface,
    AgentSkill,
    HTTPAuthSecurityScheme,
    SecurityRequirement,
    SecurityScheme,
    StringList,
)

from streaming_queue import __version__
from streaming_queue.protocol_backend.a2a.dialect import CALL_EXTENSION

MAX_AGE_S = 60
_BINDINGS = (("JSONRPC", "1.0", "/"), ("HTTP+JSON", "1.0", ""), ("JSONRPC", "0.3", "/"), ("HTTP+JSON", "0.3", ""))
_NAMES_KEPT = 100

Header = tuple[bytes, bytes]


def agent_card(agent_id: str, base_url: str, *, guarded: bool, call_extension: bool) -> AgentCard:
    """The card of a text agent at `base_url`; `guarded`: it takes requests with a bearer credential only."""
    card = AgentCard(
        name=agent_id,
        description="Answers questions in plain text.",
        version=__version__,
        capabilities=AgentCapabilities(streaming=True, push_notifications=False),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[
            AgentSkill(
                id="answer",
                name="Answer",
                description="Takes a question or a command as text and answers in text.",
                tags=["question-answering"],
                examples=["status"],
            )
        ],
        supported_interfaces=[
            AgentInterface(url=f"{base_url}{path}", protocol_binding=binding, protocol_version=version)
            for binding, version, path in _BINDINGS
        ],
    )
    if call_extension:
        purpose = "Reads the call's context from the message's metadata; a message under way is cancelled by its id."
        card.capabilities.extensions.append(AgentExtension(uri=CALL_EXTENSION, description=purpose))
    if guarded:
        card.security_schemes["bearer"].CopyFrom(
            SecurityScheme(http_auth_security_scheme=HTTPAuthSecurityScheme(scheme="bearer"))
        )
        card.security_requirements.append(SecurityRequirement(schemes={"bearer": StringList()}))
    return card


@dataclass(frozen=True, slots=True)
class _Served:
    body: bytes
    etag: bytes


class CardDesk:
    """Serves the card: every interface stands at the origin by which the card was asked for."""

    def __init__(self, agent_id: str, *, guarded: bool, call_extension: bool) -> None:
        self._agent_id = agent_id
        self._options: Mapping[str, Any] = {"guarded": guarded, "call_extension": call_extension}
        self._modified = formatdate(time.time(), usegmt=True).encode()
        self._by_origin: dict[str, _Served] = {}

    def _served(self, origin: str) -> _Served:
        served = self._by_origin.get(origin)
        if served is None:
            card = agent_card(self._agent_id, origin, **self._options)
            body = orjson.dumps(agent_card_to_dict(card))
            served = _Served(body, b'"%s"' % hashlib.sha256(body).hexdigest()[:32].encode())
            if len(self._by_origin) < _NAMES_KEPT:
                self._by_origin[origin] = served
        return served

    def response(self, origin: str, headers: Mapping[bytes, bytes]) -> tuple[int, list[Header], bytes]:
        """Status, headers and body; 304 where the caller holds this very card."""
        served = self._served(origin)
        fields = [
            (b"cache-control", b"public, max-age=%d" % MAX_AGE_S),
            (b"last-modified", self._modified),
            (b"etag", served.etag),
        ]
        known = headers.get(b"if-none-match")
        if known is not None and served.etag in known:
            return 304, fields, b""
        if known is None and headers.get(b"if-modified-since") == self._modified:
            return 304, fields, b""
        length = (b"content-length", b"%d" % len(served.body))
        return 200, [(b"content-type", b"application/json"), length, *fields], served.body
