"""The host half: one agent and its handle."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from streaming_queue.comm.host.asgi import AsgiServer, serve
from streaming_queue.comm.host.execution import Executions
from streaming_queue.protocol_backend.a2a.app import A2AApp
from streaming_queue.protocol_backend.a2a.dialect import CARD_PATH
from streaming_queue.protocol_backend.a2a.grpc_half import load_half
from streaming_queue.protocol_backend.a2a.handler import AgentHandler
from streaming_queue.protocol_backend.a2a.native import NativeHandler, is_native
from streaming_queue.protocol_backend.a2a.own_card import Face

if TYPE_CHECKING:
    from streaming_queue.protocol_backend.a2a.comm import A2ACommBackend
    from streaming_queue.protocol_backend.a2a.grpc_service import GrpcDoor

logger = logging.getLogger(__name__)


class A2AAgent:
    """A hosted agent, and its handle."""

    def __init__(
        self,
        agent_id: str,
        server: AsgiServer,
        executions: Executions | None,
        handler: AgentHandler | NativeHandler,
        *,
        door: GrpcDoor | None,
        stop_s: float,
    ) -> None:
        self.agent_id = agent_id
        self.base_url = server.base_url
        self._server = server
        self._executions = executions
        self._handler = handler
        self._door = door
        self._stop_s = stop_s

    async def stop(self) -> None:
        """Fail what is under way as retryable and stop serving; idempotent, bounded even with a hung executor."""
        await asyncio.gather(self._stop_work(), self._server.stop(), self._close_door())

    async def _close_door(self) -> None:
        if self._door is not None:
            await self._door.stop()

    async def drain(self, timeout_s: float) -> None:
        """Take on no question more, and wait for those under way, `timeout_s` at the most. The card answers 503."""
        await self._handler.drain(timeout_s)

    async def _stop_work(self) -> None:
        if self._executions is not None:
            await self._executions.aclose(self._stop_s)
        try:
            async with asyncio.timeout(self._stop_s):
                await self._handler.aclose()
        except TimeoutError:
            logger.warning("agent %r: its tasks do not end when they are cancelled", self.agent_id)


async def spawn(agent_id: str, host: str, port: int, executor: Any, backend: A2ACommBackend) -> A2AAgent:
    """Host `executor` by the options of `backend`; returns when it is ready.

    Raises like `comm.host.asgi.serve`, `Face.of` and, with gRPC, `grpc_service.open_door`.
    """
    options, name = backend.host_options, f"agent {agent_id!r}"
    native = is_native(executor)
    face = Face.of(agent_id, executor, guarded=options.guarded, call_extension=not native)
    handler: AgentHandler | NativeHandler
    executions: Executions | None = None
    if native:
        handler = NativeHandler(agent_id, executor, face.card("http://localhost"))
    else:
        executions = Executions(executor, grace_s=options.limits.disconnect_grace_s)
        handler = AgentHandler(agent_id, executions, backend.request)
    door: GrpcDoor | None = None
    async with AsyncExitStack() as undo:
        if backend.serves_grpc:
            door = await (await load_half(_grpc_half))(handler, host, options, name)
            undo.push_async_callback(door.stop)
            face = face.with_grpc(door.port)
        app = A2AApp(face, handler)
        server = await serve(app, host=host, port=port, options=options, name=name, open_paths=("/health", CARD_PATH))
        undo.pop_all()
    return A2AAgent(agent_id, server, executions, handler, door=door, stop_s=options.limits.stop_s)


def _grpc_half() -> Callable[..., Awaitable[GrpcDoor]]:
    from streaming_queue.protocol_backend.a2a.grpc_service import open_door

    return open_door
