"""The a2a backend against the official SDK, over JSON-RPC: its default handler behind its own route, and its client.

python bench/a2a_pair.py [requests] [in flight]
"""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("OTEL_INSTRUMENTATION_A2A_SDK_ENABLED", "false")

import httpx
from a2a.client.client import ClientConfig
from a2a.client.client_factory import ClientFactory
from a2a.helpers.proto_helpers import new_text_message
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore
from a2a.types.a2a_pb2 import Role, SendMessageRequest
from pair import QUESTION, Ask, Close, Side, main, ours
from starlette.applications import Starlette

from streaming_queue.comm.base import HostOptions
from streaming_queue.comm.host.asgi import serve
from streaming_queue.protocol_backend.a2a.comm import A2ACommBackend
from streaming_queue.protocol_backend.a2a.own_card import Face


class Echo(AgentExecutor):
    async def execute(self, context: Any, event_queue: Any) -> None:
        await event_queue.enqueue_event(new_text_message(context.get_user_input(), role=Role.ROLE_AGENT))

    async def cancel(self, context: Any, event_queue: Any) -> None:
        raise NotImplementedError


async def host(between: str) -> tuple[str, Close]:
    del between
    app = Starlette()
    server = await serve(app, host="127.0.0.1", port=0, options=HostOptions(), name="the SDK's host")
    card = Face("w").card(server.base_url)
    handler = DefaultRequestHandler(agent_executor=Echo(), task_store=InMemoryTaskStore(), agent_card=card)
    app.router.routes += [*create_agent_card_routes(card), *create_jsonrpc_routes(handler, "/")]
    return server.base_url, server.stop


async def client(address: str) -> tuple[Ask, Close]:
    session = httpx.AsyncClient(headers={"A2A-Version": "1.0"}, timeout=60)
    sdk = await ClientFactory(ClientConfig(streaming=False, httpx_client=session)).create_from_url(address)

    async def ask(number: int) -> Any:
        del number
        request = SendMessageRequest(message=new_text_message(QUESTION, role=Role.ROLE_USER))
        return [event async for event in sdk.send_message(request)]

    return ask, session.aclose


if __name__ == "__main__":
    main({"ours": ours(A2ACommBackend), "sdk": Side(host, client)}, crossed=True, requests=1000, rounds=3)
