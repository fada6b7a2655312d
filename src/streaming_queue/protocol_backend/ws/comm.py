"""The client half, and the door to the host half (`host.py`); both speak through `frames.py`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

from streaming_queue.comm.base import About, Capabilities, EndpointOptions
from streaming_queue.comm.probing import ProbingBackend
from streaming_queue.errors import BackendClosedError, ConnectError
from streaming_queue.messages import Reply, StreamEvent
from streaming_queue.protocol_backend.ws.frames import SUBPROTOCOL
from streaming_queue.protocol_backend.ws.host import WsAgent, spawn
from streaming_queue.protocol_backend.ws.peer import SCHEMES, Peer


class WsCommBackend(ProbingBackend):
    """Agents behind `ws://` or `wss://` addresses; one connection an agent, shared by all messages to it.

    There is no limit on an answer's time: the caller cancels `send`. Redirects are not followed, proxies in the
    environment not used, and a credential goes to its agent's address only.
    """

    name = "ws"
    schemes = SCHEMES
    capabilities = Capabilities(host=True, streaming=True, cancel=True, metadata=True)
    about = About("a ping frame", f"{SUBPROTOCOL} over RFC 6455", "https://www.rfc-editor.org/rfc/rfc6455")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._peers: dict[str, Peer] = {}
        self._agents: list[WsAgent] = []
        self._closed = False

    async def register_endpoint(self, agent_id: str, address: str) -> None:
        """Remember where an agent is; idempotent. Raises ConfigError on an address or a header that cannot be used."""
        if agent_id in self._peers and self.endpoints.get(agent_id) == address:
            return
        peer = Peer(agent_id, address, self.options.get(agent_id, EndpointOptions()))
        await super().register_endpoint(agent_id, address)
        former, self._peers[agent_id] = self._peers.get(agent_id), peer
        if former is not None:
            await former.close(ConnectError(f"{former.address}: agent {agent_id!r} was registered at {address}"))

    def _peer(self, agent_id: str) -> Peer:
        self._check_open()
        self.endpoint(agent_id)
        return self._peers[agent_id]

    def _check_open(self) -> None:
        if self._closed:
            raise BackendClosedError("the ws backend is closed")

    async def connect(self, src_id: str, dst_id: str) -> None:
        """Open the connection."""
        del src_id
        await self._peer(dst_id).connected()

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Reply:
        """Send a message and wait for its answer; `raw` is the event that ends it."""
        del src_id
        event: StreamEvent = {}
        async for event in self._peer(dst_id).events(payload, streaming=False):  # noqa: B007
            pass
        reply = Reply(raw=event, text=event["data"])
        if event.get("metadata"):
            reply["metadata"] = event["metadata"]
        return reply

    async def stream(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> AsyncIterator[StreamEvent]:
        """Like `send`, with the agent's events as they come; after a broken connection those that are new."""
        del src_id
        async with aclosing(self._peer(dst_id).events(payload, streaming=True)) as events:
            async for event in events:
                yield event

    async def _check(self, agent_id: str) -> bool:
        """Whether the agent answers a ping frame with `"status": "ok"`."""
        return await self._peer(agent_id).probe()

    async def describe(self, agent_id: str) -> Mapping[str, Any]:
        """What the agent answers to a ping frame, how large a request it takes, and its clock."""
        return await self._peer(agent_id).describe()

    async def close(self) -> None:
        """Stop every agent hosted here and give up all connections; messages under way fail."""
        self._closed = True
        agents, self._agents = self._agents, []
        await asyncio.gather(*(agent.stop() for agent in agents))
        reason = "the ws backend was closed before the answer"
        await asyncio.gather(
            *(peer.close(BackendClosedError(f"{peer.address}: {reason}")) for peer in self._peers.values())
        )

    async def spawn_local_agent(self, agent_id: str, host: str, port: int, executor: Any) -> WsAgent:
        """Host `executor` in this process; returns when it is ready. Port 0 takes a free one.

        Raises:
            ConfigError: the address is not allowed.
            ConnectError: the port is in use.
        """
        self._check_open()
        agent = await spawn(agent_id, host, port, executor, self)
        self._agents.append(agent)
        return agent
