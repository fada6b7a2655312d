"""The client half, and the door to the host half (`host.py`)."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import aiohttp

from streaming_queue.comm.base import About, BaseCommBackend, Capabilities, EndpointOptions
from streaming_queue.comm.http_client import is_broken, open_session, translate
from streaming_queue.comm.recovery import Recovery
from streaming_queue.errors import (
    BackendClosedError,
    CommError,
    ProtocolError,
    RemoteError,
    StreamingQueueError,
)
from streaming_queue.messages import Reply
from streaming_queue.protocol_backend.agora import routine
from streaming_queue.protocol_backend.agora.document import SOURCE
from streaming_queue.protocol_backend.agora.envelope import REJECTED, Response, encode_request, reason_in
from streaming_queue.protocol_backend.agora.negotiation import Stage
from streaming_queue.protocol_backend.agora.peer import Peer
from streaming_queue.protocol_backend.agora.sources import Sources

if TYPE_CHECKING:
    from streaming_queue.protocol_backend.agora.host import AgoraAgent

logger = logging.getLogger(__name__)

PROBE_TIMEOUT_S = 1.0
CANCEL_TIMEOUT_S = 1.0


class AgoraCommBackend(BaseCommBackend):
    """Agents behind `http://` or `https://` addresses that speak Agora.

    A peer that lists our protocol document is asked by its routine at once; another in natural language, until it
    replies to an offer of the document (`negotiation.py`). Metadata, typed failures and the cancel by key are the
    document's: in natural language there is the text, and closing the connection is the cancel.

    `sources` are where hosted agents take documents of others from (`sources.py`); by default from nowhere.
    """

    name = "agora"
    schemes = ("http", "https")
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
        self._peers: dict[str, Peer] = {}
        self._session: aiohttp.ClientSession | None = None
        self._agents: list[AgoraAgent] = []
        self._cancels: set[asyncio.Task[None]] = set()
        self._closed = False

    async def register_endpoint(self, agent_id: str, address: str) -> None:
        """Remember where an agent is; idempotent. Raises ConfigError on an address or a header that cannot be used."""
        peer = Peer(agent_id, address, self.options.get(agent_id, EndpointOptions()), self._open_session)
        await super().register_endpoint(agent_id, address)
        known = self._peers.get(agent_id)
        if known is None or known.address != address:
            self._peers[agent_id] = peer

    def _peer(self, agent_id: str) -> Peer:
        self._check_open()
        self.endpoint(agent_id)
        return self._peers[agent_id]

    def _check_open(self) -> None:
        if self._closed:
            raise BackendClosedError("the agora backend is closed")

    def _open_session(self) -> aiohttp.ClientSession:
        self._check_open()
        if self._session is None:
            self._session = open_session()
        return self._session

    async def connect(self, src_id: str, dst_id: str) -> None:
        """Look at the documents that the agent lists."""
        del src_id
        peer = self._peer(dst_id)
        with self._translated(peer.address):
            await self._meet(peer)

    async def _meet(self, peer: Peer) -> None:
        if peer.negotiation.stage is Stage.UNKNOWN:
            peer.negotiation.met((await peer.listing()).documents)

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Reply:
        """Ask the agent in the way that was agreed on with it; `raw` is Agora's response."""
        del src_id
        peer = self._peer(dst_id)
        negotiation = peer.negotiation
        with self._translated(peer.address):
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
            if key and not offered and not _is_command(payload):
                await self._cancel(peer, key)
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
        recovery = Recovery(keyed=key is not None, broken=is_broken)
        while True:
            with recovery:
                return await peer.ask(body)

    async def _cancel(self, peer: Peer, key: str) -> None:
        """Tell the agent that nobody waits for its answer any more; one second at the most."""
        if self._closed:
            return
        task = asyncio.create_task(self._post_cancel(peer, key), name=f"cancel:{peer.address}")
        self._cancels.add(task)
        task.add_done_callback(self._cancels.discard)
        with suppress(asyncio.CancelledError):
            await asyncio.shield(task)

    async def _post_cancel(self, peer: Peer, key: str) -> None:
        body = encode_request(routine.write_cancel(key), peer.negotiation.name)
        try:
            async with asyncio.timeout(CANCEL_TIMEOUT_S):
                await peer.ask(body)
        except (aiohttp.ClientError, OSError, CommError) as error:
            logger.debug("%s: the cancel did not arrive (%s); its grace ends the question", peer.address, error)

    async def health_check(self, agent_id: str) -> bool:
        """Whether the agent lists protocol documents, or else says that it takes POST, within one second."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                peer = self._peer(agent_id)
                if (await peer.listing()).documents is None:
                    await peer.check_takes_posts()
                return True
        except Exception as error:
            logger.debug("agent %s is not healthy: %r", agent_id, error)
            return False

    async def describe(self, agent_id: str) -> Mapping[str, Any]:
        """The documents that the agent lists and how we speak to it, if it takes our credential.

        That is shown by a cancel of nothing, where it knows our document.
        """
        peer = self._peer(agent_id)
        with self._translated(peer.address):
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

    async def close(self) -> None:
        """Stop every agent hosted here and give up all connections; messages under way fail."""
        self._closed = True
        agents, self._agents = self._agents, []
        await asyncio.gather(*(agent.stop() for agent in agents))
        if self._cancels:
            await asyncio.wait(self._cancels, timeout=CANCEL_TIMEOUT_S)
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def spawn_local_agent(self, agent_id: str, host: str, port: int, executor: Any) -> AgoraAgent:
        """Host `executor` in this process; returns when it is ready. Port 0 takes a free one.

        Raises:
            ConfigError: the address is not allowed.
            ConnectError: the port is in use.
        """
        self._check_open()
        spawn = await asyncio.to_thread(_host_half)
        agent: AgoraAgent = await spawn(agent_id, host, port, executor, self, sources=Sources(self._sources))
        self._agents.append(agent)
        return agent

    @contextmanager
    def _translated(self, address: str) -> Iterator[None]:
        """Turn what the library raises into our errors."""
        try:
            yield
        except StreamingQueueError:
            raise
        except (aiohttp.ClientError, OSError) as error:
            if self._closed:
                raise BackendClosedError(f"{address}: the agora backend was closed before the answer") from error
            raise translate(error, address) from error


def _key(payload: Mapping[str, Any]) -> str | None:
    key = (payload.get("metadata") or {}).get("idempotency_key")
    return key if isinstance(key, str) else None


def _is_command(payload: Mapping[str, Any]) -> bool:
    return (payload.get("metadata") or {}).get("kind") == "command"


def _host_half() -> Any:
    """Its server is slow to import and reads files: not in the loop, and not where nothing is hosted."""
    from streaming_queue.protocol_backend.agora.host import spawn

    return spawn
