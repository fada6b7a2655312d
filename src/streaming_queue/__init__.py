"""AgentNetwork Streaming Queue: a durable queue in front of LLM agents that speak any protocol.

The names below are the public surface; each is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev1"

if TYPE_CHECKING:
    from streaming_queue.comm.base import BaseCommBackend, Capabilities, EndpointOptions, HostOptions, RequestContext
    from streaming_queue.config import Config, load_config
    from streaming_queue.core.executors import CoordinatorExecutor, WorkerExecutor
    from streaming_queue.core.network_base import NetworkBase
    from streaming_queue.core.qa_coordinator_base import QACoordinatorBase
    from streaming_queue.core.qa_worker_base import QAWorkerBase
    from streaming_queue.errors import CommError, StreamingQueueError
    from streaming_queue.messages import Question, Result
    from streaming_queue.queue.base import WorkQueue
    from streaming_queue.queue.sqlite import SQLiteQueue
    from streaming_queue.runner.runner_base import RunnerBase

__all__ = [  # noqa: RUF022 (sorted as people read, the version last)
    "BaseCommBackend",
    "Capabilities",
    "CommError",
    "Config",
    "CoordinatorExecutor",
    "EndpointOptions",
    "HostOptions",
    "NetworkBase",
    "QACoordinatorBase",
    "QAWorkerBase",
    "Question",
    "RequestContext",
    "Result",
    "RunnerBase",
    "SQLiteQueue",
    "StreamingQueueError",
    "WorkQueue",
    "WorkerExecutor",
    "load_config",
    "__version__",
]

_MODULES = {
    "comm.base": ("BaseCommBackend", "Capabilities", "EndpointOptions", "HostOptions", "RequestContext"),
    "config": ("Config", "load_config"),
    "core.executors": ("CoordinatorExecutor", "WorkerExecutor"),
    "core.network_base": ("NetworkBase",),
    "core.qa_coordinator_base": ("QACoordinatorBase",),
    "core.qa_worker_base": ("QAWorkerBase",),
    "errors": ("CommError", "StreamingQueueError"),
    "messages": ("Question", "Result"),
    "queue.base": ("WorkQueue",),
    "queue.sqlite": ("SQLiteQueue",),
    "runner.runner_base": ("RunnerBase",),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
