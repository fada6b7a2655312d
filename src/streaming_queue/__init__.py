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

_HOMES = {
    "BaseCommBackend": "comm.base",
    "Capabilities": "comm.base",
    "CommError": "errors",
    "Config": "config",
    "CoordinatorExecutor": "core.executors",
    "EndpointOptions": "comm.base",
    "HostOptions": "comm.base",
    "NetworkBase": "core.network_base",
    "QACoordinatorBase": "core.qa_coordinator_base",
    "QAWorkerBase": "core.qa_worker_base",
    "Question": "messages",
    "RequestContext": "comm.base",
    "Result": "messages",
    "RunnerBase": "runner.runner_base",
    "SQLiteQueue": "queue.sqlite",
    "StreamingQueueError": "errors",
    "WorkQueue": "queue.base",
    "WorkerExecutor": "core.executors",
    "load_config": "config",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
