"""Backends made by the configuration: whom they let in, what they show for themselves."""

from __future__ import annotations

import hmac
import inspect
from collections.abc import Iterator, Mapping

from streaming_queue.comm import registry
from streaming_queue.comm.base import BaseCommBackend, EndpointOptions, HostOptions
from streaming_queue.comm.composite import CompositeBackend
from streaming_queue.config import Config
from streaming_queue.errors import ConfigError

NETWORK_PRINCIPAL = "network"
"""Who asks, where the network's token was shown."""


class ForEveryAgent(Mapping[str, EndpointOptions]):
    """The same options, whichever agent is looked up."""

    def __init__(self, options: EndpointOptions) -> None:
        self._options = options

    def __getitem__(self, agent_id: str) -> EndpointOptions:
        return self._options

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def create_backend(config: Config, protocol: str | None = None) -> BaseCommBackend:
    """The backend of `protocol` (default: the coordinator's), with the network's token and rules and its own section.

    Raises:
        UnknownProtocolError, BackendNotInstalledError: as `registry.load`.
        ConfigError: it takes no options, and the configuration has some for it.
    """
    name = protocol or config.control_protocol
    section = config.section(name)
    options = section.options() if section else {}
    token = config.network.token
    secret = token.get_secret_value() if token else None
    if secret is not None:
        options["options"] = ForEveryAgent(EndpointOptions(credential=secret))
    if secret is not None or config.network.allow_public:
        authenticator = _Token(secret) if secret is not None else None
        options["host_options"] = HostOptions(allow_public=config.network.allow_public, authenticator=authenticator)
    backend = registry.load(name)
    try:
        inspect.signature(backend).bind(**options)
    except TypeError:
        raise ConfigError(
            f"protocol {name!r}: {backend.__name__} takes no options of ours, so network.token and "
            "network.allow_public cannot hold with it"
        ) from None
    return backend(**options)


def can_host(backend: type[BaseCommBackend]) -> bool:
    """Whether backends of this class bring a host of their own."""
    return backend.spawn_local_agent is not BaseCommBackend.spawn_local_agent


def create_network_backend(config: Config) -> BaseCommBackend:
    """The backend for coordinator and workers: one, or a composite where they differ in protocol or its options.

    Workers that do not differ share one. Where the coordinator's cannot host, it is reached by function calls.
    Raises as `create_backend`; the error of a worker's tells which.
    """
    own = create_backend(config)
    made = [((config.control_protocol, config.section(config.control_protocol)), own)]
    composite = CompositeBackend(own)
    if not can_host(type(own)):
        composite.assign(config.qa.coordinator.coordinator_id, registry.create("inproc"))
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


class _Token:
    """Lets in who knows the secret."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    async def __call__(self, credential: str) -> str | None:
        return NETWORK_PRINCIPAL if hmac.compare_digest(credential.encode(), self._secret) else None
