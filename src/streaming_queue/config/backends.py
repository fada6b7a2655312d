"""The sections of protocols. A backend declares its section beside its class, and the registry names it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any, ClassVar

from streaming_queue.comm import registry
from streaming_queue.config.redaction import revealed
from streaming_queue.config.section import Section
from streaming_queue.errors import ConfigError


class BackendSection(Section):
    """The settings of one protocol. The keys are keywords of its backend. A subclass imports no library."""

    variables: ClassVar[Mapping[str, str]] = {}
    """Environment variables of other tools -> keys of this section."""
    passed_on: ClassVar[frozenset[str]] = frozenset()
    """Keys whose values go to a command that an address of this protocol starts."""

    def options(self) -> dict[str, Any]:
        """The keywords for the backend, with the secrets. Keys that are null are left out."""
        return {name: value for name, value in revealed(self).items() if value is not None}


def section_key(protocol: str) -> str:
    """The key of a protocol's section: the protocol's name, with `_` for `-`."""
    return protocol.replace("-", "_")


@cache
def sections() -> Mapping[str, type[BackendSection]]:
    """The section classes of all protocols that have one, by key, in the registry's order.

    Raises ConfigError if a package declares a section that cannot be imported.
    """
    return {section_key(spec.name): _load(spec) for spec in registry.known().values() if spec.section}


def _load(spec: registry.BackendSpec) -> type[BackendSection]:
    module, _, attribute = str(spec.section).partition(":")
    try:
        section: type[BackendSection] = getattr(import_module(module), attribute)
        if not issubclass(section, BackendSection):
            raise TypeError("it is not a streaming_queue.config.BackendSection")
    except Exception as error:
        raise ConfigError(
            f"protocol {spec.name!r} ({spec.summary}): its configuration section {spec.section} cannot be used: "
            f"{error!r}; repair or remove the package"
        ) from error
    return section
