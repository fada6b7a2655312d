"""The client half of acp; `host.py` is the host half."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from streaming_queue.comm.base import About, Capabilities, EndpointOptions
from streaming_queue.comm.client.backend import HttpBackend
from streaming_queue.comm.client.exchange import ExchangeBackend
from streaming_queue.errors import BackendClosedError, CommError
from streaming_queue.protocol_backend.acp.exchange import AcpExchange
from streaming_queue.protocol_backend.acp.peer import Peer

if TYPE_CHECKING:
    from streaming_queue.protocol_backend.acp.host import AcpAgent


class AcpCommBackend(ExchangeBackend, HttpBackend[Peer]):
    """Agents behind the REST interface of ACP servers; one session keeps connections alive.

    An answer has no time limit: the caller cancels `send`. The backend follows no redirects and uses no proxies from
    the environment. A credential goes to its agent's address only.
    """

    name = "acp"
    capabilities = Capabilities(host=True, streaming=True, cancel=True, metadata=True)
    about = About(
        "GET /ping, /agents",
        "Agent Communication Protocol 0.2",
        "https://agentcommunicationprotocol.dev",
    )

    def _new_peer(self, agent_id: str, address: str, options: EndpointOptions) -> Peer:
        return Peer(agent_id, address, options, self._session)

    async def _close_peer(self, peer: Peer) -> None:
        await peer.manifest.aclose(BackendClosedError(f"{peer.address}: the acp backend was closed"))

    async def connect(self, src_id: str, dst_id: str) -> None:
        """Read the agent's manifest before the first message. If that fails, the first message reads it again."""
        del src_id
        peer = self._peer(dst_id)
        with suppress(CommError):
            await peer.manifest.get()

    def _exchange(self, dst_id: str, payload: Mapping[str, Any]) -> AcpExchange:
        return AcpExchange(self._peer(dst_id), payload, self._cancels)

    async def _probe(self, peer: Peer) -> bool:
        """Whether GET `/ping` answers 200 and GET `/agents` has the agent."""
        await peer.probe()
        return True

    async def describe(self, agent_id: str) -> Mapping[str, Any]:
        """The agent's manifest. The list of agents needs the credential, as runs do."""
        peer = self._peer(agent_id)
        with peer.translated:
            manifest, date = await peer.probe()
        facts: dict[str, Any] = {
            "name": manifest.name,
            "description": manifest.description,
            "capabilities": list(manifest.capabilities),
            "call extension": manifest.is_ours,
        }
        return facts if date is None else {**facts, "date": date}

    async def spawn_local_agent(self, agent_id: str, host: str, port: int, executor: Any) -> AcpAgent:
        """Host `executor` in this process; returns when it is ready. Port 0 takes a free one.

        Raises:
            ConfigError: the address is not allowed.
            ConnectError: the port is in use.
        """
        return await self._host(_host_half, agent_id, host, port, executor)


def _host_half() -> Callable[..., Awaitable[AcpAgent]]:
    from streaming_queue.protocol_backend.acp.host import spawn

    return spawn
