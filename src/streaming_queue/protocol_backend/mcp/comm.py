"""The client half; `host.py` is the host half. Neither needs the protocol's own SDK."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from streaming_queue.comm.base import About, Capabilities, EndpointOptions
from streaming_queue.comm.client.backend import HttpBackend
from streaming_queue.comm.client.exchange import ExchangeBackend
from streaming_queue.errors import ConfigError
from streaming_queue.protocol_backend.mcp.dialect import MODERN, VERSIONS
from streaming_queue.protocol_backend.mcp.exchange import McpExchange
from streaming_queue.protocol_backend.mcp.http_link import HttpLink
from streaming_queue.protocol_backend.mcp.peer import Peer
from streaming_queue.protocol_backend.mcp.session import Link
from streaming_queue.protocol_backend.mcp.stdio_link import SCHEMES, StdioLink, command_of
from streaming_queue.protocol_backend.mcp.tools import Choice

if TYPE_CHECKING:
    from streaming_queue.protocol_backend.mcp.host import McpAgent


class McpCommBackend(ExchangeBackend, HttpBackend[Peer]):
    """Tools of MCP servers at `http://` or `https://` addresses, or started by a command (`stdio:python server.py`).

    The backend runs a command when its server is first needed; the server must answer within `start_timeout_s`. It gets
    the usual environment variables (`child.PASSED_ON`) and those in `environment`. `tool` takes the question in its
    `argument`; `arguments` are its other arguments. If one is None, the tools' schemas decide. `version` is the newest
    revision of MCP that the backend offers.
    """

    name = "mcp"
    schemes = SCHEMES
    probe_timeout_s = StdioLink.probe_s
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
        start_timeout_s: float = 60.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if version not in VERSIONS:
            raise ConfigError(f"mcp.version {version!r} is unknown: choose one of {', '.join(VERSIONS)}")
        self._choice = Choice(tool, argument, arguments or {})
        self._version = version
        self._environment = environment
        self._start_timeout_s = start_timeout_s

    def _new_peer(self, agent_id: str, address: str, options: EndpointOptions) -> Peer:
        command = command_of(agent_id, address)
        link: Link
        if command is None:
            link = HttpLink(agent_id, address, options, self._session)
        else:
            link = StdioLink(address, command, self._environment, start_timeout_s=self._start_timeout_s)
        return Peer(link, self._choice, self._version)

    async def _close_peer(self, peer: Peer) -> None:
        await peer.close()

    async def connect(self, src_id: str, dst_id: str) -> None:
        """Agree on a version and choose the tool."""
        del src_id
        await self._peer(dst_id).agreement()

    def _exchange(self, dst_id: str, payload: Mapping[str, Any]) -> McpExchange:
        return McpExchange(self._peer(dst_id), payload, self._cancels)

    async def _probe(self, peer: Peer) -> bool:
        """Whether the server answers the probe within one second, or within ten if a command started it.

        Raises StartingError while a command has not answered yet.
        """
        return await peer.probe()

    async def describe(self, agent_id: str) -> Mapping[str, Any]:
        """The server's facts, the agreed version, its tools and the chosen tool."""
        return await self._peer(agent_id).describe()

    async def spawn_local_agent(self, agent_id: str, host: str, port: int, executor: Any) -> McpAgent:
        """Host `executor` in this process; returns when it is ready. Port 0 takes a free one.

        Raises:
            ConfigError: the address is not allowed.
            ConnectError: the port is in use.
        """
        return await self._host(_host_half, agent_id, host, port, executor)


def _host_half() -> Callable[..., Awaitable[McpAgent]]:
    from streaming_queue.protocol_backend.mcp.host import spawn

    return spawn
