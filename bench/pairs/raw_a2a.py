"""The official SDK at both ends, as it comes: its client, its default handler behind its own JSON-RPC route."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx
import uvicorn
from a2a.client.client import ClientConfig
from a2a.client.client_factory import ClientFactory
from a2a.helpers.proto_helpers import new_text_message
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore
from a2a.types.a2a_pb2 import AgentCapabilities, AgentCard, AgentInterface, AgentSkill, Role, SendMessageRequest
from starlette.applications import Starlette


class Echo(AgentExecutor):
    async def execute(self, context: Any, event_queue: Any) -> None:
        await event_queue.enqueue_event(new_text_message(f"[raw] {context.get_user_input()}", role=Role.ROLE_AGENT))

    async def cancel(self, context: Any, event_queue: Any) -> None:
        raise NotImplementedError


def serve() -> None:
    """Serve on a free port; the address is printed once it accepts connections."""
    app = Starlette()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list | None = None) -> None:
            await super().startup(sockets=sockets)
            address = f"http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}"
            card = AgentCard(
                name="echo",
                description="Says what it is told.",
                version="1",
                capabilities=AgentCapabilities(streaming=True),
                default_input_modes=["text/plain"],
                default_output_modes=["text/plain"],
                skills=[AgentSkill(id="echo", name="Echo", description="Echo.", tags=["echo"])],
                supported_interfaces=[
                    AgentInterface(url=f"{address}/", protocol_binding="JSONRPC", protocol_version="1.0")
                ],
            )
            handler = DefaultRequestHandler(agent_executor=Echo(), task_store=InMemoryTaskStore(), agent_card=card)
            app.router.routes += [*create_agent_card_routes(card), *create_jsonrpc_routes(handler, "/")]
            print(address, flush=True)

    Server(uvicorn.Config(app, port=0, log_level="warning", access_log=False)).run()


async def ask_all(addresses: Sequence[str], questions: Sequence[str], in_flight: int) -> None:
    """Ask every question once, `in_flight` at a time, workers in turn."""
    todo = iter(enumerate(questions))
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=60) as session:
        factory = ClientFactory(ClientConfig(streaming=False, httpx_client=session))
        clients = [await factory.create_from_url(address) for address in addresses]

        async def slot() -> None:
            for number, question in todo:
                request = SendMessageRequest(message=new_text_message(question, role=Role.ROLE_USER))
                (reply,) = [event async for event in clients[number % len(clients)].send_message(request)]
                assert question in str(reply)

        await asyncio.gather(*(slot() for _ in range(in_flight)))


if __name__ == "__main__":
    serve()
