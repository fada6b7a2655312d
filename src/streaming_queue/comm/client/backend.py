"""What every backend that speaks HTTP by aiohttp shares: its session, the agents it knows and hosts, its end."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Generic, TypeVar

from streaming_queue.comm.base import AgentHandle, EndpointOptions
from streaming_queue.comm.client.cancels import Cancels
from streaming_queue.comm.client.http import HttpSession
from streaming_queue.comm.probing import ProbingBackend

PeerT = TypeVar("PeerT")
AgentT = TypeVar("AgentT", bound=AgentHandle)


class HttpBackend(ProbingBackend, Generic[PeerT]):
    """A backend over HTTP; `PeerT` is what the protocol knows of one agent: its URLs, its headers, its state.

    A subclass gives `name`, `_new_peer` and `_probe`, and with them `send`; `_close_peer` where a peer holds something.
    It gets the agents' table (`_peer`), requests and their errors (`_session`), cancels that end (`_cancels`),
    `probe`, `health_check`, `close`, and, where it can host, most of `spawn_local_agent` (`_host`).
    """

    schemes: ClassVar[tuple[str, ...]] = ("http", "https")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._session = HttpSession(self.name)
        self._cancels = Cancels()
        self._peers: dict[str, PeerT] = {}
        self._ever: list[PeerT] = []
        self._agents: list[AgentHandle] = []

    @abstractmethod
    def _new_peer(self, agent_id: str, address: str, options: EndpointOptions) -> PeerT:
        """The agent at `address`; nothing is asked of it yet. Raises ConfigError on what cannot be used."""

    @abstractmethod
    async def _probe(self, peer: PeerT) -> bool:
        """Whether the agent answers the protocol's light probe; what is raised says why not."""

    async def _close_peer(self, peer: PeerT) -> None:
        """Give up what an agent's peer holds, before the session closes; bounded. Default: nothing to do."""

    async def register_endpoint(self, agent_id: str, address: str) -> None:
        """Remember where an agent is; idempotent. Raises ConfigError on an address or a header that cannot be used."""
        if agent_id in self._peers and self.endpoints.get(agent_id) == address:
            return
        peer = self._new_peer(agent_id, address, self.options.get(agent_id, EndpointOptions()))
        await super().register_endpoint(agent_id, address)
        self._peers[agent_id] = peer
        self._ever.append(peer)

    def _peer(self, agent_id: str) -> PeerT:
        """The agent, as it was registered. Raises BackendClosedError and UnknownAgentError."""
        self._session.check_open()
        self.endpoint(agent_id)
        return self._peers[agent_id]

    async def _check(self, agent_id: str) -> bool:
        """`_probe`, with our errors."""
        peer = self._peer(agent_id)
        with self._session.translated(self.endpoint(agent_id)):
            return await self._probe(peer)

    async def _host(
        self,
        half: Callable[[], Callable[..., Awaitable[AgentT]]],
        agent_id: str,
        host: str,
        port: int,
        executor: Any,
        **more: Any,
    ) -> AgentT:
        """Host `executor` by the protocol's `spawn`, which `half` imports: servers are slow to import and read files.

        Raises BackendClosedError, also when the backend is closed meanwhile, and what `spawn` does.
        """
        self._session.check_open()
        spawn = await asyncio.to_thread(half)
        agent = await spawn(agent_id, host, port, executor, self, **more)
        if self._session.closed:
            await agent.stop()
            self._session.check_open()
        self._agents.append(agent)
        return agent

    async def close(self) -> None:
        """Stop every agent hosted here and give up all connections; messages under way fail."""
        self._session.closed = True
        agents, self._agents = self._agents, []
        await asyncio.gather(*(agent.stop() for agent in agents))
        await self._cancels.aclose()
        peers, self._ever = self._ever, []
        await asyncio.gather(*(self._close_peer(peer) for peer in peers))
        await self._session.close()
