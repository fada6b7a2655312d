"""Runs an executor for a backend: annotations, deadlines, cancellation, typed failures. See `comm.host.execution`."""

from streaming_queue.comm.host.execution import HEARTBEAT_S, Execution, Executions

__all__ = ["HEARTBEAT_S", "Execution", "Executions"]
