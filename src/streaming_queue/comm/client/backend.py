"""The base of backends that ask agents at addresses: registered agents, probe, hosted agents, close."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Generic, TypeVar

from streaming_queue.comm.base import AgentHandle, EndpointOptions
from streaming_queue.comm.client.exchange import Cancels
from streaming_queue.comm.client.http import HttpSession
from streaming_queue.comm.probing import ProbingBackend
from streaming_queue.errors import BackendClosedError

PeerT = TypeVar("PeerT")
AgentT = TypeVar("AgentT", bound=AgentHandle)


class PeerBackend(ProbingBackend, Generic[PeerT]):
    """A backend with one object per agent. `PeerT` holds the agent's address, headers, connection and state.

    A subclass defines `name`, `_new_peer`, `_probe` and `send`, and `_close_peer` if a peer holds resources. It
    inherits the registered agents (`_peer`), the cancels (`_cancels`), `probe`, `health_check`, `close`, and most of
    `spawn_local_agent` (`_host`).
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._cancels = Cancels()
        self._closed = False
        self._peers: dict[str, PeerT] = {}
        self._ever: list[PeerT] = []
        self._agents: list[AgentHandle] = []

    @abstractmethod
    def _new_peer(self, agent_id: str, address: str, options: EndpointOptions) -> PeerT:
        """The object for the agent at `address`, not connected. Raises ConfigError on a value that is not valid."""

    @abstractmethod
    async def _probe(self, peer: PeerT) -> bool:
        """Whether the agent reports that it takes questions. Raises the reason why the agent does not answer."""

    async def _close_peer(self, peer: PeerT) -> None:
        """Release the peer's resources; bounded. Default: nothing."""

    async def register_endpoint(self, agent_id: str, address: str) -> None:
        """Register an agent's address; idempotent. Raises ConfigError on an address or a header that is not valid."""
        if agent_id in self._peers and self.endpoints.get(agent_id) == address:
            return
        peer = self._new_peer(agent_id, address, self.options.get(agent_id, EndpointOptions()))
        await super().register_endpoint(agent_id, address)
        self._peers[agent_id] = peer
        self._ever.append(peer)

    def _peer(self, agent_id: str) -> PeerT:
        """The registered agent. Raises BackendClosedError and UnknownAgentError."""
        self._check_open()
        self.endpoint(agent_id)
        return self._peers[agent_id]

    def _check_open(self) -> None:
        """Raises BackendClosedError."""
        if self._closed:
            raise BackendClosedError(f"the {self.name} backend is closed")

    async def _check(self, agent_id: str) -> bool:
        return await self._probe(self._peer(agent_id))

    async def _host(
        self,
        half: Callable[[], Callable[..., Awaitable[AgentT]]],
        agent_id: str,
        host: str,
        port: int,
        executor: Any,
        **more: Any,
    ) -> AgentT:
        """Host `executor` by the protocol's `spawn`. A thread imports `half`, since the import of a server is slow.

        Raises the errors of `spawn`, and BackendClosedError, also when the backend closes meanwhile.
        """
        self._check_open()
        spawn = await asyncio.to_thread(half)
        agent = await spawn(agent_id, host, port, executor, self, **more)
        if self._closed:
            await agent.stop()
            self._check_open()
        self._agents.append(agent)
        return agent

    async def close(self) -> None:
        """Stop all hosted agents and close all connections; messages in flight fail."""
        self._closed = True
        agents, self._agents = self._agents, []
        await asyncio.gather(*(agent.stop() for agent in agents))
        await self._cancels.aclose()
        peers, self._ever = self._ever, []
        await asyncio.gather(*(self._close_peer(peer) for peer in peers))


class HttpBackend(PeerBackend[PeerT]):
    """A backend over HTTP by aiohttp: a PeerBackend with one session (`_session`) for the requests and their errors."""

    schemes: ClassVar[tuple[str, ...]] = ("http", "https")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._session = HttpSession(self.name)

    async def _check(self, agent_id: str) -> bool:
        """`_probe`, with our errors."""
        peer = self._peer(agent_id)
        with self._session.translated(self.endpoint(agent_id)):
            return await self._probe(peer)

    async def close(self) -> None:
        """Stop all hosted agents and close all connections; messages in flight fail."""
        self._session.closed = True
        await super().close()
        await self._session.close()
