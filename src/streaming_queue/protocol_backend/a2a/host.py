"""The host half: one agent and its handle."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.grpc_wire import load_part
from streaming_queue.comm.host.agent import StopsOnce
from streaming_queue.comm.host.asgi import AsgiServer, serve
from streaming_queue.comm.host.execution import Executions
from streaming_queue.comm.skills import declared
from streaming_queue.protocol_backend.a2a.app import A2AApp
from streaming_queue.protocol_backend.a2a.dialect import CARD_PATH, GRPC_SETTINGS
from streaming_queue.protocol_backend.a2a.handler import AgentHandler
from streaming_queue.protocol_backend.a2a.native import NativeHandler, is_native
from streaming_queue.protocol_backend.a2a.own_card import Face

if TYPE_CHECKING:
    from streaming_queue.protocol_backend.a2a.grpc_service import GrpcDoor


class A2AAgent(StopsOnce):
    """A hosted agent, and its handle."""

    def __init__(
        self,
        agent_id: str,
        server: AsgiServer,
        handler: AgentHandler | NativeHandler,
        *,
        door: GrpcDoor | None,
        stop_s: float,
    ) -> None:
        self.agent_id = agent_id
        self.base_url = server.base_url
        self._server = server
        self._handler = handler
        self._door = door
        self._stop_s = stop_s

    async def _stop(self) -> None:
        stopping = [self._handler.stop(self._stop_s), self._server.stop()]
        if self._door is not None:
            stopping.append(self._door.stop())
        await asyncio.gather(*stopping)

    async def drain(self, timeout_s: float) -> None:
        """Refuse new questions, and wait for those in flight, `timeout_s` at most. The card answers 503."""
        await self._handler.drain(timeout_s)


async def spawn(
    agent_id: str, host: str, port: int, executor: Any, backend: BaseCommBackend, *, by_grpc: bool = False
) -> A2AAgent:
    """Host `executor` by the options of `backend`, with `by_grpc` also by gRPC; returns when it is ready.

    Raises like `comm.host.asgi.serve`, `comm.skills.declared` and, with gRPC, `grpc_service.open_door`.
    """
    options, name = backend.host_options, f"agent {agent_id!r}"
    native = is_native(executor)
    face = Face(agent_id, *declared(agent_id, executor), guarded=options.guarded, call_extension=not native)
    handler: AgentHandler | NativeHandler
    if native:
        handler = NativeHandler(agent_id, executor, face.card("http://localhost"))
    else:
        executions = Executions(executor, grace_s=options.limits.disconnect_grace_s)
        handler = AgentHandler(agent_id, executions, backend.request)
    door: GrpcDoor | None = None
    async with AsyncExitStack() as undo:
        if by_grpc:
            part = await load_part("streaming_queue.protocol_backend.a2a.grpc_service", GRPC_SETTINGS)
            door = await part.open_door(handler, host, options, name)
            undo.push_async_callback(door.stop)
            face = replace(face, grpc_port=door.port)
        app = A2AApp(face, handler)
        server = await serve(app, host=host, port=port, options=options, name=name, open_paths=("/health", CARD_PATH))
        undo.pop_all()
    return A2AAgent(agent_id, server, handler, door=door, stop_s=options.limits.stop_s)
