"""The logical network: agents, edges, and the routing of messages, independent of protocols."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol, cast

from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.context import current_call, progressed
from streaming_queue.comm.probing import answers
from streaming_queue.core.idle_timeout import IdleTimeouts
from streaming_queue.core.network_health import NetworkHealth
from streaming_queue.core.topology import Topology
from streaming_queue.errors import (
    ProtocolError,
    RemoteError,
    StreamingQueueError,
    TopologyError,
    UnavailableError,
    UnreachableError,
    error_event,
    error_from_event,
    typed,
)
from streaming_queue.masking import masked
from streaming_queue.messages import DELTA, MESSAGE, End, Reply, ReplyMetadata, StreamEvent
from streaming_queue.telemetry.events import EventListener

logger = logging.getLogger(__name__)

RUNNER_ID = "Runner"
"""The built-in control source: it may reach any agent without an edge, and is not an agent."""

HOP_LIMIT = 8


class Service(Protocol):
    """A service that uses the network and ends before the network, such as a coordinator."""

    def figures(self) -> ReplyMetadata:
        """The state of the service's work."""

    def drain(self) -> None:
        """Begin no new work; the work in flight ends."""

    async def close(self) -> None:
        """End the service; bounded."""


@dataclass(slots=True)
class MessageMetrics:
    """The messages to one agent. Bytes count the UTF-8 text, not the protocol's envelope."""

    messages: int = 0
    errors: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    seconds: float = 0.0

    def count(self, started: float, message: Mapping[str, Any], answer: str, *, failed: bool) -> None:
        """Count a message that began at `started` (`time.perf_counter`) and ends now."""
        self.seconds += time.perf_counter() - started
        self.messages += 1
        self.errors += failed
        self.request_bytes += len(str(message.get("text") or "").encode())
        self.response_bytes += len(answer.encode())

    def snapshot(self) -> dict[str, float]:
        """The figures with the mean latency in milliseconds."""
        figures = asdict(self)
        seconds = figures.pop("seconds")
        return figures | {"mean_ms": round(1000 * seconds / max(1, self.messages), 3)}


class NetworkBase:
    """Agents, edges and routing over one backend (a composite in a mixed network).

    `message_timeout_s` bounds the silence of a question's peer, `idle_timeout_s` the pause after a piece of its answer
    (0: no bound); a command has no bound.
    """

    def __init__(
        self, comm_backend: BaseCommBackend, *, message_timeout_s: float = 600.0, idle_timeout_s: float = 120.0
    ) -> None:
        self.comm_backend = comm_backend
        self.message_timeout_s = message_timeout_s
        self.idle_timeout_s = idle_timeout_s
        self.services: list[Service] = []
        self._topology = Topology()
        self._watch = IdleTimeouts()
        self._addresses: dict[str, str] = {}
        self._killed: set[str] = set()
        self.health = NetworkHealth(lambda: self.comm_backend, self._addresses, self._killed)
        self._warm: set[tuple[str, str]] = set()
        self._warming: dict[tuple[str, str], asyncio.Lock] = {}
        self._metrics: dict[str, MessageMetrics] = {}
        self._closed = False
        comm_backend.route = self.route_message

    # --- agents and edges ---

    async def register_agent(self, agent_id: str, address: str | None = None) -> None:
        """Add an agent at `address`; an agent without an address can only send.

        Raises TopologyError on a duplicate, ConfigError on a wrong address.
        """
        if agent_id == RUNNER_ID:
            raise TopologyError(f"{RUNNER_ID!r} is the name of the control source; choose another agent id")
        self._topology.add(agent_id)
        if address is None:
            return
        try:
            await self.comm_backend.register_endpoint(agent_id, address)
        except BaseException:
            self._topology.remove(agent_id)
            raise
        self._addresses[agent_id] = address
        self._metrics[agent_id] = MessageMetrics()

    async def unregister_agent(self, agent_id: str) -> None:
        """Remove an agent and its edges. Raises UnknownAgentError."""
        self._topology.remove(agent_id)
        self._addresses.pop(agent_id, None)
        self._metrics.pop(agent_id, None)
        self.health.forget(agent_id)
        self._killed.discard(agent_id)
        self._warm = {edge for edge in self._warm if agent_id not in edge}

    async def kill_agents(self, agent_ids: Iterable[str]) -> list[str]:
        """Disconnect agents, as if they had crashed: they stay registered, but receive no more messages.

        Returns the agents that were alive. Raises UnknownAgentError.
        """
        wanted = list(agent_ids)
        for agent_id in wanted:
            self._topology.neighbours(agent_id)
        alive = [agent_id for agent_id in wanted if agent_id not in self._killed]
        self._killed.update(alive)
        return alive

    async def connect_agents(self, a: str, b: str) -> None:
        """Add the edge between two agents, both ways. Raises UnknownAgentError."""
        self._topology.connect(a, b)

    async def disconnect_agents(self, a: str, b: str) -> None:
        """Remove the edge between two agents. Raises UnknownAgentError."""
        self._topology.disconnect(a, b)

    def setup_star_topology(self, center: str) -> None:
        """Connect `center` with every agent registered so far. Raises UnknownAgentError."""
        self._topology.star(center)

    def setup_mesh_topology(self) -> None:
        """Connect all agents registered so far with each other."""
        self._topology.mesh()

    def setup_custom_topology(self, edges: Iterable[Sequence[str]]) -> None:
        """Add edges given as pairs. Raises UnknownAgentError."""
        for a, b in edges:
            self._topology.connect(a, b)

    def get_agents(self) -> dict[str, str]:
        """Addresses by agent id, in order of registration."""
        return dict(self._addresses)

    def get_topology(self) -> dict[str, list[str]]:
        """Sorted neighbours by agent id."""
        return {agent_id: sorted(self._topology.neighbours(agent_id)) for agent_id in self._topology}

    # --- messages ---

    async def route_message(self, src_id: str, dst_id: str, payload: Mapping[str, Any]) -> Reply:
        """Send a message along an edge; a remote failure returns `{"raw", "text": "", "error"}`.

        The current call's context (`comm.context`) is merged into the payload's metadata.

        Raises:
            UnknownAgentError: no such agent.
            UnreachableError: no edge leads there.
            TopologyError: agents forwarded the message too often.
        """
        metrics = self._check_edge(src_id, dst_id)
        message = _with_call(payload, dst_id)
        started = time.perf_counter()
        try:
            with self._silence(dst_id):
                await self._warm_up(src_id, dst_id)
                reply = _checked(await self.comm_backend.send(src_id, dst_id, message), dst_id)
        except Exception as error:
            reply = Reply(raw=None, text="", error=typed(error, self._where(dst_id)))
        metrics.count(started, message, reply["text"], failed="error" in reply)
        return reply

    async def stream_message(
        self, src_id: str, dst_id: str, payload: Mapping[str, Any]
    ) -> AsyncGenerator[StreamEvent, None]:
        """Like `route_message`, but yield events; the last one is the answer, or a failure with the error as `error`.

        Closing the generator cancels a question. Raises like `route_message`.
        """
        metrics = self._check_edge(src_id, dst_id)
        message = _with_call(payload, dst_id)
        started = time.perf_counter()
        end: End = {"type": MESSAGE, "data": ""}
        try:
            with self._silence(dst_id):
                await self._warm_up(src_id, dst_id)
                events: Any = self.comm_backend.stream(src_id, dst_id, message)
                async with aclosing(events):
                    async for event in events:
                        if event["type"] == MESSAGE:
                            end = event
                            break
                        if event["type"] == DELTA:
                            progressed()
                        yield event
            answer_text(end.get("data"), dst_id)
        except Exception as error:
            failure = typed(error, self._where(dst_id))
            end = {**error_event(failure), "error": failure}
        metrics.count(started, message, str(end.get("data") or ""), failed="error" in end)
        yield end

    def _silence(self, dst_id: str) -> AbstractContextManager[None]:
        call = current_call()
        is_command = call is not None and call.kind == "command"
        if is_command:
            return nullcontext()
        return self._watch.bound(self.message_timeout_s, self.idle_timeout_s, partial(self._where, dst_id))

    def _where(self, agent_id: str) -> str:
        return f"agent {agent_id!r} at {masked(self._addresses.get(agent_id, 'no address'))}"

    async def _warm_up(self, src_id: str, dst_id: str) -> None:
        edge = (src_id, dst_id)
        if edge not in self._warm:
            async with self._warming.setdefault(edge, asyncio.Lock()):
                if edge not in self._warm:
                    await self.comm_backend.connect(src_id, dst_id)
                    self._warm.add(edge)
            self._warming.pop(edge, None)
        if dst_id in self._killed:
            raise UnavailableError(f"agent {dst_id!r} was killed")

    async def broadcast_message(
        self, src_id: str, payload: Mapping[str, Any], *, exclude: Collection[str] = ()
    ) -> dict[str, Reply]:
        """Send to all neighbours of `src_id` (the runner: to all agents) but `exclude`; a reply or error for each."""
        targets = self._addresses if src_id == RUNNER_ID else self._topology.neighbours(src_id)
        wanted = [agent_id for agent_id in targets if agent_id not in exclude]
        replies = await asyncio.gather(*(self.route_message(src_id, agent_id, payload) for agent_id in wanted))
        return dict(zip(wanted, replies, strict=True))

    async def probe(self, agent_ids: Iterable[str] | None = None) -> dict[str, StreamingQueueError | None]:
        """For each agent (default: all) the reason why it does not answer its probe, None if it answers.

        All at once, bounded, never raises. AuthError: the agent answers and refuses our credential.
        """
        return await self.health.probe(self._addresses if agent_ids is None else agent_ids)

    async def health_check(self, agent_ids: Iterable[str] | None = None) -> dict[str, bool]:
        """Whether each agent (default: all) answers its protocol's probe; all at once, bounded, never raises."""
        return {agent_id: answers(reason) for agent_id, reason in (await self.probe(agent_ids)).items()}

    async def require_health(self, *, emit: EventListener | None = None) -> None:
        """Return once every agent answers its protocol's probe; see `NetworkHealth.require`.

        Raises:
            ConnectError: some agents do not answer; the error names them and their reasons.
            ConfigError: wrong settings; some agents cannot be asked at all.
        """
        await self.health.require(list(self._addresses), emit=emit)

    def snapshot_metrics(self) -> dict[str, Any]:
        """Agents, edges and messages so far: `{"agents", "edges", "messages": {agent id: figures}}`."""
        edges = sum(len(self._topology.neighbours(agent_id)) for agent_id in self._topology) // 2
        messages = {agent_id: metrics.snapshot() for agent_id, metrics in self._metrics.items()}
        return {"agents": len(self._topology), "edges": edges, "messages": messages}

    async def close(self) -> None:
        """End the services that use the network, then the backend; idempotent."""
        if self._closed:
            return
        self._closed = True
        try:
            for service in self.services:
                await service.close()
        finally:
            await self.comm_backend.close()

    def _check_edge(self, src_id: str, dst_id: str) -> MessageMetrics:
        if (src_id, dst_id) not in self._warm or not self._topology.allows(src_id, dst_id):
            for agent_id in (src_id, dst_id):
                if agent_id != RUNNER_ID or agent_id == dst_id:
                    self._topology.neighbours(agent_id)
            if src_id != RUNNER_ID and not self._topology.allows(src_id, dst_id):
                raise UnreachableError(f"no edge from {src_id!r} to {dst_id!r}: connect_agents() adds one")
            if dst_id not in self._addresses:
                raise UnreachableError(f"agent {dst_id!r} has no address in this network: it can only send")
        return self._metrics[dst_id]


def _with_call(payload: Mapping[str, Any], dst_id: str) -> dict[str, Any]:
    """The message with the current call's context in its metadata. Raises TopologyError over the hop limit."""
    call = current_call()
    message = dict(payload)
    if call is not None:
        if call.hops > HOP_LIMIT:
            raise TopologyError(
                f"hop limit: the message to {dst_id!r} was forwarded more than {HOP_LIMIT} times; "
                "do the agents ask each other in a circle?"
            )
        message["metadata"] = {**(message.get("metadata") or {}), **call.to_metadata()}
    return message


def answer_text(text: object, agent_id: str) -> str:
    """The text of an agent's answer. Raises ProtocolError for an empty answer."""
    if not isinstance(text, str) or not text:
        raise ProtocolError(f"agent {agent_id!r} sent an empty answer")
    return text


def _checked(reply: Any, agent_id: str) -> Reply:
    """A backend's reply in our format. Raises the failure that the reply reports."""
    if not isinstance(reply, Mapping):
        raise ProtocolError(f"agent {agent_id!r}: the backend returned {type(reply).__name__}, not a mapping")
    raw, text = reply.get("raw"), reply.get("text")
    if isinstance(raw, Mapping) and (failure := raw.get("error")):
        if isinstance(failure, Mapping):
            raise error_from_event(failure, agent_id)
        raise RemoteError(f"agent {agent_id!r} reports: {failure}")
    if isinstance(error := reply.get("error"), BaseException):
        raise error
    checked = Reply(raw=raw, text=answer_text(text, agent_id))
    metadata = reply.get("metadata") or (raw.get("metadata") if isinstance(raw, Mapping) else None)
    if isinstance(metadata, Mapping):
        checked["metadata"] = cast("ReplyMetadata", dict(metadata))
    return checked
