"""The client half, and the door to the host half (`host.py`)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from streaming_queue.comm.answer_limit import AnswerMeter
from streaming_queue.comm.base import About, Capabilities, EndpointOptions
from streaming_queue.comm.client.backend import HttpBackend
from streaming_queue.comm.client.cancels import cancel_key
from streaming_queue.comm.client.http import is_broken
from streaming_queue.comm.client.reconnect import Reconnect
from streaming_queue.errors import ProtocolError, RemoteError
from streaming_queue.messages import Reply
from streaming_queue.protocol_backend.agora import routine
from streaming_queue.protocol_backend.agora.document import SOURCE
from streaming_queue.protocol_backend.agora.envelope import REJECTED, Response, encode_request, reason_in
from streaming_queue.protocol_backend.agora.negotiation import Stage
from streaming_queue.protocol_backend.agora.peer import Peer
from streaming_queue.protocol_backend.agora.sources import Sources

if TYPE_CHECKING:
    from streaming_queue.protocol_backend.agora.host import AgoraAgent


class AgoraCommBackend(HttpBackend[Peer]):
    """Agents behind `http://` or `https://` addresses that speak Agora.

    A peer that lists our protocol document is asked by its routine at once; another in natural language, until it
    replies to an offer of the document (`negotiation.py`). Metadata, typed failures and the cancel by key are the
    document's: in natural language there is the text, and closing the connection is the cancel.

    `sources` are where hosted agents take documents of others from (`sources.py`); by default from nowhere.
    """

    name = "agora"
    capabilities = Capabilities(host=True, cancel=True, metadata=True)
    about = About(
        "/.well-known/agora",
        "Agora, working standard of 2025",
        "https://agoraprotocol.org/docs/protocol/specification",
    )

    def __init__(self, *, sources: Sequence[str] = (), **options: Any) -> None:
        """Raises ConfigError on a source that is none."""
        super().__init__(**options)
        Sources(sources)  # a wrong one is told now
        self._sources = tuple(sources)

    def _new_peer(self, agent_id: str, address: str, options: EndpointOptions) -> Peer:
        return Peer(agent_id, address, options, self._session)

    async def connect(self, src_id: str, dst_id: str) -> None:
        """Look at the documents that the agent lists."""
        del src_id
        peer = self._peer(dst_id)
        with self._session.translated(peer.address):
            await self._meet(peer)

    async def _meet(self, peer: Peer) -> None:
        if peer.negotiation.stage is Stage.UNKNOWN:
            peer.negotiation.met((await peer.listing()).documents)

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Reply:
        """Ask the agent in the way that was agreed on with it; `raw` is Agora's response."""
        del src_id
        peer = self._peer(dst_id)
        negotiation = peer.negotiation
        with self._session.translated(peer.address):
            await self._meet(peer)
            # an offer may run what it carries twice, so no command makes one
            if negotiation.stage is Stage.AGREED or (not _is_command(payload) and negotiation.begin_offer()):
                try:
                    reply = await self._send_by_document(peer, payload)
                finally:
                    negotiation.offer_broke()
                if reply is not None:
                    return reply
            return await self._send_in_words(peer, payload)

    async def _send_in_words(self, peer: Peer, payload: Mapping[str, Any]) -> Reply:
        response = (await peer.ask(encode_request(routine.text_of(payload)))).read(peer.address)
        body = response.get("body")
        if response["status"] == REJECTED or not isinstance(body, str):
            told = f"rejected natural language{reason_in(response)}" if body is None else "its answer is no text"
            raise ProtocolError(f"{peer.address}: {told}", retryable=False)
        AnswerMeter(peer.address).whole(body)
        peer.negotiation.understood()
        return Reply(raw=response, text=body)

    async def _send_by_document(self, peer: Peer, payload: Mapping[str, Any]) -> Reply | None:
        """Ask by the document, which comes along when it is an offer; None when the peer does not take to it."""
        negotiation = peer.negotiation
        offered = negotiation.stage is Stage.OFFERED
        body = encode_request(routine.write_question(payload), negotiation.name, SOURCE if offered else None)
        key = _key(payload)
        try:
            answer = await (peer.ask(body) if offered else self._ask_by_key(peer, body, key))
        except asyncio.CancelledError:
            if not offered and (key := cancel_key(payload)) is not None:
                await self._cancels.tell(peer.address, partial(self._cancel, peer, key))
            raise
        try:
            response = answer.read(peer.address)
            if response["status"] == REJECTED:
                negotiation.declined(f"it rejected our protocol document{reason_in(response)}")
                return None
            reply = routine.read_reply(response["body"], peer.address)
        except (RemoteError, ProtocolError) as error:
            if offered and not answer.away:  # whatever was wrong, the question is not to suffer for the offer
                negotiation.declined(str(error))
                return None
            negotiation.forget()
            raise
        if offered:
            negotiation.taken()
        return routine.reply_of(reply, response, peer.address)

    async def _ask_by_key(self, peer: Peer, body: bytes, key: str | None) -> Response:
        """Ask; a connection that breaks is made anew where a key leads back to the work under way."""
        recovery = Reconnect(keyed=key is not None, broken=is_broken)
        while True:
            with recovery:
                return await peer.ask(body)

    async def _cancel(self, peer: Peer, key: str) -> None:
        body = encode_request(routine.write_cancel(key), peer.negotiation.name)
        with self._session.translated(peer.address):
            await peer.ask(body)

    async def _probe(self, peer: Peer) -> bool:
        """Whether the agent lists protocol documents, or else says that it takes POST."""
        if (await peer.listing()).documents is None:
            await peer.check_takes_posts()
        return True

    async def describe(self, agent_id: str) -> Mapping[str, Any]:
        """The documents that the agent lists and how we speak to it, if it takes our credential.

        That is shown by a cancel of nothing, where it knows our document.
        """
        peer = self._peer(agent_id)
        with self._session.translated(peer.address):
            listing = await peer.listing()
            date = listing.date if listing.documents is not None else await peer.check_takes_posts()
            peer.negotiation.met(listing.documents)
            if peer.negotiation.stage is Stage.AGREED:
                nothing = encode_request(routine.write_cancel(f"describe/{uuid.uuid4().hex}"), peer.negotiation.name)
                with suppress(RemoteError, ProtocolError):  # it knows no cancel, say: that is no refusal
                    (await peer.ask(nothing)).read(peer.address)
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


def _key(payload: Mapping[str, Any]) -> str | None:
    key = (payload.get("metadata") or {}).get("idempotency_key")
    return key if isinstance(key, str) else None


def _is_command(payload: Mapping[str, Any]) -> bool:
    return (payload.get("metadata") or {}).get("kind") == "command"


def _host_half() -> Callable[..., Awaitable[AgoraAgent]]:
    from streaming_queue.protocol_backend.agora.host import spawn

    return spawn
