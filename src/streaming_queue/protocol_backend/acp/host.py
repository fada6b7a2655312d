"""The host half: one agent and its handle."""

from __future__ import annotations

from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.context import Executor
from streaming_queue.comm.host.agent import AsgiAgent
from streaming_queue.comm.host.asgi import AsgiServer, serve
from streaming_queue.comm.host.execution import Executions
from streaming_queue.protocol_backend.acp.app import AcpApp
from streaming_queue.protocol_backend.acp.failures import error_body
from streaming_queue.protocol_backend.acp.manifest import own_manifest


class AcpAgent(AsgiAgent):
    """A hosted agent, and its handle; drained, its `/ping` answers 503."""

    def __init__(self, agent_id: str, app: AcpApp, executions: Executions, server: AsgiServer, stop_s: float) -> None:
        super().__init__(agent_id, executions, server, stop_s)
        self.app = app


async def spawn(agent_id: str, host: str, port: int, executor: Executor, backend: BaseCommBackend) -> AcpAgent:
    """Host `executor` by the options of `backend`; returns when it is ready.

    Raises like `comm.host.asgi.serve` and `own_manifest`.
    """
    options = backend.host_options
    manifest = own_manifest(agent_id, executor)
    executions = Executions(executor, grace_s=options.limits.disconnect_grace_s)
    app = AcpApp(agent_id, manifest, executions, backend.request)
    server = await serve(
        app,
        host=host,
        port=port,
        options=options,
        name=f"agent {agent_id!r}",
        open_paths=("/ping",),
        error_body=error_body,
    )
    return AcpAgent(agent_id, app, executions, server, options.limits.stop_s)
