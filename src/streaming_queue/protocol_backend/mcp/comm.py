"""The client half, and the door to the host half (`host.py`). Neither needs the protocol's own SDK."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import aiohttp

from streaming_queue.comm.base import About, BaseCommBackend, Capabilities, EndpointOptions
from streaming_queue.comm.http_client import open_session
from streaming_queue.errors import BackendClosedError, ConfigError
from streaming_queue.messages import Reply, StreamEvent
from streaming_queue.protocol_backend.mcp.address import SCHEMES, command_of
from streaming_queue.protocol_backend.mcp.dialect import MODERN, VERSIONS
from streaming_queue.protocol_backend.mcp.http_link import HttpLink
from streaming_queue.protocol_backend.mcp.peer import Peer
from streaming_queue.protocol_backend.mcp.session import Link
from streaming_queue.protocol_backend.mcp.stdio_link import StdioLink
from streaming_queue.protocol_backend.mcp.tools import Choice

if TYPE_CHECKING:
    from streaming_queue.protocol_backend.mcp.host import McpAgent

logger = logging.getLogger(__name__)


class McpCommBackend(BaseCommBackend):
    """Tools of MCP servers behind `http://` or `https://` addresses, or behind a command (`stdio:python server.py`).

    `tool` and `argument` say which tool takes a question by which of its arguments, `arguments` what its others are
    given; what is None is found by the tools' schemas. `version` is the newest revision of MCP that is offered.
    `environment` names the variables that a command gets beside the usual ones (`child.PASSED_ON`).
    """

    name = "mcp"
    schemes = SCHEMES
    capabilities = Capabilities(host=True, streaming=True, cancel=True, metadata=True)
    about = About("discover or ping", "MCP 2026-07-28 to 2024-11-05", "https://modelcontextprotocol.io/specification/")

    def __init__(
        self,
        *,
        tool: str | None = None,
        argument: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        version: str = MODERN,
        environment: Collection[str] = (),
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if version not in VERSIONS:
            raise ConfigError(f"mcp.version {version!r}: known are {', '.join(VERSIONS)}")
        self._choice = Choice(tool, argument, arguments or {})
        self._version = version
        self._environment = environment
        self._ever: list[Peer] = []
        self._peers: dict[str, Peer] = {}
        self._session: aiohttp.ClientSession | None = None
        self._agents: list[McpAgent] = []
        self._closed = False

    async def register_endpoint(self, agent_id: str, address: str) -> None:
        """Remember where an agent is; idempotent. Raises ConfigError on an address or a header that cannot be used.

        A command is run when its server is first needed.
        """
        if agent_id in self._peers and self.endpoints.get(agent_id) == address:
            return
        command = command_of(agent_id, address)
        link: Link
        if command is None:
            link = HttpLink(agent_id, address, self.options.get(agent_id, EndpointOptions()), self._open_session)
        else:
            link = StdioLink(address, command, self._environment)
        await super().register_endpoint(agent_id, address)
        self._peers[agent_id] = peer = Peer(link, self._choice, self._version)
        self._ever.append(peer)

    def _peer(self, agent_id: str) -> Peer:
        self._check_open()
        self.endpoint(agent_id)
        return self._peers[agent_id]

    def _check_open(self) -> None:
        if self._closed:
            raise BackendClosedError("the mcp backend is closed")

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._check_open()
            self._session = open_session()
        return self._session

    async def connect(self, src_id: str, dst_id: str) -> None:
        """Agree on a version and choose the tool."""
        del src_id
        await self._peer(dst_id).agreement()

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Reply:
        """Call the tool; `raw` is its result.

        A connection that breaks is made anew only where the server is one of ours and there is an idempotency key:
        a tool of others would run twice.
        """
        del src_id
        return await self._peer(dst_id).send(payload)

    async def stream(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> AsyncIterator[StreamEvent]:
        """Like `send`, with the tool's progress as it comes: of our agents the pieces of the answer, too."""
        del src_id
        async with aclosing(self._peer(dst_id).stream(payload)) as events:
            async for event in events:
                yield event

    async def health_check(self, agent_id: str) -> bool:
        """Whether the server answers the probe within one second; one that a command starts has ten."""
        try:
            return await self._peer(agent_id).probe()
        except Exception as error:
            logger.debug("agent %s is not healthy: %r", agent_id, error)
            return False

    async def describe(self, agent_id: str) -> Mapping[str, Any]:
        """What the server says of itself, the version agreed on, its tools and the one that is asked."""
        return await self._peer(agent_id).describe()

    async def close(self) -> None:
        """Stop every agent hosted here, end every server begun here, give up all connections; calls under way fail."""
        self._closed = True
        agents, self._agents = self._agents, []
        await asyncio.gather(*(agent.stop() for agent in agents))
        await asyncio.gather(*(peer.close() for peer in self._ever))
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def spawn_local_agent(self, agent_id: str, host: str, port: int, executor: Any) -> McpAgent:
        """Host `executor` in this process; returns when it is ready. Port 0 takes a free one.

        Raises:
            ConfigError: the address is not allowed.
            ConnectError: the port is in use.
        """
        self._check_open()
        spawn = await asyncio.to_thread(_host_half)
        agent: McpAgent = await spawn(agent_id, host, port, executor, self)
        self._agents.append(agent)
        return agent


def _host_half() -> Any:
    """Its server is slow to import and reads files: not in the loop, and not where nothing is hosted."""
    from streaming_queue.protocol_backend.mcp.host import spawn

    return spawn
