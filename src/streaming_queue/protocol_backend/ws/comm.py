"""The client half; `host.py` is the host half, and both use `frames.py`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from streaming_queue.comm.base import About, Capabilities, EndpointOptions
from streaming_queue.comm.client.backend import PeerBackend
from streaming_queue.comm.client.exchange import ExchangeBackend
from streaming_queue.errors import BackendClosedError, ConnectError
from streaming_queue.protocol_backend.ws.frames import SUBPROTOCOL
from streaming_queue.protocol_backend.ws.peer import SCHEMES, Peer, WsExchange

if TYPE_CHECKING:
    from streaming_queue.protocol_backend.ws.host import WsAgent


class WsCommBackend(ExchangeBackend, PeerBackend[Peer]):
    """Agents at `ws://` or `wss://` addresses; all messages to one agent share a connection.

    An answer has no time limit: the caller cancels `send`. The backend follows no redirects and uses no proxies from
    the environment. A credential goes to its agent's address only.
    """

    name = "ws"
    schemes = SCHEMES
    capabilities = Capabilities(host=True, streaming=True, cancel=True, metadata=True)
    about = About("a ping frame", f"{SUBPROTOCOL} over RFC 6455", "https://www.rfc-editor.org/rfc/rfc6455")

    def _new_peer(self, agent_id: str, address: str, options: EndpointOptions) -> Peer:
        return Peer(agent_id, address, options)

    async def _close_peer(self, peer: Peer) -> None:
        await peer.close(BackendClosedError(f"{peer.address}: the ws backend was closed before the answer"))

    async def register_endpoint(self, agent_id: str, address: str) -> None:
        """Register an agent's address; idempotent. Close a connection to an earlier address of the agent.

        Raises ConfigError on an address or a header that is not valid.
        """
        former = self._peers.get(agent_id)
        await super().register_endpoint(agent_id, address)
        if former is not None and former is not self._peers[agent_id]:
            self._ever.remove(former)
            await former.close(ConnectError(f"{former.address}: agent {agent_id!r} was registered at {address}"))

    async def connect(self, src_id: str, dst_id: str) -> None:
        """Open the connection."""
        del src_id
        await self._peer(dst_id).connected()

    def _exchange(self, dst_id: str, payload: Mapping[str, Any]) -> WsExchange:
        return WsExchange(self._peer(dst_id), payload, self._cancels)

    async def _probe(self, peer: Peer) -> bool:
        """Whether the agent answers a ping frame with `"status": "ok"`."""
        return await peer.probe()

    async def describe(self, agent_id: str) -> Mapping[str, Any]:
        """The agent's answer to a ping frame, its limit on a request, and its clock."""
        return await self._peer(agent_id).describe()

    async def spawn_local_agent(self, agent_id: str, host: str, port: int, executor: Any) -> WsAgent:
        """Host `executor` in this process; returns when it is ready. Port 0 takes a free one.

        Raises:
            ConfigError: the address is not allowed.
            ConnectError: the port is in use.
        """
        return await self._host(_host_half, agent_id, host, port, executor)


def _host_half() -> Callable[..., Awaitable[WsAgent]]:
    from streaming_queue.protocol_backend.ws.host import spawn

    return spawn
