"""The whole configuration, its keys, and the older spellings it still takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, PrivateAttr

from streaming_queue.config.agents import QA
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

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

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
