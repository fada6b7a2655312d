"""The card of a hosted agent, for each host name that callers use."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from email.utils import formatdate

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
from streaming_queue.comm.host.admission import host_name
from streaming_queue.comm.host.respond import Header
from streaming_queue.comm.skills import ANSWER, ANSWERS, Skill
from streaming_queue.protocol_backend.a2a.dialect import CALL_EXTENSION

MAX_AGE_S = 60
_BINDINGS = (("JSONRPC", "1.0", "/"), ("HTTP+JSON", "1.0", ""), ("JSONRPC", "0.3", "/"), ("HTTP+JSON", "0.3", ""))
_NAMES_KEPT = 100
_PROMISE = (
    "Reads the call's context from the message's metadata. A message in flight can be found by its id; a repeated "
    "message with the same idempotency key leads to the same work."
)


@dataclass(frozen=True, slots=True)
class Face:
    """The content of an agent's card, without its address.

    `guarded`: the agent requires a bearer credential. `call_extension`: it supports our extension. `grpc_port`: its
    port for gRPC.
    """

    agent_id: str
    description: str = ANSWERS
    skills: tuple[Skill, ...] = (ANSWER,)
    guarded: bool = False
    call_extension: bool = False
    grpc_port: int | None = None

    def card(self, base_url: str) -> AgentCard:
        """The card of the agent at `base_url`."""
        card = AgentCard(
            name=self.agent_id,
            description=self.description,
            version=__version__,
            capabilities=AgentCapabilities(streaming=True, push_notifications=False),
            default_input_modes=["text/plain"],
            default_output_modes=["text/plain"],
            skills=[AgentSkill(**asdict(skill)) for skill in self.skills],
            supported_interfaces=[
                AgentInterface(url=f"{base_url}{path}", protocol_binding=binding, protocol_version=version)
                for binding, version, path in _BINDINGS
            ],
        )
        if self.grpc_port is not None:
            host = host_name(base_url.partition("://")[2])
            card.supported_interfaces.append(
                AgentInterface(url=f"{host}:{self.grpc_port}", protocol_binding="GRPC", protocol_version="1.0")
            )
        if self.call_extension:
            card.capabilities.extensions.append(AgentExtension(uri=CALL_EXTENSION, description=_PROMISE))
        if self.guarded:
            card.security_schemes["bearer"].CopyFrom(
                SecurityScheme(http_auth_security_scheme=HTTPAuthSecurityScheme(scheme="bearer"))
            )
            card.security_requirements.append(SecurityRequirement(schemes={"bearer": StringList()}))
        return card


class CardDesk:
    """Serves the card: every interface has the origin of the request for the card."""

    def __init__(self, face: Face) -> None:
        self._face = face
        self._modified = formatdate(time.time(), usegmt=True).encode()
        self._by_origin: dict[str, tuple[bytes, bytes]] = {}

    def _served(self, origin: str) -> tuple[bytes, bytes]:
        """The card's body for an origin, and its ETag."""
        served = self._by_origin.get(origin)
        if served is None:
            body = orjson.dumps(agent_card_to_dict(self._face.card(origin)))
            served = body, b'"%s"' % hashlib.sha256(body).hexdigest()[:32].encode()
            if len(self._by_origin) < _NAMES_KEPT:
                self._by_origin[origin] = served
        return served

    def response(self, origin: str, headers: Mapping[bytes, bytes]) -> tuple[int, list[Header], bytes]:
        """Status, headers and body; 304 if the caller has the same card."""
        body, etag = self._served(origin)
        fields = [
            (b"cache-control", b"public, max-age=%d" % MAX_AGE_S),
            (b"last-modified", self._modified),
            (b"etag", etag),
        ]
        known = headers.get(b"if-none-match")
        if known is not None and etag in known:
            return 304, fields, b""
        if known is None and headers.get(b"if-modified-since") == self._modified:
            return 304, fields, b""
        length = (b"content-length", b"%d" % len(body))
        return 200, [(b"content-type", b"application/json"), length, *fields], body
