"""The whole configuration, its keys, and the older spellings that still work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from pydantic import ConfigDict, PrivateAttr, create_model, model_validator

from streaming_queue.comm import registry
from streaming_queue.config.agents import QA
from streaming_queue.config.auto import AUTO, Auto
from streaming_queue.config.backends import BackendSection, section_key, sections
from streaming_queue.config.keys import Alias, Keys, Setting
from streaming_queue.config.merging import build, merge
from streaming_queue.config.model import Core, Mock
from streaming_queue.config.network import Network, Output, Scheduler
from streaming_queue.config.redaction import redacted
from streaming_queue.config.section import Section, Text
from streaming_queue.config.workers import WorkerGroups, WorkerSetup
from streaming_queue.errors import ConfigError


class Config(Section):
    """All settings. `load_config` and `Config.of` raise ConfigError, the constructor raises pydantic's error."""

    model_config = ConfigDict(defer_build=True)  # only the class with the sections is used

    protocol: Text = registry.DEFAULT
    """Protocol of the agents: its name or package.module:Class. auto: see auto."""
    workers: WorkerGroups = ()
    """Workers of several kinds, in place of qa.worker.count and endpoints: a list of {protocol, count or
    endpoints, core, options}."""
    core: Core = Core()
    qa: QA = QA()
    network: Network = Network()
    scheduler: Scheduler = Scheduler()
    mock: Mock = Mock()
    output: Output = Output()
    auto: Auto = Auto()

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _pools_fit_the_agents(self) -> Self:
        hierarchy, coordinator, worker = self.network.hierarchy, self.qa.coordinator, self.qa.worker
        if hierarchy is None:
            return self
        if self.workers:
            raise ValueError("workers and network.pools both define the workers; a pool can have its own protocol")
        if coordinator.coordinator_id in hierarchy.pools:
            raise ValueError(
                f"network.pools: {coordinator.coordinator_id!r} is the id of the coordinator itself "
                "(qa.coordinator.coordinator_id); call the pool Sub-1, say"
            )
        count = len(hierarchy.workers)
        if worker.endpoints and len(worker.endpoints) != count:
            raise ValueError(
                f"network.pools has {count} workers, qa.worker.endpoints {len(worker.endpoints)} addresses; "
                "give an address for each, Worker-1's first"
            )
        return self

    @model_validator(mode="after")
    def _auto_has_a_choice(self) -> Self:
        if self.protocol != AUTO:
            return self
        for number, group in enumerate(self.workers):
            if group.protocol in {None, AUTO}:
                raise ValueError(f"workers[{number}] names no protocol; with protocol auto each group has its own")
        if len({group.protocol for group in self.workers}) < 2:
            raise ValueError(
                "protocol auto chooses among protocols: give workers of at least two, like "
                "[{protocol: http}, {protocol: a2a}]"
            )
        return self

    @model_validator(mode="after")
    def _ports_fit(self) -> Self:
        coordinator, worker, ports = self.qa.coordinator, self.qa.worker, self.ports
        if max(ports.values(), default=0) > 65535:
            listed = "the list workers" if self.workers else "network.pools" if self.network.pools else None
            count = len(self.roster)
            many = f"the {count} workers of {listed}" if listed else f"qa.worker.count {count}"
            raise ValueError(f"qa.worker.start_port {worker.start_port} and {many} pass port 65535")
        for worker_id, port in ports.items():
            if port == coordinator.port and coordinator.host == worker.host:
                raise ValueError(
                    f"qa.coordinator.port {port} is also the port of {worker_id} "
                    f"(qa.worker.start_port {worker.start_port})"
                )
        return self

    @property
    def roster(self) -> dict[str, WorkerSetup]:
        """The workers of a run, from Worker-1 on, each with its protocol, address and model."""
        if self.workers:
            setups = [
                setup
                for group in self.workers
                for setup in group.setups(self.protocol, self.core, self.section(group.protocol or self.protocol))
            ]
            return {f"Worker-{number}": setup for number, setup in enumerate(setups, 1)}
        hierarchy, endpoints = self.network.hierarchy, self.qa.worker.endpoints
        count = len(hierarchy.workers) if hierarchy else len(endpoints) or self.qa.worker.count
        roster = {}
        for index in range(count):
            worker_id = f"Worker-{index + 1}"
            protocol = (hierarchy and hierarchy.protocol_of(worker_id)) or self.protocol
            address = endpoints[index] if endpoints else None
            roster[worker_id] = WorkerSetup(protocol, self.core, self.section(protocol), address)
        return roster

    @property
    def control_protocol(self) -> str:
        """The protocol of the coordinator; for `auto` the protocol that is always installed."""
        return registry.DEFAULT if self.protocol == AUTO else self.protocol

    @property
    def protocol_name(self) -> str:
        """The protocol of the run; `mixed` if a group of workers has another protocol than the coordinator."""
        if self.protocol == AUTO:
            return AUTO
        names = {group.protocol or self.protocol for group in self.workers}
        return self.protocol if names <= {self.protocol} else "mixed"

    @property
    def answering(self) -> dict[Core, list[str]]:
        """The settings of each model that answers here, and the started workers that use it."""
        answering: dict[Core, list[str]] = {}
        for worker_id, setup in self.roster.items():
            if setup.address is None:
                answering.setdefault(setup.core, []).append(worker_id)
        return answering

    @property
    def ports(self) -> dict[str, int]:
        """The port of each started worker that has a configured port."""
        start = self.qa.worker.start_port
        if not start:
            return {}
        numbered = enumerate(self.roster.items(), start)
        return {worker_id: port for port, (worker_id, setup) in numbered if setup.address is None}

    def section(self, protocol: str) -> BackendSection | None:
        """The section of a protocol, None if it has none."""
        value = self.get(section_key(protocol))
        return value if isinstance(value, BackendSection) else None

    def of_worker(self, worker_id: str) -> Self:
        """The configuration of one worker: its protocol, model and options replace those of the run.

        A worker commands nothing, so it does not get `network.operator_token`.
        """
        setup = self.roster[worker_id]
        update: dict[str, Any] = {"protocol": setup.protocol, "core": setup.core}
        if setup.options is not None:
            update[section_key(setup.protocol)] = setup.options
        if self.workers:
            alone = self.qa.worker.model_copy(update={"count": 1, "start_port": None})
            update |= {"workers": (), "qa": self.qa.model_copy(update={"worker": alone})}
        return self.without_operator().model_copy(update=update)

    def without_operator(self) -> Self:
        """The configuration of an agent that commands nothing: `network.operator_token` left out."""
        return self.model_copy(update={"network": self.network.model_copy(update={"operator_token": None})})

    def slots(self, agent_id: str) -> int:
        """Most questions in flight at a worker, or at all workers of a pool together."""
        hierarchy = self.network.hierarchy
        return self.qa.worker.most_at_once * (hierarchy.leaves(agent_id) if hierarchy else 1)

    def __eq__(self, other: object) -> bool:
        """Whether all values are equal, from any source."""
        return isinstance(other, Config) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash(tuple(self.__dict__.values()))

    @classmethod
    def of(cls, value: Config | Mapping[str, Any] | None) -> Config:
        """`value` as a Config: itself, a mapping with the keys of a configuration file, or None for the defaults.

        Raises ConfigError as `load_config` does.
        """
        return value if isinstance(value, Config) else cls.from_settings(merge([KEYS.flatten(value, "code")]))

    @classmethod
    def from_settings(cls, settings: Mapping[str, Setting]) -> Config:
        """The configuration with these settings, by key. Raises ConfigError."""
        _refuse_two_lists(settings)
        config = build(cls, KEYS, settings)
        config._origins.update({key: setting.origin for key, setting in settings.items()})  # noqa: SLF001 (its own class)
        return config

    def origin(self, key: str) -> str:
        """Where the value of a dotted key comes from: a file, a variable, a flag, `code`, or `default`.

        Raises ConfigError for an unknown key.
        """
        key = KEYS.aliases[key].key if key in KEYS.aliases else key
        if key not in KEYS.leaves:
            raise KEYS.unknown(key, "origin")
        found = [origin for name, origin in self._origins.items() if f"{name}.".startswith(f"{key}.")]
        return ", ".join(dict.fromkeys(found)) or "default"

    def public(self) -> dict[str, Any]:
        """All values, nested, for JSON and for other people: secrets are `***`."""
        values: dict[str, Any] = redacted(self)
        return values


def _with_sections(base: type[Config]) -> type[Config]:
    """`base` with the section of each protocol that declares one. Raises ConfigError if a key is taken."""
    for key in sections():
        if hasattr(base, key) or key in base.model_fields:
            raise ConfigError(f"the configuration has {key!r} already: a protocol of this name cannot have a section")
    fields: dict[str, Any] = {key: (section, section()) for key, section in sections().items()}
    return create_model(base.__name__, __base__=base, __module__=__name__, __doc__=base.__doc__, **fields)


if not TYPE_CHECKING:  # for a type checker, the sections are values by name: config["nats"]
    Config = _with_sections(Config)


def _refuse_two_lists(settings: Mapping[str, Setting]) -> None:
    workers = settings.get("workers")
    for key in ("qa.worker.count", "qa.worker.endpoints"):
        if workers and workers.value and key in settings:
            places = " and ".join(dict.fromkeys([settings[key].place, workers.place]))
            raise ConfigError(f"{places}: {key} and workers both define the workers; give one of them")


def _attempts(retries: Any) -> Any:
    return retries + 1 if isinstance(retries, int) and not isinstance(retries, bool) else retries


OLDER_SPELLINGS: Mapping[str, Alias] = {
    "response_timeout": Alias("network.message_timeout"),
    "max_retries": Alias("scheduler.max_attempts", _attempts, "one more than the retries"),
    "health_check_interval": Alias("network.health_check_interval"),
    "topology": Alias("network.topology"),
    "batch_size": Alias("qa.coordinator.batch_size"),
    "metrics": Alias("network.metrics"),
}
"""Older names under `qa` and `qa.network`."""

KEYS = Keys(
    Config,
    {f"{section}.{name}": alias for section in ("qa", "qa.network") for name, alias in OLDER_SPELLINGS.items()}
    | {"qa.coordinator.start_port": Alias("qa.coordinator.port")},
)
"""The keys of `Config`."""
