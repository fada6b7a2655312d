"""The client half, and the door to the host half (`host.py`)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import aiohttp

from streaming_queue.comm.base import About, BaseCommBackend, Capabilities, EndpointOptions
from streaming_queue.comm.http_client import open_session
from streaming_queue.errors import BackendClosedError, CommError, ConnectError
from streaming_queue.messages import MESSAGE, Reply, StreamEvent
from streaming_queue.protocol_backend.acp.exchange import Exchange
from streaming_queue.protocol_backend.acp.failures import AwaitingError, NotFoundError
from streaming_queue.protocol_backend.acp.peer import Peer

if TYPE_CHECKING:
    from streaming_queue.protocol_backend.acp.host import AcpAgent

logger = logging.getLogger(__name__)

PROBE_TIMEOUT_S = 1.0
CANCEL_TIMEOUT_S = 1.0


class AcpCommBackend(BaseCommBackend):
    """Agents behind the REST interface of ACP servers; one session, its connections kept alive.

    There is no limit on an answer's time: the caller cancels `send`. Redirects are not followed, proxies in the
    environment not used, and a credential goes to its agent's address only.
    """

    name = "acp"
    schemes = ("http", "https")
    capabilities = Capabilities(host=True, streaming=True, cancel=True, metadata=True)
    about = About(
        "GET /ping, /agents",
        "Agent Communication Protocol 0.2",
        "https://agentcommunicationprotocol.dev",
    )

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._peers: dict[str, Peer] = {}
        self._session: aiohttp.ClientSession | None = None
        self._agents: list[AcpAgent] = []
        self._cancels: set[asyncio.Task[None]] = set()
        self._closed = False

    async def register_endpoint(self, agent_id: str, address: str) -> None:
        """Remember where an agent is; idempotent. Raises ConfigError on an address or a header that cannot be used."""
        await super().register_endpoint(agent_id, address)
        old = self._peers.get(agent_id)
        if old is not None and old.address == address:
            return
        options = self.options.get(agent_id, EndpointOptions())
        try:
            self._peers[agent_id] = Peer(agent_id, address, options, self._open_session)
        except BaseException:
            del self.endpoints[agent_id]
            raise
        if old is not None:
            await old.aclose()

    async def connect(self, src_id: str, dst_id: str) -> None:
        """Read the agent's manifest, before the first message. One that cannot be read now is read with that."""
        del src_id
        peer = self._peer(dst_id)
        with suppress(CommError):
            await peer.manifest()

    def _peer(self, agent_id: str) -> Peer:
        self._check_open()
        self.endpoint(agent_id)
        return self._peers[agent_id]

    def _check_open(self) -> None:
        if self._closed:
            raise BackendClosedError("the acp backend is closed")

    def _open_session(self) -> aiohttp.ClientSession:
        self._check_open()
        if self._session is None:
            self._session = open_session()
        return self._session

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Reply:
        """Run the agent on the payload; `raw` is the run as it completed."""
        del src_id
        peer = self._peer(dst_id)
        with self._watched(peer):
            exchange = Exchange(peer, await peer.manifest(), payload)
            try:
                return await exchange.answer()
            except (asyncio.CancelledError, AwaitingError):
                await self._cancel(peer, exchange, payload)
                raise

    async def stream(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> AsyncIterator[StreamEvent]:
        """Like `send`, with the agent's events as they come; after a broken connection those that are new."""
        del src_id
        peer = self._peer(dst_id)
        with self._watched(peer):
            exchange = Exchange(peer, await peer.manifest(), payload)
            ended = False
            try:
                async with aclosing(exchange.events()) as events:
                    async for event in events:
                        ended = event["type"] == MESSAGE
                        yield event
            except (asyncio.CancelledError, GeneratorExit, AwaitingError):
                if not ended:
                    await self._cancel(peer, exchange, payload)
                raise

    @contextmanager
    def _watched(self, peer: Peer) -> Iterator[None]:
        """Turn what the library raises into our errors; an agent that is gone is out of reach until it is back."""
        try:
            with peer.translated():
                yield
        except NotFoundError as error:
            peer.forget_manifest()
            raise ConnectError(str(error)) from error

    async def _cancel(self, peer: Peer, exchange: Exchange, payload: Mapping[str, Any]) -> None:
        """Tell the agent that nobody waits for its run any more; one second at the most."""
        metadata = payload.get("metadata") or {}
        if metadata.get("kind") == "command" or exchange.run_id is None or self._closed:
            return
        task = asyncio.create_task(self._post_cancel(peer, exchange.run_id), name=f"cancel:{peer.address}")
        self._cancels.add(task)
        task.add_done_callback(self._cancels.discard)
        with suppress(asyncio.CancelledError):
            await asyncio.shield(task)

    async def _post_cancel(self, peer: Peer, run_id: str) -> None:
        try:
            async with asyncio.timeout(CANCEL_TIMEOUT_S):
                with peer.translated():
                    await peer.ask("POST", peer.runs / run_id / "cancel")
        except (CommError, TimeoutError) as error:
            logger.debug("%s: the cancel of run %s was of no use: %s", peer.address, run_id, error)

    async def health_check(self, agent_id: str) -> bool:
        """Whether GET `/ping` answers 200 and GET `/agents` has the agent, within one second."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await self._peer(agent_id).probe()
        except Exception as error:
            logger.debug("agent %s is not healthy: %r", agent_id, error)
            return False
        return True

    async def describe(self, agent_id: str) -> Mapping[str, Any]:
        """What the agent's manifest says. The list of agents is behind the credential, as the runs are."""
        peer = self._peer(agent_id)
        with peer.translated():
            manifest, date = await peer.probe()
        facts: dict[str, Any] = {
            "name": manifest.name,
            "description": manifest.description,
            "capabilities": list(manifest.capabilities),
            "call extension": manifest.is_ours,
        }
        return facts if date is None else {**facts, "date": date}

    async def close(self) -> None:
        """Stop every agent hosted here and give up all connections; messages under way fail."""
        self._closed = True
        agents, self._agents = self._agents, []
        await asyncio.gather(*(agent.stop() for agent in agents), *(peer.aclose() for peer in self._peers.values()))
        if self._cancels:
            await asyncio.wait(self._cancels, timeout=CANCEL_TIMEOUT_S)
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def spawn_local_agent(self, agent_id: str, host: str, port: int, executor: Any) -> AcpAgent:
        """Host `executor` in this process; returns when it is ready. Port 0 takes a free one.

        Raises:
            ConfigError: the address is not allowed.
            ConnectError: the port is in use.
        """
        self._check_open()
        spawn = await asyncio.to_thread(_host_half)
        agent: AcpAgent = await spawn(agent_id, host, port, executor, self)
        self._agents.append(agent)
        return agent


def _host_half() -> Any:
    """Its server is slow to import and reads files: not in the loop, and not where nothing is hosted."""
    from streaming_queue.protocol_backend.acp.host import spawn

    return spawn
