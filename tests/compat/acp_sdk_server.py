"""Agents written for acp-sdk, behind its own server: prints its address. It runs where that is installed."""

import asyncio
import json
from collections import Counter

import uvicorn
from acp_sdk.models import ACPError, Error, Message, MessageAwaitRequest, MessagePart
from acp_sdk.server import Context, Server
from acp_sdk.server.app import create_app

server = Server()
seen: Counter = Counter()
gate = asyncio.Event()


@server.agent()
async def echo(messages: list[Message], context: Context):
    """Says it again."""
    for message in messages:
        yield message


@server.agent()
async def pieces(messages: list[Message], context: Context):
    yield "Once upon "
    yield {"thinking": "of an end"}
    yield "a time."


@server.agent()
async def headers(messages: list[Message], context: Context):
    yield json.dumps({name: value for name, value in context.request.headers.items() if name.startswith("stq-")})


@server.agent()
async def fails(messages: list[Message], context: Context):
    raise ACPError(Error(code="invalid_input", message="cannot answer that"))
    yield


@server.agent()
async def gated(messages: list[Message], context: Context):
    """Waits until it is told to go on, or cancelled."""
    seen["started"] += 1
    yield "first, "
    await gate.wait()
    yield "then"


@server.agent()
async def asks(messages: list[Message], context: Context):
    yield MessageAwaitRequest(message=Message(role="agent", parts=[MessagePart(content="Which one?")]))
    yield "that one"


@server.agent()
async def opens(messages: list[Message], context: Context):
    gate.set()
    yield json.dumps(seen)


class Announcing(uvicorn.Server):
    """Prints its address once it accepts connections."""

    async def startup(self, sockets: list | None = None) -> None:
        await super().startup(sockets=sockets)
        print(f"http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}", flush=True)


Announcing(uvicorn.Config(create_app(*server.agents), port=0, log_level="error")).run()
