"""The interface of a backend: one class per protocol. Names and order follow the guide (2.2)."""

from __future__ import annotations

import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Protocol
from urllib.parse import urlsplit

from streaming_queue.comm.context import EventQueue, Executor, RequestContext
from streaming_queue.errors import ConfigError, ConnectError, StreamingQueueError, UnknownAgentError
from streaming_queue.messages import Reply, StreamEvent, answer_event

__all__ = [
    "About",
    "AgentHandle",
    "BaseCommBackend",
    "Capabilities",
    "EndpointOptions",
    "EventQueue",
    "Executor",
    "HostLimits",
    "HostOptions",
    "RequestContext",
]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The capabilities of a backend. The conformance kit tests each one that is set, and skips the others.

    `host`: it can run agents in this process. `streaming`: deltas arrive before the answer is whole. `cancel`: a
    cancelled send stops the work at the peer. `metadata`: the call's context reaches the executor and its annotations
    come back. `identity`: the peer knows the caller. `e2e_encryption`: no proxy can read the text. `tasks`: a long
    answer is a task at the peer; the task goes on when its reader disconnects, and the reader can attach again.
    """

    host: bool = False
    streaming: bool = False
    cancel: bool = False
    metadata: bool = False
    identity: bool = False
    e2e_encryption: bool = False
    tasks: bool = False


@dataclass(frozen=True, slots=True)
class About:
    """The description of a protocol for people (`stq protocol list`). Each field may be empty.

    `probe` describes the request of `health_check` in a phrase. `specification` names the protocol's specification and
    its version; `link` is its URL.
    """

    probe: str = ""
    specification: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True)
class EndpointOptions:
    """Options of one agent: extra headers, a bearer credential (sent to its own origin only), a TLS context."""

    headers: Mapping[str, str] = field(default_factory=dict)
    credential: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class HostLimits:
    """The limits of a host for its callers. Sizes in bytes, times in seconds.

    Every host has the same limit for the number of values in a message (`comm.strict_json.MAX_VALUES`).
    `disconnect_grace_s`: a question with an idempotency key goes on for this time after its caller disconnected. So a
    coordinator that was killed can restart and get the answer. A cancel by the caller ends the question at once.
    """

    body_bytes: int = 1024 * 1024
    body_deadline_s: float = 10.0
    disconnect_grace_s: float = 600.0
    stop_s: float = 5.0
    connections: int = 4096


@dataclass(frozen=True, slots=True)
class HostOptions:
    """Options of hosted agents. `authenticator` maps a bearer credential to a principal; None refuses the caller.

    `anonymous` is the principal of a caller without a credential; with None, the host refuses such a caller.
    `allow_public` permits an address that other machines reach without authentication.
    The host accepts `allowed_hosts` in the Host header, beside the bound address and loopback.
    """

    tls: ssl.SSLContext | None = None
    authenticator: Callable[[str], Awaitable[str | None]] | None = None
    limits: HostLimits = HostLimits()
    allow_public: bool = False
    allowed_hosts: tuple[str, ...] = ()
    anonymous: str | None = None

    @property
    def guarded(self) -> bool:
        """Whether each caller needs a credential."""
        return self.authenticator is not None and self.anonymous is None


class AgentHandle(Protocol):
    """An agent that this process hosts and that is ready for questions."""

    @property
    def agent_id(self) -> str:
        """The agent's id."""

    @property
    def base_url(self) -> str:
        """The agent's address, for `register_endpoint`."""

    async def stop(self) -> None:
        """Stop serving; idempotent, bounded even with a hung executor."""

    async def drain(self, timeout_s: float) -> None:
        """Refuse new questions, be unhealthy, and return when those in flight have ended, after `timeout_s` at most.

        A third-party backend may lack this method; then its agents stop without a drain.
        """


class BaseCommBackend(ABC):
    """A protocol. Two methods are required: `send` and `health_check`.

    docs/conformance.md lists the promises of each method and attribute; `streaming_queue.testing` tests them.

    A subclass need not call `super().__init__()`. `options` are per-agent `EndpointOptions`, `host_options` apply to
    the agents it hosts.
    """

    name: ClassVar[str] = ""
    """The protocol's short name, as in results."""
    schemes: ClassVar[tuple[str, ...]] = ()
    """URL schemes of an address; empty: any."""
    socket_schemes: ClassVar[tuple[str, ...]] = ()
    """Schemes of this protocol that name a socket: an address from a message may have these, too."""
    capabilities: ClassVar[Capabilities] = Capabilities()
    about: ClassVar[About] = About()
    route: Callable[[str, str, Mapping[str, Any]], Awaitable[Reply]] | None = None
    """The function for hosted agents' calls to neighbours: (source, destination, payload). The network sets it."""

    def __init__(
        self,
        *,
        options: Mapping[str, EndpointOptions] | None = None,
        host_options: HostOptions | None = None,
    ) -> None:
        self.options: Mapping[str, EndpointOptions] = {} if options is None else options
        self.host_options = host_options or HostOptions()

    @property
    def endpoints(self) -> dict[str, str]:
        """Addresses by agent id."""
        table: dict[str, str] = self.__dict__.setdefault("_endpoints", {})
        return table

    def endpoint(self, agent_id: str) -> str:
        """The address of an agent. Raises UnknownAgentError."""
        try:
            return self.endpoints[agent_id]
        except KeyError:
            raise UnknownAgentError(f"no address is registered for agent {agent_id!r}") from None

    def protocol_of(self, agent_id: str) -> str:
        """The protocol of `agent_id`, as in results: `name`, else `toy` for a `ToyCommBackend`."""
        del agent_id
        return self.name or type(self).__name__.removesuffix("Backend").removesuffix("Comm").lower()

    def request(
        self,
        agent_id: str,
        payload: Mapping[str, Any],
        *,
        principal: str | None = None,
        streaming: bool = False,
        context_id: str | None = None,
    ) -> RequestContext:
        """The context in which a host runs the executor of `agent_id` for one message."""
        route = self.route
        call = None if route is None else partial(route, agent_id)
        return RequestContext(
            payload, agent_id=agent_id, principal=principal, streaming=streaming, context_id=context_id, call=call
        )

    async def register_endpoint(self, agent_id: str, address: str) -> None:
        """Register an agent's address; idempotent. Raises ConfigError on a scheme that is not in `schemes`."""
        if self.schemes and urlsplit(address).scheme not in self.schemes:
            wanted = " or ".join(f"{scheme}://" for scheme in self.schemes)
            raise ConfigError(f"agent {agent_id!r}: address {address!r} must start with {wanted}")
        self.endpoints[agent_id] = address

    async def connect(self, src_id: str, dst_id: str) -> None:
        """Prepare an edge before its first message, for example open a connection. Default: nothing."""

    @abstractmethod
    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Any:
        """Send `payload` and return the `Reply`. If the caller cancels this call, the question is cancelled.

        Raises:
            CommError: the exchange failed; the class gives the kind of failure.
            StreamingQueueError: the agent failed; the class is the one that the agent raised.
        """

    async def stream(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> AsyncIterator[StreamEvent]:
        """Send `payload` and yield events: deltas and statuses, then one message as the end. Raises like `send`.

        Default: one `send`, one message.
        """
        yield answer_event(await self.send(src_id, dst_id, payload))

    @abstractmethod
    async def health_check(self, agent_id: str) -> bool:
        """Whether the agent answers the protocol's own cheap probe; bounded, never raises."""

    async def probe(self, agent_id: str) -> StreamingQueueError | None:
        """The reason why the agent does not answer its cheap probe, None if it does; bounded, never raises.

        An AuthError means that the agent is there and refuses our credential; that counts as an answer. Default:
        `health_check`, without a reason.
        """
        if await self.health_check(agent_id):
            return None
        return ConnectError("it does not answer its probe")

    async def describe(self, agent_id: str) -> Mapping[str, Any]:
        """The agent's description of itself, for people; costs no model call. Default: nothing.

        `date` is the agent's clock (a datetime with its zone), if the protocol carries it. Raises CommError: the agent
        cannot be reached, does not speak the protocol, or refuses our credential.
        """
        del agent_id
        return {}

    async def close(self) -> None:
        """Close connections and stop hosted agents; idempotent and bounded. Default: nothing."""

    async def spawn_local_agent(self, agent_id: str, host: str, port: int, executor: Any) -> Any:
        """Host `executor` in this process and return its `AgentHandle` once it is ready. Port 0 takes a free one.

        Raises:
            ConfigError: the protocol cannot host here, or the address is not allowed.
            ConnectError: the port is in use.
        """
        del host, port, executor
        raise ConfigError(
            f"{type(self).__name__} cannot host {agent_id!r} in this process: start the agent yourself "
            "and give its address (qa.worker.endpoints, or endpoints in a group of workers)"
        )
