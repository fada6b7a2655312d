"""The environment of a check: a backend under test, its agents, and the relays between them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from streaming_queue.comm.base import BaseCommBackend, Capabilities, HostLimits, HostOptions
from streaming_queue.messages import StreamEvent
from streaming_queue.testing.contract import Need
from streaming_queue.testing.executors import Echo
from streaming_queue.testing.relay import LOOPBACK, Relay

STOP_S = 1.0
GRACE_S = 60.0
"""Limits of the hosts (`HostLimits`); a check may have a shorter grace."""
QUESTION = "What is the capital of France?"
SENDER = "kit"
WAYS = ("send", "stream")
_CLOSE_BOUND_S = STOP_S + 2.0


@dataclass
class Hosted:
    """An agent of a check. `address` is the registered address: the relay's, if there is one.

    `handle` is None for an endpoint.
    """

    agent_id: str
    address: str
    handle: Any = None
    relay: Relay | None = None

    @property
    def place(self) -> str:
        """The place that an error names: host and port, or the whole address without a relay."""
        return self.address if self.relay is None else f"{LOOPBACK}:{self.relay.port}"

    @property
    def wire(self) -> Relay:
        """The relay; skips the check if there is none."""
        if self.relay is None:
            pytest.skip(f"no wire: no relay is possible between the backend and {self.address}")
        return self.relay


def make_backend(backend_class: Any, options: Mapping[str, Any], grace_s: float = GRACE_S) -> Any:
    """The backend under test, with the kit's limits if its constructor takes `host_options`."""
    limits = HostLimits(disconnect_grace_s=grace_s, stop_s=STOP_S)
    given = {"host_options": HostOptions(limits=limits), **options}
    try:
        inspect.signature(backend_class).bind(**given)
    except TypeError:
        given = dict(options)
    return backend_class(**given)


class Lab:
    """The backend of a check, its agents and their wires."""

    def __init__(
        self,
        backend: Any,
        *,
        endpoint: str | None = None,
        echoes: bool = False,
        bind: str = LOOPBACK,
        relayed: bool = True,
    ) -> None:
        self.backend = backend
        self.claims: Capabilities = getattr(backend, "capabilities", Capabilities())
        self.endpoint = endpoint
        self.agents: list[Hosted] = []
        self._echoes = echoes
        self._bind = bind
        self._relayed = relayed
        self._streams: list[Any] = []
        self._relays = AsyncExitStack()

    @property
    def can_host(self) -> bool:
        """Whether the backend has its own `spawn_local_agent`."""
        own = getattr(type(self.backend), "spawn_local_agent", None)
        return own is not None and own is not BaseCommBackend.spawn_local_agent

    @property
    def hosts(self) -> bool:
        """Whether agents are hosted in this process, not asked at the endpoint."""
        return self.endpoint is None and self.can_host

    def require(self, needs: Sequence[Need]) -> None:
        """Skip the check, with a reason, if the backend lacks a need of a line."""
        for need in needs:
            if need in ("host", "echo", "agent"):
                self._require_agent(need)
            elif not getattr(self.claims, need):
                pytest.skip(f"not claimed: {need}")

    def _require_agent(self, need: Need) -> None:
        if self.hosts:
            return
        if self.endpoint is None:
            pytest.skip("the backend cannot host agents in this process, and the test gives no `endpoint`")
        if need == "host" or (need == "echo" and not self._echoes):
            unknown = "answer" if need == "echo" else "behaviour"
            pytest.skip(f"the agent at {self.endpoint} is not ours: its {unknown} is not known")

    async def spawn(self, executor: Any, agent_id: str = "w", port: int = 0) -> Any:
        """Host `executor` and return its handle."""
        return await self.backend.spawn_local_agent(agent_id, self._bind, port, executor)

    async def host(self, executor: Any, agent_id: str = "w") -> Hosted:
        """Host `executor` and register it behind a relay."""
        handle = await self.spawn(executor, agent_id)
        return await self._register(agent_id, handle.base_url, handle)

    async def agent(self, agent_id: str = "w") -> Hosted:
        """An agent that answers: one that echoes, or the endpoint."""
        if self.hosts:
            return await self.host(Echo(), agent_id)
        return await self._register(agent_id, str(self.endpoint))

    async def _register(self, agent_id: str, address: str, handle: Any = None) -> Hosted:
        relay = Relay.to(address) if self._relayed else None
        if relay is not None:
            await self._relays.enter_async_context(relay)
            address = relay.address(address)
        agent = Hosted(agent_id, address, handle, relay)
        self.agents.append(agent)
        await self.backend.register_endpoint(agent_id, address)
        return agent

    async def send(self, text: str = QUESTION, agent_id: str = "w", **metadata: Any) -> Any:
        """Ask by `send` and return the reply."""
        return await self.backend.send(SENDER, agent_id, _payload(text, metadata))

    def stream(self, text: str = QUESTION, agent_id: str = "w", **metadata: Any) -> AsyncIterator[StreamEvent]:
        """Ask by `stream`. A backend without one uses that of the base."""
        own = getattr(self.backend, "stream", None)
        payload = _payload(text, metadata)
        if own is None:
            return BaseCommBackend.stream(self.backend, SENDER, agent_id, payload)
        events: AsyncIterator[StreamEvent] = own(SENDER, agent_id, payload)
        self._streams.append(events)
        return events

    async def events(self, text: str = QUESTION, agent_id: str = "w", **metadata: Any) -> list[StreamEvent]:
        """All events of a stream."""
        return [event async for event in self.stream(text, agent_id, **metadata)]

    async def ask(self, way: str, text: str = QUESTION, agent_id: str = "w", **metadata: Any) -> Any:
        """The answer's text, by a `way` of `WAYS`."""
        if way == "send":
            return (await self.send(text, agent_id, **metadata))["text"]
        events = await self.events(text, agent_id, **metadata)
        return events[-1].get("data") if events else None

    def wire(self) -> list[str]:
        """The end of the traffic on each wire, a line for each direction."""
        seen = []
        for agent in self.agents:
            if agent.relay is None:
                seen.append(f"wire: no relay was possible ({agent.address})")
            else:
                seen.append(f"wire to {agent.agent_id!r} at {agent.address}: {agent.relay.sent.excerpt()}")
                seen.append(f"wire from {agent.agent_id!r}: {agent.relay.received.excerpt()}")
        return seen or ["wire: no agent was asked"]

    async def close(self) -> None:
        """Close the backend and the relays within a bound. Other checks judge how the backend closes."""
        for stream in self._streams:
            if hasattr(stream, "aclose"):
                await _bounded(stream.aclose())
        await _bounded(self.backend.close())
        await self._relays.aclose()


async def _bounded(ending: Any) -> None:
    task = asyncio.ensure_future(ending)
    await asyncio.wait({task}, timeout=_CLOSE_BOUND_S)
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=1)
    elif not task.cancelled():
        task.exception()  # retrieved, so that asyncio does not warn


def _payload(text: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {"text": text, "metadata": dict(metadata)} if metadata else {"text": text}
