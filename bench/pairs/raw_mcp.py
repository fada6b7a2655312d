"""The floor: the SDK's own client and server, streamable HTTP without sessions, answers as JSON, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

import uvicorn
from mcp import Client
from mcp.server.mcpserver import MCPServer

server = MCPServer("raw")


@server.tool(structured_output=False)
async def ask(question: str) -> str:
    """Answer a question."""
    return f"[raw] {question}"


def serve() -> None:
    """Serve on a free port; the address is printed once it accepts connections."""

    class Server(uvicorn.Server):
        async def startup(self, sockets: list | None = None) -> None:
            await super().startup(sockets=sockets)
            print(f"http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}/mcp", flush=True)

    app = server.streamable_http_app(stateless_http=True, json_response=True)
    Server(uvicorn.Config(app, port=0, log_level="warning", access_log=False, http="httptools")).run()


async def ask_all(addresses: Sequence[str], questions: Sequence[str], in_flight: int) -> None:
    """Ask every question once, `in_flight` at a time, workers in turn."""
    todo = iter(enumerate(questions))
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(address)) for address in addresses]

        async def slot() -> None:
            for number, question in todo:
                result = await clients[number % len(clients)].call_tool("ask", {"question": question})
                assert result.content[0].text.endswith(question)

        await asyncio.gather(*(slot() for _ in range(in_flight)))


if __name__ == "__main__":
    serve()
