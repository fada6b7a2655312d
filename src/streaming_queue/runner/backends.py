"""Make backends from the configuration, with the callers that they accept and the credentials that they send."""

from __future__ import annotations

import hmac
import inspect
import secrets
from collections.abc import Iterator, Mapping

from pydantic import SecretStr

from streaming_queue.comm import registry
from streaming_queue.comm.base import BaseCommBackend, EndpointOptions, HostOptions
from streaming_queue.comm.composite import CompositeBackend
from streaming_queue.comm.context import NETWORK_PRINCIPAL, OPERATOR_PRINCIPAL
from streaming_queue.config import Config
from streaming_queue.errors import ConfigError


class ForEveryAgent(Mapping[str, EndpointOptions]):
    """The credential of each agent: `token` for all, and `operator` for `coordinator` alone."""

    def __init__(self, token: str | None, *, operator: str | None = None, coordinator: str | None = None) -> None:
        self._options = EndpointOptions(credential=token)
        self._coordinator = coordinator
        self._commanding = self._options if operator is None else EndpointOptions(credential=operator)

    def __getitem__(self, agent_id: str) -> EndpointOptions:
        return self._commanding if agent_id == self._coordinator else self._options

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def create_backend(config: Config, protocol: str | None = None, *, coordinator: str | None = None) -> BaseCommBackend:
    """The backend of `protocol` (default: the coordinator's), with the network's token and rules and its own section.

    `coordinator` is the agent that this backend commands, or hosts as a coordinator. Only this agent gets
    `network.operator_token`. Without a coordinator, the backend does not know that token.

    Raises:
        UnknownProtocolError, BackendNotInstalledError: as `registry.load`.
        ConfigError: the backend does not take the options that the configuration has for it.
    """
    name = protocol or config.control_protocol
    options = section.options() if (section := config.section(name)) else {}
    token = _revealed(config.network.token)
    operator = _revealed(config.network.operator_token) if coordinator is not None else None
    known = token is not None or operator is not None
    if known:
        options["options"] = ForEveryAgent(token, operator=operator, coordinator=coordinator)
    if known or config.network.allow_public:
        options["host_options"] = HostOptions(
            allow_public=config.network.allow_public,
            authenticator=_Tokens({NETWORK_PRINCIPAL: token, OPERATOR_PRINCIPAL: operator}) if known else None,
            anonymous=NETWORK_PRINCIPAL if known and token is None else None,
        )
    backend = registry.load(name)
    try:
        inspect.signature(backend).bind(**options)
    except TypeError as error:
        raise ConfigError(
            f"protocol {name!r}: {backend.__name__} refuses our options ({error}), so its section, network.token, "
            "network.operator_token and network.allow_public cannot apply to it"
        ) from None
    return backend(**options)


def can_host(backend: type[BaseCommBackend]) -> bool:
    """Whether backends of this class can host agents."""
    return backend.spawn_local_agent is not BaseCommBackend.spawn_local_agent


def create_network_backend(config: Config) -> BaseCommBackend:
    """The backend of coordinator and workers; a composite if their protocols or options differ.

    Equal workers share a backend. If the coordinator's backend cannot host, function calls replace the wire. Raises
    as `create_backend`; the error names the worker.

    A run commands its own coordinator. Workers hold `network.token`, too, so a run without `network.operator_token`
    uses a random operator token of its own.
    """
    coordinator_id = config.qa.coordinator.coordinator_id
    own = create_backend(_with_operator(config), coordinator=coordinator_id)
    made = [((config.control_protocol, config.section(config.control_protocol)), own)]
    composite = CompositeBackend(own)
    if not can_host(type(own)):
        composite.assign(coordinator_id, registry.create(registry.IN_PROCESS))
    for worker_id, setup in config.roster.items() if config.workers else ():
        kind = (setup.protocol, setup.options)
        backend = next((backend for known, backend in made if known == kind), None)
        if backend is None:
            try:
                backend = create_backend(config.of_worker(worker_id))
            except ConfigError as error:
                raise type(error)(f"workers: {worker_id}: {error}") from error
            made.append((kind, backend))
        composite.assign(worker_id, backend)
    return own if can_host(type(own)) and len(made) == 1 else composite


def _with_operator(config: Config) -> Config:
    network = config.network
    if network.token is None or network.operator_token is not None:
        return config
    operator = SecretStr(secrets.token_urlsafe(32))
    return config.model_copy(update={"network": network.model_copy(update={"operator_token": operator})})


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


class _Tokens:
    """Finds a caller's principal by the secret."""

    def __init__(self, by_principal: Mapping[str, str | None]) -> None:
        self._secrets = {name: secret.encode() for name, secret in by_principal.items() if secret is not None}

    async def __call__(self, credential: str) -> str | None:
        shown = credential.encode()
        found = [name for name, secret in self._secrets.items() if hmac.compare_digest(shown, secret)]
        return found[0] if found else None
