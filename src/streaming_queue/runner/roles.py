"""The executor of a role: the protocol's own if its package has one, else the executor for all protocols."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from typing import Any

from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.loading import import_here
from streaming_queue.config import Config
from streaming_queue.core.executors import CoordinatorExecutor, WorkerExecutor
from streaming_queue.errors import ConfigError


def coordinator_class(backend: BaseCommBackend) -> type[Any]:
    """The executor of a coordinator: the class `...CoordinatorExecutor` in `coordinator.py` beside the backend."""
    return _beside(backend, "coordinator", "CoordinatorExecutor") or CoordinatorExecutor


def worker_class(backend: BaseCommBackend) -> type[Any]:
    """The executor of a worker: the class `...WorkerExecutor` in `worker.py` beside the backend."""
    return _beside(backend, "worker", "WorkerExecutor") or WorkerExecutor


def _beside(backend: BaseCommBackend, module: str, suffix: str) -> type[Any] | None:
    """The guide's layout (2.1): `<proto>/comm.py`, `<proto>/coordinator.py`, `<proto>/worker.py`."""
    package, _, comm = type(backend).__module__.rpartition(".")
    if not package or comm != "comm" or importlib.util.find_spec(f"{package}.{module}") is None:
        return None
    found = importlib.import_module(f"{package}.{module}")
    own = (value for value in vars(found).values() if isinstance(value, type) and value.__module__ == found.__name__)
    return next((cls for cls in own if cls.__name__.endswith(suffix)), None)


def load_executor(target: str, config: Config, output: Any = None) -> Any:
    """An executor by `package.module:Class`, made with (config, output) as in the guide, or with less.

    Raises:
        ConfigError: the module or class does not exist, cannot be made, or has no `async execute`.
    """
    module, _, name = target.partition(":")
    if not name:
        raise ConfigError(f"executor {target!r}: write package.module:Class")
    try:
        cls = getattr(import_here(module), name, None)
    except ModuleNotFoundError as error:
        raise ConfigError(f"executor {target!r}: there is no module {error.name!r}") from error
    if not isinstance(cls, type):
        raise ConfigError(f"executor {target!r}: module {module!r} has no class {name!r}")
    if not inspect.iscoroutinefunction(getattr(cls, "execute", None)):
        raise ConfigError(
            f"executor {target!r}: {name} is not an executor: it lacks `async def execute(context, queue)`"
        )
    for arguments in ((config, output), (config,), ()):
        try:
            inspect.signature(cls).bind(*arguments)
        except TypeError:
            continue
        return cls(*arguments)
    raise ConfigError(f"executor {target!r}: {name} must be made with (config, output), (config) or nothing")
