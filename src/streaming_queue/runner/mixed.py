"""A mixed network without a configuration: a worker each over the protocols that are installed."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from streaming_queue.comm import registry
from streaming_queue.config import Config
from streaming_queue.core.network_base import NetworkBase
from streaming_queue.errors import BackendNotInstalledError
from streaming_queue.runner.runner_base import RunnerBase, main

__all__ = ["MixedRunner", "main"]


class MixedRunner(RunnerBase):
    """Runs the network that the configuration describes; where that names no `workers`, one of each of `protocols`.

    A ready `Config` is taken as it is.
    """

    protocols: ClassVar[tuple[str, ...]] = ()

    @cached_property
    def config(self) -> Config:
        """The configuration. Raises ConfigError, also where it says by `qa.worker` who the workers are."""
        path = self._config_path
        if isinstance(path, Config):
            return path
        config = self._load(path, {})
        if config.workers:
            return config
        installed, self._left_out = _installed(self.protocols)
        return self._load(path, {"workers": [{"protocol": protocol} for protocol in installed]})

    _left_out: tuple[str, ...] = ()

    async def create_network(self) -> NetworkBase:
        """The network, and a word on the protocols that are not in it."""
        for told in self._left_out:
            self.output.system(f"left out: {told}")
        return await super().create_network()


def _installed(protocols: tuple[str, ...]) -> tuple[list[str], tuple[str, ...]]:
    """Those of `protocols` that can be used, and of the others what they lack. Imports them; blocks."""
    installed, left_out = [], []
    for protocol in protocols:
        try:
            registry.load(protocol)
        except BackendNotInstalledError as error:
            left_out.append(str(error))
        else:
            installed.append(protocol)
    return installed, tuple(left_out)
