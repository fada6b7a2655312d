"""The client half; `host.py` is the host half."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import grpc

from streaming_queue.comm.base import About, Capabilities, EndpointOptions
from streaming_queue.comm.client.backend import PeerBackend
from streaming_queue.comm.client.exchange import ExchangeBackend
from streaming_queue.protocol_backend.grpc.client import PROBE_TIMEOUT_S, GrpcExchange, Peer

if TYPE_CHECKING:
    from streaming_queue.protocol_backend.grpc.service import GrpcAgent


class GrpcCommBackend(ExchangeBackend, PeerBackend[Peer]):
    """Agents at `grpc://host:port`, or `grpcs://host:port` with TLS; one connection each.

    gRPC cannot use an `ssl.SSLContext`. Beyond the library's default trust, TLS needs the library's own credentials:
    `channel_credentials` by agent id (`grpc.ssl_channel_credentials`) and `server_credentials` for the agents hosted
    here (`grpc.ssl_server_credentials`).
    """

    name = "grpc"
    schemes = ("grpc", "grpcs")
    probe_timeout_s = PROBE_TIMEOUT_S + 0.5  # the call has its own deadline, with a better error
    capabilities = Capabilities(host=True, streaming=True, cancel=True, metadata=True)
    about = About(
        "grpc.health.v1 Check",
        "agent.proto v1 over gRPC",
        "https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md",
    )

    def __init__(
        self,
        *,
        channel_credentials: Mapping[str, grpc.ChannelCredentials] | None = None,
        server_credentials: grpc.ServerCredentials | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._server_credentials = server_credentials
        self._channel_credentials = channel_credentials or {}

    def _new_peer(self, agent_id: str, address: str, options: EndpointOptions) -> Peer:
        return Peer(agent_id, address, options, self._channel_credentials.get(agent_id))

    async def _close_peer(self, peer: Peer) -> None:
        await peer.close()

    def _exchange(self, dst_id: str, payload: Mapping[str, Any]) -> GrpcExchange:
        return GrpcExchange(self._peer(dst_id), payload, self._cancels)

    async def _probe(self, peer: Peer) -> bool:
        """Whether the agent's server is SERVING (`grpc.health.v1`)."""
        return await peer.check()

    async def describe(self, agent_id: str) -> Mapping[str, Any]:
        """The answer of the agent's `Describe`; empty if the agent has no `Describe`."""
        return await self._peer(agent_id).describe()

    async def spawn_local_agent(self, agent_id: str, host: str, port: int, executor: Any) -> GrpcAgent:
        """Host `executor` in this process; returns when it is ready. Port 0 takes a free one.

        Raises:
            ConfigError: the address or the TLS option is not allowed.
            ConnectError: the port is in use.
        """
        return await self._host(_host_half, agent_id, host, port, executor, credentials=self._server_credentials)


def _host_half() -> Callable[..., Awaitable[GrpcAgent]]:
    from streaming_queue.protocol_backend.grpc.host import spawn

    return spawn
