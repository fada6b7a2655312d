"""Our ends of the ws protocol against libraries that are not ours, by the contract of docs/protocols/ws.md alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from unit.comm.agents import Agent, Echo, Gate, message, soon
from websockets.sync.client import connect as connect_sync

from streaming_queue.comm.base import HostOptions
from streaming_queue.errors import AgentFailedError, AuthError, ConnectError, ProtocolError, RateLimitedError
from streaming_queue.messages import DELTA, ERROR, MESSAGE, STATUS
from streaming_queue.protocol_backend.ws.comm import WsCommBackend

pytestmark = pytest.mark.usefixtures("no_stray_tasks")

SUBPROTOCOL = "streaming-queue.v1"
TEXT = '"quotes" \\back\\ \t\r\n 字 🦜 \x00 \x1b[31m \u2028'


@pytest.fixture
async def backend():
    backend = WsCommBackend()
    yield backend
    await backend.close()


async def behave(context: Any, queue: Any) -> None:
    text = context.get_user_input()
    if text == "fail":
        raise RateLimitedError("slow down", retry_after_s=2.5)
    await queue.enqueue_event({"type": STATUS, "data": "thinking"})
    await queue.enqueue_event({"type": DELTA, "data": text})
    await queue.enqueue_event(message(text, metadata={"llm_ms": 1.5}))


# --- their clients, our host ---


async def test_the_blocking_client_of_websockets(backend: WsCommBackend):
    handle = await backend.spawn_local_agent("w", "127.0.0.1", 0, Agent(behave))

    def ask() -> list[Any]:
        with connect_sync(handle.base_url, subprotocols=[SUBPROTOCOL], proxy=None) as peer:
            requests = [
                {"type": "request", "id": 1, "text": TEXT},
                {"type": "request", "id": 2, "text": "fail"},
                {"type": "request", "id": 3, "text": TEXT, "stream": True},
                {"type": "ping", "id": 4},
            ]
            for request in requests:
                peer.send(json.dumps(request))
            return [json.loads(peer.recv(timeout=30)) for _ in range(6)]

    frames = await asyncio.to_thread(ask)
    by_id = {number: [frame for frame in frames if frame["id"] == number] for number in (1, 2, 3, 4)}
    answer = {"type": MESSAGE, "data": TEXT, "metadata": {"llm_ms": 1.5}}
    assert by_id[1] == [{**answer, "id": 1}]
    ((error),) = by_id[2]
    assert (error["type"], error["code"], error["retry_after_s"]) == (ERROR, "rate_limited", 2.5)
    assert [frame["type"] for frame in by_id[3]] == [STATUS, DELTA, MESSAGE]
    assert by_id[4] == [{"type": "pong", "id": 4, "status": "ok", "agent_id": "w"}]


async def test_the_client_of_aiohttp(backend: WsCommBackend):
    gate = Gate()
    handle = await backend.spawn_local_agent("w", "127.0.0.1", 0, gate)
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(handle.base_url, protocols=[SUBPROTOCOL], compress=15) as peer,
    ):
        assert peer.protocol == SUBPROTOCOL
        await peer.ping()
        await peer.send_json({"type": "request", "id": 1, "text": "q", "metadata": {"idempotency_key": "k"}})
        await gate.started.wait()
        await peer.send_json({"type": "cancel", "id": 1})
        frame = await peer.receive_json(timeout=30)
        assert (frame["id"], frame["type"], frame["code"]) == (1, ERROR, "agent_failed")
        gate.open.set()
        await peer.send_json({"type": "request", "id": 1, "text": TEXT})
        assert await peer.receive_json(timeout=30) == {"type": MESSAGE, "id": 1, "data": "answer 2"}
        await peer.send_str("nonsense")
        closed = await peer.receive(timeout=30)
        assert (closed.type, closed.data) == (aiohttp.WSMsgType.CLOSE, 1002)


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"headers": {"Authorization": "Bearer right"}}, 400),
        ({"protocols": ["graphql-ws"], "headers": {"Authorization": "Bearer right"}}, 400),
        ({"protocols": [SUBPROTOCOL], "origin": "http://evil.example"}, 403),
        ({"protocols": [SUBPROTOCOL], "headers": {"Host": "evil.example"}}, 421),
        ({"protocols": [SUBPROTOCOL], "headers": {"Authorization": "Bearer wrong"}}, 401),
        ({"protocols": [SUBPROTOCOL], "headers": {"Authorization": "Bearer right"}}, None),
    ],
    ids=range(6),
)
async def test_refusals_as_aiohttp_sees_them(options: Any, status: int | None):
    async def authenticator(credential: str) -> str | None:
        return "ada" if credential == "right" else None

    backend = WsCommBackend(host_options=HostOptions(authenticator=authenticator))
    handle = await backend.spawn_local_agent("w", "127.0.0.1", 0, Echo())
    try:
        async with aiohttp.ClientSession() as session:
            seen = None
            try:
                async with session.ws_connect(handle.base_url, **options) as peer:
                    await peer.send_json({"type": "request", "id": 1, "text": "x"})
                    assert (await peer.receive_json(timeout=30))["data"] == "x"
            except aiohttp.WSServerHandshakeError as error:
                seen = error.status
            assert seen == status
            async with session.get(f"{handle.base_url.replace('ws:', 'http:')}/health") as response:
                assert (response.status, await response.json()) == (200, {"status": "ok", "agent_id": "w"})
    finally:
        await backend.close()


# --- their server, our client ---


class Worker:
    """A worker after the document, on aiohttp."""

    def __init__(self) -> None:
        self.connections = 0
        self.cancelled: list[int] = []
        self.under_way: dict[int, asyncio.Task[None]] = {}
        self.sockets: list[web.WebSocketResponse] = []

    async def serve(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=[SUBPROTOCOL], compress=False)
        await socket.prepare(request)
        self.connections += 1
        self.sockets.append(socket)
        async for data in socket:
            frame = data.json()
            number = frame["id"]
            if frame["type"] == "ping":
                await socket.send_json({"type": "pong", "id": number, "status": "ok"})
            elif frame["type"] == "cancel":
                self.cancelled.append(number)
                self.under_way.pop(number).cancel()
                error = {"code": "agent_failed", "message": "cancelled", "retryable": False, "retry_after_s": None}
                await socket.send_json({"type": ERROR, "id": number, **error})
            else:
                self.under_way[number] = asyncio.create_task(self.answer(socket, frame))
        return socket

    async def answer(self, socket: web.WebSocketResponse, frame: Any) -> None:
        number, text = frame["id"], frame["text"]
        if text == "wait":
            await asyncio.Event().wait()
        if text == "fail":
            await socket.send_json({"type": ERROR, "id": number, "code": "agent_failed", "message": "oh"})
            return
        if frame.get("stream"):
            await socket.send_json({"type": DELTA, "id": number, "data": text})
        await socket.send_json({"type": MESSAGE, "id": number, "data": text, "metadata": {"mock": True}})


@asynccontextmanager
async def served(handler: Any) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_worker_on_aiohttp(backend: WsCommBackend):
    worker = Worker()
    async with served(worker.serve) as address:
        await backend.register_endpoint("w", address)
        assert await backend.health_check("w")
        texts = [f"{TEXT} {number}" for number in range(50)]
        replies = await asyncio.gather(*(backend.send("c", "w", {"text": text}) for text in texts))
        assert [(reply["text"], reply["metadata"]) for reply in replies] == [(text, {"mock": True}) for text in texts]
        events = [event async for event in backend.stream("c", "w", {"text": "x"})]
        assert events == [{"type": DELTA, "data": "x"}, {"type": MESSAGE, "data": "x", "metadata": {"mock": True}}]
        with pytest.raises(AgentFailedError, match="oh"):
            await backend.send("c", "w", {"text": "fail"})
        waiting = asyncio.create_task(backend.send("c", "w", {"text": "wait"}))
        await soon(lambda: not all(task.done() for task in worker.under_way.values()))
        waiting.cancel()
        await asyncio.wait({waiting})
        await soon(lambda: len(worker.cancelled) == 1)
        assert worker.connections == 1
        await worker.sockets[0].close()
        assert (await backend.send("c", "w", {"text": "again"}))["text"] == "again"
        assert worker.connections == 2
        await backend.close()


async def test_a_worker_on_aiohttp_that_goes_away(backend: WsCommBackend):
    worker = Worker()
    async with served(worker.serve) as address:
        await backend.register_endpoint("w", address)
        waiting = asyncio.create_task(backend.send("c", "w", {"text": "wait"}))
        await soon(lambda: len(worker.under_way) == 1)
        await worker.sockets[0].close(code=1012)
        with pytest.raises(ConnectError, match="closed the connection with code 1012"):
            await waiting
        (task,) = worker.under_way.values()
        task.cancel()


async def test_other_handlers_of_aiohttp_are_no_workers(backend: WsCommBackend):
    async def page(request: web.Request) -> web.Response:
        return web.Response(text="<html>It works!</html>", content_type="text/html")

    async def refuse(request: web.Request) -> web.Response:
        raise web.HTTPUnauthorized

    async def chat(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for _ in socket:
            pass
        return socket

    for handler, error in ((page, ProtocolError), (refuse, AuthError), (chat, ProtocolError)):
        async with served(handler) as address:
            await backend.register_endpoint("w", address)
            with pytest.raises(error, match=f"^{address}: "):
                await backend.send("c", "w", {"text": "q"})
