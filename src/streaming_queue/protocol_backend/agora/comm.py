"""The client half of agora; `host.py` is the host half."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from streaming_queue.comm.base import About, Capabilities, EndpointOptions
from streaming_queue.comm.client.backend import HttpBackend
from streaming_queue.comm.client.exchange import ExchangeBackend
from streaming_queue.comm.client.http import HttpExchange
from streaming_queue.errors import ProtocolError, RemoteError
from streaming_queue.messages import Reply, StreamEvent, answer_event
from streaming_queue.protocol_backend.agora import routine
from streaming_queue.protocol_backend.agora.document import SOURCE
from streaming_queue.protocol_backend.agora.envelope import REJECTED, encode_request, read_response, reason_in
from streaming_queue.protocol_backend.agora.negotiation import Stage
from streaming_queue.protocol_backend.agora.peer import Peer
from streaming_queue.protocol_backend.agora.sources import Sources

if TYPE_CHECKING:
    from streaming_queue.protocol_backend.agora.host import AgoraAgent


AWAY = (502, 503, 504)
"""The statuses of a proxy without a reachable agent, or of a host that drains."""


class AgoraCommBackend(ExchangeBackend, HttpBackend[Peer]):
    """Agents at `http://` or `https://` addresses that speak Agora.

    We ask a peer that lists our protocol document by the document at once, and other peers in natural language until
    they reply to an offer of the document (`negotiation.py`). Only the document has metadata, typed failures and a
    cancel by key: in natural language there is only text, and closing the connection is the cancel.

    Hosted agents take foreign documents from `sources` (`sources.py`); by default from none.
    """

    name = "agora"
    capabilities = Capabilities(host=True, cancel=True, metadata=True)
    about = About(
        "/.well-known/agora",
        "Agora, working standard of 2025",
        "https://agoraprotocol.org/docs/protocol/specification",
    )

    def __init__(self, *, sources: Sequence[str] = (), **options: Any) -> None:
        """Raises ConfigError on a source that is not valid."""
        super().__init__(**options)
        Sources(sources)  # raises on a wrong one
        self._sources = tuple(sources)

    def _new_peer(self, agent_id: str, address: str, options: EndpointOptions) -> Peer:
        return Peer(agent_id, address, options, self._session)

    async def connect(self, src_id: str, dst_id: str) -> None:
        """Read the agent's list of documents."""
        del src_id
        peer = self._peer(dst_id)
        with peer.translated:
            await peer.meet()

    def _exchange(self, dst_id: str, payload: Mapping[str, Any]) -> AgoraExchange:
        return AgoraExchange(self._peer(dst_id), payload, self._cancels)

    async def _probe(self, peer: Peer) -> bool:
        """Whether the agent lists protocol documents, or reports that it takes POST."""
        if (await peer.listing()).documents is None:
            await peer.check_takes_posts()
        return True

    async def describe(self, agent_id: str) -> Mapping[str, Any]:
        """The agent's documents and the form of our messages to it, if it accepts our credential.

        If the agent knows our document, we check the credential by a cancel of an unknown key.
        """
        peer = self._peer(agent_id)
        with peer.translated:
            listing = await peer.listing()
            date = listing.date if listing.documents is not None else await peer.check_takes_posts()
            peer.negotiation.met(listing.documents)
            if peer.negotiation.stage is Stage.AGREED:
                nothing = encode_request(routine.write_cancel(f"describe/{uuid.uuid4().hex}"), peer.negotiation.name)
                with suppress(RemoteError, ProtocolError):  # an agent without a cancel does not refuse us
                    read_response(*await peer.ask(nothing), peer.address)
        known = {"agent_id": listing.agent_id, "protocols": list(listing.documents or ())}
        facts = {**known, "speaks": peer.negotiation.stage.value, "date": date}
        return {key: value for key, value in facts.items() if value is not None}

    async def spawn_local_agent(self, agent_id: str, host: str, port: int, executor: Any) -> AgoraAgent:
        """Host `executor` in this process; returns when it is ready. Port 0 takes a free one.

        Raises:
            ConfigError: the address is not allowed.
            ConnectError: the port is in use.
        """
        return await self._host(_host_half, agent_id, host, port, executor, sources=Sources(self._sources))


class AgoraExchange(HttpExchange[Peer]):
    """A question by our document or in natural language; `raw` is Agora's response."""

    _agreed = False

    def resumes(self, error: Exception) -> bool:
        """Whether the connection broke and the agent knows the message's key."""
        return self._agreed and super().resumes(error)

    @property
    def cancellable(self) -> bool:
        """Whether the agent knows the key, by our document."""
        return self._agreed and self.key is not None

    async def cancel(self) -> None:
        """Send the document's cancel."""
        await self.peer.ask(encode_request(routine.write_cancel(str(self.key)), self.peer.negotiation.name))

    async def events(self) -> AsyncGenerator[StreamEvent, None]:
        """The whole answer: Agora has no stream."""
        yield answer_event(await self.ask())

    async def ask(self) -> Reply:
        """Ask by the document if the agent accepts it, else in natural language."""
        negotiation = self.peer.negotiation
        await self.peer.meet()
        self._agreed = self._agreed or negotiation.stage is Stage.AGREED
        # an offer may run its message twice, so a command never makes an offer
        if self._agreed or (not self.is_command and negotiation.begin_offer()):
            try:
                reply = await self._by_document(offered=not self._agreed)
            finally:
                negotiation.offer_broke()
            if reply is not None:
                return reply
            self._agreed = False
        return await self._in_words()

    async def _in_words(self) -> Reply:
        response = read_response(*await self.peer.ask(encode_request(routine.text_of(self.payload))), self.address)
        body = response.get("body")
        if response["status"] == REJECTED or not isinstance(body, str):
            reason = f"rejected natural language{reason_in(response)}" if body is None else "its answer is not text"
            raise ProtocolError(f"{self.address}: {reason}", retryable=False)
        self.peer.negotiation.understood()
        return Reply(raw=response, text=body)

    async def _by_document(self, *, offered: bool) -> Reply | None:
        """Ask by the document, with an offer also send it; None if the agent does not accept it."""
        negotiation = self.peer.negotiation
        body = encode_request(routine.write_question(self.payload), negotiation.name, SOURCE if offered else None)
        answer, raw = await self.peer.ask(body)
        try:
            response = read_response(answer, raw, self.address)
            if response["status"] == REJECTED:
                negotiation.declined(f"it rejected our protocol document{reason_in(response)}")
                return None
            reply = routine.read_reply(response["body"], self.address)
        except (RemoteError, ProtocolError) as error:
            if offered and answer.status not in AWAY:  # a bad offer must not fail the question
                negotiation.declined(str(error))
                return None
            negotiation.forget()
            raise
        if offered:
            negotiation.taken()
        return routine.reply_of(reply, response, self.address)


def _host_half() -> Callable[..., Awaitable[AgoraAgent]]:
    from streaming_queue.protocol_backend.agora.host import spawn

    return spawn
