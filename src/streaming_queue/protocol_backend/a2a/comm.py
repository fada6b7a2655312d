"""The backend: its client half is our own A2A client, its host half (`host.py`) uses the official SDK."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

from yarl import URL

from streaming_queue.comm.base import About, Capabilities, EndpointOptions
from streaming_queue.comm.client.backend import HttpBackend
from streaming_queue.comm.client.exchange import ExchangeBackend
from streaming_queue.errors import ConfigError, SendTimeoutError
from streaming_queue.messages import Reply, StreamEvent
from streaming_queue.protocol_backend.a2a.card import BINDINGS, JSONRPC
from streaming_queue.protocol_backend.a2a.client import Peer
from streaming_queue.protocol_backend.a2a.exchange import A2AExchange

if TYPE_CHECKING:
    from streaming_queue.protocol_backend.a2a.host import A2AAgent

T = TypeVar("T")

DEADLINE_MARGIN_S = 1.0
"""We wait this much longer than the peer's deadline, in seconds, so that the peer's own failure arrives first."""


class A2ACommBackend(ExchangeBackend, HttpBackend[Peer]):
    """Agents at `http://` or `https://` addresses that speak A2A 1.0 or 0.3.

    An agent's card may name interfaces at the agent's own origin and at `trusted_origins` (`"https://host:port"`); the
    agent's credential goes to its own origin only. `grpc`: hosted agents are also served by gRPC, on a separate port.
    `binding` (one of `card.BINDINGS`) is the preferred interface if a card offers it; else we use the default order.
    """

    name = "a2a"
    capabilities = Capabilities(host=True, streaming=True, cancel=True, metadata=True, tasks=True)
    about = About("GET of the Agent Card", "A2A 1.0 and 0.3", "https://a2a-protocol.org/v1.0.0/specification/")

    def __init__(
        self, *, trusted_origins: Collection[str] = (), grpc: bool = False, binding: str = JSONRPC, **options: Any
    ) -> None:
        super().__init__(**options)
        # The SDK's spans cost about a millisecond a request, and our own events have the same facts. The SDK reads this
        # variable at its import, and an executor's module may import the SDK.
        os.environ.setdefault("OTEL_INSTRUMENTATION_A2A_SDK_ENABLED", "false")
        try:
            self._trusted_origins = frozenset(URL(origin).origin() for origin in trusted_origins)
        except ValueError as error:
            raise ConfigError(f"trusted_origins: {error}; an origin is https://host:port") from error
        if binding not in BINDINGS:
            raise ConfigError(f"binding {binding!r} is unknown: choose one of {', '.join(BINDINGS)}")
        self._by_grpc = grpc
        self._binding = binding

    def _new_peer(self, agent_id: str, address: str, options: EndpointOptions) -> Peer:
        trusted = self._trusted_origins
        return Peer(agent_id, address, options, self._session, trusted_origins=trusted, binding=self._binding)

    async def _close_peer(self, peer: Peer) -> None:
        await peer.close()

    def _exchange(self, dst_id: str, payload: Mapping[str, Any]) -> A2AExchange:
        return A2AExchange(self._peer(dst_id), payload, self._cancels)

    async def connect(self, src_id: str, dst_id: str) -> None:
        """Read the agent's card."""
        del src_id
        await self._peer(dst_id).interface()

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Reply:
        """Send a message; if it becomes a task, follow the task to its end. `raw` is the message or task as JSON."""
        del src_id
        exchange = self._exchange(dst_id, payload)
        return await _until(_deadline(payload), exchange, exchange.answer())

    async def stream(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> AsyncIterator[StreamEvent]:
        """Like `send`, but yield the answer's deltas and the statuses as they arrive."""
        del src_id
        exchange, deadline = self._exchange(dst_id, payload), _deadline(payload)
        async with aclosing(exchange.stream()) as events:
            while (event := await _until(deadline, exchange, anext(events, None))) is not None:
                yield event

    async def _probe(self, peer: Peer) -> bool:
        """Whether the agent serves a usable card."""
        await peer.refresh_card()
        return True

    async def describe(self, agent_id: str) -> Mapping[str, Any]:
        """A summary of the agent's card, and the interface that we use."""
        return await self._peer(agent_id).describe()

    async def spawn_local_agent(self, agent_id: str, host: str, port: int, executor: Any) -> A2AAgent:
        """Host `executor` in this process; returns when it is ready. Port 0 takes a free one.

        `executor` is the guide's, or an `AgentExecutor` of the A2A SDK.

        Raises:
            BackendNotInstalledError: gRPC is on, and its library is missing.
            ConfigError: the address is not allowed.
            ConnectError: the port is in use.
        """
        return await self._host(_host_half, agent_id, host, port, executor, by_grpc=self._by_grpc)


def _host_half() -> Callable[..., Awaitable[A2AAgent]]:
    from streaming_queue.protocol_backend.a2a.host import spawn

    return spawn


def _deadline(payload: Mapping[str, Any]) -> float | None:
    """The end of the wait for an answer, by the loop's clock; None for a command: a command has no deadline."""
    metadata = payload.get("metadata") or {}
    deadline_ms = metadata.get("deadline_ms")
    if metadata.get("kind") == "command" or not isinstance(deadline_ms, int) or isinstance(deadline_ms, bool):
        return None
    return asyncio.get_running_loop().time() + deadline_ms / 1000 + DEADLINE_MARGIN_S


async def _until(deadline: float | None, exchange: A2AExchange, coming: Awaitable[T]) -> T:
    """Await `coming` up to the deadline. Raises SendTimeoutError at the deadline."""
    try:
        async with asyncio.timeout_at(deadline):
            return await coming
    except TimeoutError as error:
        if isinstance(error, SendTimeoutError):
            raise
        raise SendTimeoutError(f"{exchange.address}: no answer before the deadline") from error
