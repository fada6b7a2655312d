"""Agents written for the A2A SDK, and the plain SDK server to run them behind."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
from a2a.helpers.proto_helpers import new_task_from_user_message, new_text_message, new_text_part
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.request_handlers.grpc_handler import GrpcHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types.a2a_pb2 import AgentCapabilities, AgentCard, AgentInterface, AgentSkill, Role
from a2a.types.a2a_pb2_grpc import add_A2AServiceServicer_to_server
from starlette.applications import Starlette

from streaming_queue.comm.base import HostLimits, HostOptions
from streaming_queue.comm.grpc_wire import keep_engine
from streaming_queue.comm.host.asgi import serve


class SdkSlowMessage(AgentExecutor):
    """One message, when `gate` opens; counts its runs."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.started = asyncio.Event()
        self.runs = 0

    async def execute(self, context: Any, event_queue: Any) -> None:
        self.runs += 1
        self.started.set()
        await self.gate.wait()
        await event_queue.enqueue_event(new_text_message("answer", context_id=context.context_id, role=Role.ROLE_AGENT))

    async def cancel(self, context: Any, event_queue: Any) -> None:
        raise NotImplementedError


class SdkEcho(AgentExecutor):
    """One message; its metadata come back in it."""

    async def execute(self, context: Any, event_queue: Any) -> None:
        message = new_text_message(context.get_user_input(), context_id=context.context_id, role=Role.ROLE_AGENT)
        message.metadata.update({"seen": context.message.metadata})
        await event_queue.enqueue_event(message)

    async def cancel(self, context: Any, event_queue: Any) -> None:
        raise NotImplementedError


class SdkTask(AgentExecutor):
    """A task that does what its text says; waits at `gate` where it is told to, counts what was cancelled."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.started = asyncio.Event()
        self.cancelled = 0
        self.contexts: list[tuple[str, str]] = []

    async def execute(self, context: Any, event_queue: Any) -> None:
        text = context.get_user_input()
        self.contexts.append((context.task_id, context.context_id))
        if context.current_task is None:
            await event_queue.enqueue_event(new_task_from_user_message(context.message))
        updater = TaskUpdater(event_queue, context.task_id, context.context_id)
        await updater.start_work(updater.new_agent_message([new_text_part("at it")]))
        self.started.set()
        if text == "wait":
            await self.gate.wait()
        if text == "raise":
            raise ValueError("key sk-123 is bad")
        ends = {
            "failed": updater.failed,
            "rejected": updater.reject,
            "canceled": updater.cancel,
            "input-required": updater.requires_input,
            "auth-required": updater.requires_auth,
        }
        if text in ends:
            await ends[text](updater.new_agent_message([new_text_part("no, thanks")]))
            return
        pieces = [text[at : at + 1 + len(text) // 3] for at in range(0, len(text), 1 + len(text) // 3)]
        for number, piece in enumerate(pieces):
            await updater.add_artifact(
                [new_text_part(piece)], artifact_id="a", append=number > 0, last_chunk=number == len(pieces) - 1
            )
        await updater.complete()

    async def cancel(self, context: Any, event_queue: Any) -> None:
        self.cancelled += 1
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


def sdk_card(url: str, interfaces: list[tuple[str, str]], *, streaming: bool = True) -> AgentCard:
    return AgentCard(
        name="sdk",
        description="an agent",
        version="1",
        capabilities=AgentCapabilities(streaming=streaming),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[AgentSkill(id="s", name="s", description="s", tags=["s"])],
        supported_interfaces=[
            AgentInterface(
                url=f"{url}/rpc" if binding == "JSONRPC" else url, protocol_binding=binding, protocol_version=version
            )
            for binding, version in interfaces
        ],
    )


async def sdk_grpc_server(handler: DefaultRequestHandler, card: AgentCard) -> grpc.aio.Server:
    """A gRPC server, to which the card's gRPC interfaces are made to point."""
    keep_engine()
    server = grpc.aio.server()
    add_A2AServiceServicer_to_server(GrpcHandler(handler), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    for interface in card.supported_interfaces:
        if interface.protocol_binding == "GRPC":
            interface.url = f"127.0.0.1:{port}"
    return server


@asynccontextmanager
async def sdk_server(
    executor: AgentExecutor, interfaces: list[tuple[str, str]], *, streaming: bool = True, at: str | None = None
):
    """A server of nothing but the SDK; yields its base URL. Its card says that it is `at` another."""
    app = Starlette()
    server = await serve(
        app, host="127.0.0.1", port=0, options=HostOptions(limits=HostLimits(stop_s=1.0)), name="the SDK's server"
    )
    card = sdk_card(at or server.base_url, interfaces, streaming=streaming)
    handler = DefaultRequestHandler(agent_executor=executor, task_store=InMemoryTaskStore(), agent_card=card)
    grpc_server = await sdk_grpc_server(handler, card) if ("GRPC", "1.0") in interfaces else None
    old = all(version == "0.3" for _, version in interfaces)
    app.router.routes += [
        *create_agent_card_routes(card),
        *create_jsonrpc_routes(handler, "/rpc", enable_v0_3_compat=old),
        *create_rest_routes(handler),
    ]
    try:
        yield server.base_url
    finally:
        if grpc_server is not None:
            await grpc_server.stop(1.0)
        await handler.aclose()
        await server.stop()
