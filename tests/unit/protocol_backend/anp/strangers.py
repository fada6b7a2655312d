"""Agents of others, as a test needs them: an agent description, an OpenRPC interface and what calls are answered."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

TEXT = {"type": "string"}


def method(name: str, *params: tuple[str, Any, bool], **more: Any) -> dict[str, Any]:
    """A method with parameters (name, schema, required)."""
    parameters = [{"name": each, "schema": schema, "required": required} for each, schema, required in params]
    return {"name": name, "params": parameters, **more}


def result(value: Any) -> Callable[[Any], web.Response]:
    """The response with this result."""
    return lambda call: web.json_response({"jsonrpc": "2.0", "id": call["id"], "result": value})


def body(content: Any, **more: Any) -> Callable[[Any], web.Response]:
    """A response with this body."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return lambda _: web.Response(body=raw, content_type=more.pop("content_type", "application/json"), **more)


YES = result("yes")


@dataclass
class Stranger:
    """Its base URL, what it answers calls with, and what it was sent."""

    methods: list[Any]
    answer: Callable[[Any], web.StreamResponse]
    description: Callable[[str], Any] | None = None
    interface: Callable[[str], Any] | None = None
    guarded: bool = False
    url: str = ""
    calls: list[Any] = field(default_factory=list)
    headers: list[Any] = field(default_factory=list)

    async def ad(self, request: web.Request) -> web.Response:
        if self.guarded and "Signature" not in request.headers:
            return web.Response(status=401)
        if self.description is not None:
            return web.json_response(self.description(self.url))
        offered = {"type": "StructuredInterface", "protocol": "openrpc", "url": f"{self.url}/interface.json"}
        return web.json_response({"name": "stranger", "interfaces": [offered]})

    async def rpc_interface(self, request: web.Request) -> web.Response:
        if self.interface is not None:
            return web.json_response(self.interface(self.url))
        document = {"openrpc": "1.3.2", "methods": self.methods, "servers": [{"url": f"{self.url}/rpc"}]}
        return web.json_response(document)

    async def rpc(self, request: web.Request) -> web.StreamResponse:
        self.headers.append(request.headers)
        self.calls.append(json.loads(await request.read()))
        return self.answer(self.calls[-1])


@asynccontextmanager
async def stranger(methods: list[Any], answer: Callable[[Any], Any] = YES, **more: Any) -> AsyncIterator[Stranger]:
    """An agent of others on loopback."""
    made = Stranger(methods, answer, **more)
    app = web.Application()
    app.router.add_get("/ad.json", made.ad)
    app.router.add_get("/interface.json", made.rpc_interface)
    app.router.add_post("/rpc", made.rpc)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = "http://{}:{}".format(*runner.addresses[0][:2])
    try:
        yield made
    finally:
        await runner.cleanup()
