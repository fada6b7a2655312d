"""The seam: one class per protocol. Names and order are the guide's (2.2)."""

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
    """What a backend claims. The conformance kit holds it to every claim; what is not claimed is skipped.

    `host`: it can run agents in this process. `streaming`: deltas arrive before the answer is whole. `cancel`: a
    cancelled send stops the work at the peer. `metadata`: the call's context reaches the executor and its annotations
    come back. `identity`: the peer knows who asks. `e2e_encryption`: nobody between can read the text. `tasks`: an
    answer that lasts is a task at the peer, which goes on when its reader vanishes and can be come back to.
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
    """What people are told of a protocol (`stq protocol list`); all of it may be left out.

    `probe` is what `health_check` asks, in a phrase. `specification` is what the protocol is written down in, with its
    version, and `link` where that can be read.
    """

    probe: str = ""
    specification: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True)
class EndpointOptions:
    """How to speak to one agent: extra headers, a bearer credential (sent to its own origin only), a TLS context."""

    headers: Mapping[str, str] = field(default_factory=dict)
    credential: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class HostLimits:
    """What a host takes from its callers. Sizes in bytes, times in seconds.

    How many values a message may have is the same for every host (`comm.strict_json.MAX_VALUES`).
    `disconnect_grace_s` is how long a question with an idempotency key goes on when its caller has vanished, so that a
    coordinator that was killed can come back for the answer; a caller that says it leaves ends it at once.
    """

    body_bytes: int = 1024 * 1024
    body_deadline_s: float = 10.0
    disconnect_grace_s: float = 600.0
    stop_s: float = 5.0
    connections: int = 4096


@dataclass(frozen=True, slots=True)
class HostOptions:
    """How to host agents. `authenticator` maps a bearer credential to a principal, None to refuse.

    `anonymous` is the principal of a caller that shows no credential; None: such a caller is refused, too.
    `allow_public` permits an address that other machines reach although nobody is authenticated.
    `allowed_hosts` are further names accepted in the Host header, beside the bound address and loopback.
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
    """An agent hosted in this process, ready to be asked."""

    @property
    def agent_id(self) -> str:
        """Who it is."""

    @property
    def base_url(self) -> str:
        """Where it is: what `register_endpoint` takes."""

    async def stop(self) -> None:
        """Stop serving; idempotent, bounded even with a hung executor."""

    async def drain(self, timeout_s: float) -> None:
        """Take on no question more, be unhealthy, and return when those under way have ended, `timeout_s` at the most.

        A backend of others may lack it: its agents are stopped without.
        """


class BaseCommBackend(ABC):
    """A protocol. Two methods are required: `send` and `health_check`.

    What each member promises stands line by line in docs/conformance.md; `streaming_queue.testing` holds it to that.

    A subclass need not call `super().__init__()`. `options` are per-agent `EndpointOptions`, `host_options` apply to
    the agents it hosts.
    """

    name: ClassVar[str] = ""
    """The protocol's short name, as it stands in results."""
    schemes: ClassVar[tuple[str, ...]] = ()
    """URL schemes an address may have; empty: any."""
    socket_schemes: ClassVar[tuple[str, ...]] = ()
    """Schemes of this protocol's own that name a socket: an address that comes over a wire may have these, too."""
    capabilities: ClassVar[Capabilities] = Capabilities()
    about: ClassVar[About] = About()
    route: Callable[[str, str, Mapping[str, Any]], Awaitable[Reply]] | None = None
    """How hosted agents reach their neighbours: (source, destination, payload); set by the network."""

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
        """The protocol that reaches `agent_id`, as results name it: `name`, else `toy` for a `ToyCommBackend`."""
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
        """Remember where an agent is; idempotent. Raises ConfigError on a scheme that the protocol does not speak."""
        if self.schemes and urlsplit(address).scheme not in self.schemes:
            wanted = " or ".join(f"{scheme}://" for scheme in self.schemes)
            raise ConfigError(f"agent {agent_id!r}: address {address!r} must start with {wanted}")
        self.endpoints[agent_id] = address

    async def connect(self, src_id: str, dst_id: str) -> None:
        """Warm up for an edge, before its first message. Default: nothing to do."""

    @abstractmethod
    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Any:
        """Deliver `payload` and return the `Reply`; cancelling it is the cancel of a question.

        Raises:
            CommError: the exchange failed; the class says how.
            StreamingQueueError: the agent failed; the same class that it raised there.
        """

    async def stream(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> AsyncIterator[StreamEvent]:
        """Deliver `payload` and yield events: deltas and statuses, then one message, the end; raises like `send`.

        Default: one `send`, one message.
        """
        yield answer_event(await self.send(src_id, dst_id, payload))

    @abstractmethod
    async def health_check(self, agent_id: str) -> bool:
        """Whether the agent answers the protocol's own light probe; bounded, never raises."""

    async def probe(self, agent_id: str) -> StreamingQueueError | None:
        """Why the agent does not answer its light probe, None where it does; bounded, never raises.

        An AuthError says that the agent is there and refuses our credential, which counts as an answer. Default:
        `health_check`, without a reason.
        """
        if await self.health_check(agent_id):
            return None
        return ConnectError("it does not answer its probe")

    async def describe(self, agent_id: str) -> Mapping[str, Any]:
        """What the agent says about itself, for people; found out without a model. Default: nothing.

        `date` is its clock (a datetime with its zone), where the protocol tells. Raises CommError: the agent cannot be
        reached, does not speak the protocol, or refuses our credential.
        """
        del agent_id
        return {}

    async def close(self) -> None:
        """Give up connections and hosted agents; idempotent and bounded. Default: nothing to do."""

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
