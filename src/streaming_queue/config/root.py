"""The whole configuration, its keys, and the older spellings it still takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, PrivateAttr, model_validator

from streaming_queue.config.agents import QA
from streaming_queue.config.backends import A2A, Agora, Anp, Mcp, Nats
from streaming_queue.config.keys import Alias, Keys, Setting
from streaming_queue.config.merging import build, merge
from streaming_queue.config.model import Core, Mock
from streaming_queue.config.network import Network, Output, Scheduler
from streaming_queue.config.redaction import redacted
from streaming_queue.config.section import Section, Text


class Config(Section):
    """All settings. Made by `load_config` or `Config.of`; those raise ConfigError, the bare constructor pydantic's."""

    protocol: Text = Field("a2a", description="How agents are reached: a protocol's name or package.module:Class.")
    core: Core = Core()
    qa: QA = QA()
    network: Network = Network()
    scheduler: Scheduler = Scheduler()
    mock: Mock = Mock()
    output: Output = Output()
    a2a: A2A = A2A()
    anp: Anp = Anp()
    agora: Agora = Agora()
    mcp: Mcp = Mcp()
    nats: Nats = Nats()

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _pools_fit_the_agents(self) -> Self:
        hierarchy, coordinator, worker = self.network.hierarchy, self.qa.coordinator, self.qa.worker
        if hierarchy is None:
            return self
        if coordinator.coordinator_id in hierarchy.pools:
            raise ValueError(
                f"network.pools: {coordinator.coordinator_id!r} is the coordinator itself "
                "(qa.coordinator.coordinator_id); call the pool Sub-1, say"
            )
        count = len(hierarchy.workers)
        if worker.endpoints and len(worker.endpoints) != count:
            raise ValueError(
                f"network.pools has {count} workers, qa.worker.endpoints {len(worker.endpoints)} addresses; "
                "give an address for each, Worker-1's first"
            )
        if worker.start_port and not worker.endpoints and worker.start_port + count > 65536:
            raise ValueError(
                f"qa.worker.start_port {worker.start_port} and the {count} workers of network.pools pass port 65535"
            )
        return self

    @property
    def workers(self) -> dict[str, str]:
        """The workers of a run, from Worker-1 on, and the protocol that reaches each."""
        hierarchy, worker = self.network.hierarchy, self.qa.worker
        if hierarchy is None:
            count = len(worker.endpoints) or worker.count
            return {f"Worker-{number}": self.protocol for number in range(1, count + 1)}
        return {worker_id: hierarchy.protocol_of(worker_id) or self.protocol for worker_id in hierarchy.workers}

    def slots(self, agent_id: str) -> int:
        """How many questions may be in flight at a worker, or at a pool: what its workers take together."""
        hierarchy = self.network.hierarchy
        return self.qa.worker.most_at_once * (hierarchy.leaves(agent_id) if hierarchy else 1)

    def __eq__(self, other: object) -> bool:
        """Whether all values are equal, wherever they come from."""
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
        """All values, nested, fit for JSON and for other eyes: secrets are `***`."""
        values: dict[str, Any] = redacted(self)
        return values


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
"""What may still stand under `qa` and `qa.network`."""

KEYS = Keys(
    Config,
    {f"{section}.{name}": alias for section in ("qa", "qa.network") for name, alias in OLDER_SPELLINGS.items()}
    | {"qa.coordinator.start_port": Alias("qa.coordinator.port")},
)
"""The keys of `Config`."""
