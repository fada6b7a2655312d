"""The backend: its identity, remote agents (`peer.py`), hosted agents (`host.py`) and their callers (`gate.py`)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from streaming_queue.comm.base import About, Capabilities, EndpointOptions
from streaming_queue.comm.client.backend import HttpBackend
from streaming_queue.comm.client.exchange import ExchangeBackend
from streaming_queue.comm.client.http import peer_date
from streaming_queue.comm.client.once import Once
from streaming_queue.comm.context import RequestContext
from streaming_queue.errors import ConfigError
from streaming_queue.protocol_backend.anp.documents import Neighbours, is_did
from streaming_queue.protocol_backend.anp.exchange import AnpExchange
from streaming_queue.protocol_backend.anp.gate import CallerGate
from streaming_queue.protocol_backend.anp.identity import Identity
from streaming_queue.protocol_backend.anp.peer import Peer
from streaming_queue.protocol_backend.anp.resolver import Resolver
from streaming_queue.protocol_backend.anp.trust import Trust

if TYPE_CHECKING:
    from streaming_queue.protocol_backend.anp.host import AnpAgent

logger = logging.getLogger(__name__)

EPHEMERAL_NAME = "ephemeral"
OPERATOR_NAME = "operator"


class AnpCommBackend(ExchangeBackend, HttpBackend[Peer]):
    """Agents at `http://` or `https://` addresses with an agent description.

    `identity` is a directory from `stq anp identity new`; without it, the backend creates a temporary identity.
    `trusted` are the callers of hosted agents: DIDs, files and directories of DID documents, or `*`; without it, the
    processes of this user. `operators` are the trusted DIDs that may command a hosted coordinator; this process
    commands its own agents by an identity that no other process has. `allow_private` allows DID documents at addresses
    that are not public. `method` is the method for questions to foreign agents that offer several.
    """

    name = "anp"
    capabilities = Capabilities(host=True, streaming=True, cancel=True, metadata=True, identity=True)
    about = About("GET /ad.json", "ANP 1.0, did:wba", "https://github.com/agent-network-protocol/AgentNetworkProtocol")

    def __init__(
        self,
        *,
        identity: str | None = None,
        trusted: Sequence[str] = (),
        operators: Sequence[str] = (),
        allow_private: bool = False,
        method: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if self.host_options.authenticator is not None:
            raise ConfigError(
                "anp: agents know their callers by identity, not by a token: leave network.token and "
                "network.operator_token out, and name whom to trust in anp.trusted and anp.operators"
            )
        if wrong := [entry for entry in operators if not is_did(entry)]:
            raise ConfigError(f"anp.operators: {wrong[0]!r} is not a DID; `stq anp identity new` prints a DID")
        self._directory = identity
        self._method = method
        self._neighbours = Neighbours()
        self._trust = Trust(trusted, self._neighbours, Resolver(allow_private=allow_private))
        self._gate = CallerGate(self._trust)
        self._operators = set(operators)
        self._has_lists = bool(trusted or operators)
        self._identity: Once[Identity] = Once(self._make_identity, "anp:identity")
        self._commander: Once[Identity] = Once(self._make_commander, "anp:commander")
        """The identity that commands our own agents; it exists only in this process, in no file."""
        self._commanded: dict[str, Peer] = {}
        self._trust_read: asyncio.Task[None] | None = None

    # --- our identity ---

    async def identity(self) -> Identity:
        """The identity of our calls; the first call creates or reads it. Raises ConfigError."""
        self._session.check_open()
        return await self._identity.get()

    async def _make_identity(self) -> Identity:
        made = await asyncio.to_thread(self._load_or_create)
        self._trust.add([made.document])
        if self._directory is None:  # its workers may use an identity from a directory, too
            self._operators.add(made.did)
        return made

    async def _make_commander(self) -> Identity:
        made = await asyncio.to_thread(Identity.create, OPERATOR_NAME)
        self._trust.add([made.document])
        self._operators.add(made.did)
        return made

    def _load_or_create(self) -> Identity:
        if self._directory is not None:
            made = Identity.load(self._directory)
        else:
            made = Identity.create(EPHEMERAL_NAME)
            logger.info("no anp.identity is set: calling as %s, created for this process", made.did)
        try:
            self._neighbours.announce(made.document)
        except (ConfigError, OSError) as error:
            logger.warning("other processes of this user cannot read our DID document: %s", error)
        return made

    # --- asking ---

    def _new_peer(self, agent_id: str, address: str, options: EndpointOptions) -> Peer:
        return self._peer_called_by(self.identity, agent_id, address, options)

    def _peer_called_by(
        self, caller: Callable[[], Awaitable[Identity]], agent_id: str, address: str, options: EndpointOptions
    ) -> Peer:
        return Peer(agent_id, address, options, self._session, method=self._method, caller=caller)

    def _asked(self, agent_id: str, payload: Mapping[str, Any]) -> Peer:
        """The receiver of `payload`; `_commander` signs a command to an agent hosted here."""
        peer = self._peer(agent_id)
        is_command = (payload.get("metadata") or {}).get("kind") == "command"
        if self._directory is None or not is_command or all(peer.address != own.base_url for own in self._agents):
            return peer
        known = self._commanded.get(agent_id)
        if known is None or known.address != peer.address:
            options = self.options.get(agent_id, EndpointOptions())
            known = self._peer_called_by(self._commander.get, agent_id, peer.address, options)
            self._commanded[agent_id] = known
        return known

    async def connect(self, src_id: str, dst_id: str) -> None:
        """Read the agent's documents, and sign once to get its token. Raises like `send`."""
        del src_id
        peer = self._peer(dst_id)
        with peer.translated:
            await peer.connect()

    def _exchange(self, dst_id: str, payload: Mapping[str, Any]) -> AnpExchange:
        return AnpExchange(self._asked(dst_id, payload), payload, self._cancels)

    async def _probe(self, peer: Peer) -> bool:
        """Whether the agent's description can be read."""
        await peer.description()
        return True

    async def describe(self, agent_id: str) -> Mapping[str, Any]:
        """The agent's name, DID and method, and our DID if the agent accepts our identity."""
        peer = self._peer(agent_id)
        with peer.translated:
            description, headers = await peer.description()
            interface = await peer.interface()
            await peer.introduce()
        facts = {
            "agent_id": description.get("name"),
            "did": description.get("did", description.get("identifier")),
            "method": interface.method,
            "caller": (await self.identity()).did,
        }
        date = peer_date(headers)
        return facts if date is None else {**facts, "date": date}

    # --- hosting ---

    def request(
        self, agent_id: str, payload: Mapping[str, Any], *, principal: str | None = None, **more: Any
    ) -> RequestContext:
        """The context of a message; the lists of DIDs decide whether its caller may command."""
        context = super().request(agent_id, payload, principal=principal, **more)
        context.operator = principal in self._operators or (False if self._has_lists else None)
        return context

    async def spawn_local_agent(self, agent_id: str, host: str, port: int, executor: Any) -> AnpAgent:
        """Host `executor` in this process; returns when it is ready. Port 0 takes a free one.

        Raises:
            ConfigError: the address is not allowed, or a file of `identity` or `trusted` is not valid.
            ConnectError: the port is in use.
        """
        caller = await self.identity() if self._directory is not None else None
        await self._read_trust()

        def identity(port: int) -> Identity:
            return caller or Identity.create(EPHEMERAL_NAME, port=port)

        return await self._host(_host_half, agent_id, host, port, executor, gate=self._gate, identity=identity)

    async def _read_trust(self) -> None:
        if self._trust_read is None:
            self._trust_read = asyncio.create_task(asyncio.to_thread(self._trust.read), name="anp:trusted")
        await asyncio.shield(self._trust_read)

    async def close(self) -> None:
        """Stop all hosted agents and close all connections; messages in flight fail."""
        await super().close()
        await self._identity.settle()
        await self._commander.settle()
        await asyncio.to_thread(self._neighbours.withdraw)


def _host_half() -> Callable[..., Awaitable[AnpAgent]]:
    from streaming_queue.protocol_backend.anp.host import spawn

    return spawn
