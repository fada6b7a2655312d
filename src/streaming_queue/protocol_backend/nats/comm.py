"""The backend: its servers, the remote agents (`peer.py`) and the hosted agents (`host.py`)."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping
from functools import partial
from secrets import token_hex
from typing import Any

from streaming_queue.comm.base import About, Capabilities, EndpointOptions
from streaming_queue.comm.client.backend import PeerBackend
from streaming_queue.comm.client.exchange import ExchangeBackend
from streaming_queue.comm.client.once import Once
from streaming_queue.errors import ConfigError
from streaming_queue.protocol_backend.nats.address import (
    SCHEMES,
    Login,
    Server,
    check_prefix,
    parse_agent,
    parse_server,
    subject_of,
)
from streaming_queue.protocol_backend.nats.codec import CREDENTIAL_HEADER
from streaming_queue.protocol_backend.nats.host import NatsAgent
from streaming_queue.protocol_backend.nats.inbox import Inbox
from streaming_queue.protocol_backend.nats.link import Link
from streaming_queue.protocol_backend.nats.logins import Logins
from streaming_queue.protocol_backend.nats.peer import PROBE_TIMEOUT_S, NatsExchange, Peer
from streaming_queue.protocol_backend.nats.server import LOCAL_PREFIX, LocalServer, start

_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class NatsCommBackend(ExchangeBackend, PeerBackend[Peer]):
    """Agents at `nats://host:port/subject` addresses; one connection for each server.

    `url` is the server for hosted agents, with its credential; or `credentials` is a file with a JWT and its seed. A
    credential goes to this server only. Without `url`, the backend starts its own server on loopback; `close` stops it.
    `prefix` is the first part of the hosted agents' subjects: agents with the same id and prefix in several processes
    are instances of one agent. Without `prefix`, no other process has the subjects.
    """

    name = "nats"
    schemes = SCHEMES
    probe_timeout_s = PROBE_TIMEOUT_S
    capabilities = Capabilities(host=True, streaming=True, cancel=True, metadata=True)
    about = About(
        "its .health subject",
        "NATS client protocol 1",
        "https://docs.nats.io/reference/reference-protocols/nats-protocol",
    )

    def __init__(
        self, *, url: str | None = None, credentials: str | None = None, prefix: str | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        if url is None and credentials is not None:
            raise ConfigError("nats.credentials need a server: set nats.url, too")
        self._server: Server | None = None
        self._login = Login()
        if url is not None:
            self._server, self._login = parse_server(url, credentials)
        self._prefix = None if prefix is None else check_prefix(prefix)
        self._own_prefix = f"{LOCAL_PREFIX}.{token_hex(6)}"
        self._inboxes: dict[tuple[Server, ssl.SSLContext | None], Inbox] = {}
        self._local_logins: dict[Server, Logins] = {}
        self._local_links: dict[Server, Link] = {}
        self._local: dict[tuple[str, int], Once[LocalServer]] = {}

    # --- asking ---

    def _new_peer(self, agent_id: str, address: str, options: EndpointOptions) -> Peer:
        server, subject = parse_agent(agent_id, address)
        headers = _headers(agent_id, options)
        return Peer(subject, self._inbox(server, options.tls), headers)

    def _inbox(self, server: Server, tls: ssl.SSLContext | None) -> Inbox:
        inbox = self._inboxes.get((server, tls))
        if inbox is None:
            inbox = self._inboxes[server, tls] = Inbox(Link(server, self._login_at(server), tls))
        return inbox

    def _login_at(self, server: Server) -> Login:
        """Our login at this server, for requests."""
        if server in self._local_logins:
            return self._local_logins[server].own
        return self._login if server == self._server else Login()

    async def connect(self, src_id: str, dst_id: str) -> None:
        """Connect to the agent's server, and find an instance of the agent. Raises like `send`."""
        del src_id
        await self._peer(dst_id).connect()

    def _exchange(self, dst_id: str, payload: Mapping[str, Any]) -> NatsExchange:
        return NatsExchange(self._peer(dst_id), payload, self._cancels)

    async def _probe(self, peer: Peer) -> bool:
        """Whether an instance of the agent answers at its subject's `.health`."""
        return await peer.healthy()

    async def describe(self, agent_id: str) -> Mapping[str, Any]:
        """The answer of an instance of the agent to a probe with our credential."""
        return await self._peer(agent_id).describe()

    # --- hosting ---

    async def spawn_local_agent(self, agent_id: str, host: str, port: int, executor: Any) -> NatsAgent:
        """Host `executor` at the configured server, else at our own server on `host` and `port` (0: a free port).

        Raises:
            ConfigError: the address is not allowed.
            ConnectError: the port is in use, or the server cannot be reached.
            AuthError: the server refuses our credentials.
        """
        self._check_open()
        if self._server is None:
            link, prefix = await self._local_link(host, port, agent_id), self._prefix or LOCAL_PREFIX
            self._check_open()
        else:
            link, prefix = self._inbox(self._server, None).link, self._prefix or self._own_prefix
        subject = subject_of(prefix, agent_id)
        agent = NatsAgent(agent_id, subject, link, executor, self)
        await agent.start()
        self._agents.append(agent)
        return agent

    async def _local_link(self, host: str, port: int, agent_id: str) -> Link:
        """The link for hosted agents at our own server; there is one server for each host and port."""
        name = f"agent {agent_id!r}"
        once = self._local.get((host, port))
        if once is None:
            begin = partial(start, host, port, self.host_options, name, prefix=self._prefix or LOCAL_PREFIX)
            once = self._local[host, port] = Once(begin, f"nats-server:{host}:{port}")
        local = await once.get()
        self._local.setdefault((host, local.address.port), once)
        self._local_logins[local.address] = local.logins
        link = self._local_links.get(local.address)
        if link is None:
            link = self._local_links[local.address] = Link(local.address, local.logins.host, None)
        return link

    async def close(self) -> None:
        """Stop all hosted agents, close all connections, stop our own servers; messages in flight fail."""
        await super().close()
        await asyncio.gather(*(inbox.close() for inbox in self._inboxes.values()))
        await asyncio.gather(*(link.close() for link in self._local_links.values()))
        for once in set(self._local.values()):
            if (local := await once.settle()) is not None:
                await local.stop()


def _headers(agent_id: str, options: EndpointOptions) -> dict[str, str]:
    """The headers of every message to an agent. Raises ConfigError on a header that cannot be sent."""
    headers = dict(options.headers)
    if options.credential is not None:
        headers[CREDENTIAL_HEADER] = f"Bearer {options.credential}"
    for name, value in headers.items():
        if not (_HEADER_NAME.fullmatch(name) and value.isprintable() and value == value.strip()):
            raise ConfigError(f"agent {agent_id!r}: the value of header {name!r} cannot be sent")
    return headers
