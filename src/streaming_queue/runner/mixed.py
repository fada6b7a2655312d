"""A mixed network without a configuration: one worker for each installed protocol."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from streaming_queue.comm import registry
from streaming_queue.config import Config
from streaming_queue.config.load import OWN
from streaming_queue.core.network_base import NetworkBase
from streaming_queue.errors import BackendNotInstalledError
from streaming_queue.runner.runner_base import RunnerBase


class MixedRunner(RunnerBase):
    """Runs the network of the configuration. Without `workers` there, it starts one worker for each of `protocols`.

    A ready `Config` is not changed.
    """

    protocols: ClassVar[tuple[str, ...]] = ()

    @cached_property
    def config(self) -> Config:
        """The configuration. Raises ConfigError, also if `qa.worker` names the workers."""
        path = self._config_path
        if isinstance(path, Config):
            return path
        unusable = self._unusable
        installed = [{"protocol": protocol} for protocol in self.protocols if protocol not in unusable]
        return self._load(path, {}, {"workers": installed})

    @cached_property
    def _unusable(self) -> dict[str, str]:
        """The protocols that cannot be used, with the reason. Imports them all; blocks."""
        unusable = {}
        for protocol in self.protocols:
            try:
                registry.load(protocol)
            except BackendNotInstalledError as error:
                unusable[protocol] = str(error)
        return unusable

    async def create_network(self) -> NetworkBase:
        """The network. A message names the protocols that are left out."""
        if self.config.origin("workers") == OWN:
            for reason in self._unusable.values():
                self.output.system(f"left out: {reason}")
        return await super().create_network()
