"""Strangers' servers, and what stands between them and us."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest
from grpc import StatusCode
from unit.comm.agents import soon

from streaming_queue.protocol_backend.grpc import agent_pb2
from streaming_queue.protocol_backend.grpc.codec import SERVICE
from streaming_queue.protocol_backend.grpc.comm import GrpcCommBackend
from streaming_queue.protocol_backend.grpc.statuses import ERROR_KEY

Method = Callable[[bytes, Any], Awaitable[bytes]]

FINE = agent_pb2.Answer(text="fine").SerializeToString()


def event(**fields: Any) -> bytes:
    return agent_pb2.Event(**fields).SerializeToString()


@asynccontextmanager
async def serving(*, service: str = SERVICE, stream: Any = None, **methods: Method) -> AsyncIterator[int]:
    """A stranger's server with these methods, in bytes; its port."""
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    handlers: dict[str, Any] = {name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()}
    if stream is not None:
        handlers["Stream"] = grpc.unary_stream_rpc_method_handler(stream)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)
        await settled()


async def settled() -> None:
    """Wait until the library's tasks for calls that were cancelled have ended."""
    names = ("_schedule_rpc_coro", "_handle_exceptions", "_handle_status_once_received")
    await soon(lambda: not any(task.get_coro().__name__ in names for task in asyncio.all_tasks()))


async def fine(body: bytes, context: Any) -> bytes:
    del body, context
    return FINE


@asynccontextmanager
async def tcp(serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[int]:
    """A TCP server that is no gRPC server; its port."""
    tasks: set[Any] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def send(backend: GrpcCommBackend, port: int, text: str = "q", **metadata: Any) -> Any:
    await backend.register_endpoint("w", f"grpc://127.0.0.1:{port}")
    async with asyncio.timeout(8):
        return await backend.send("c", "w", {"text": text, "metadata": metadata})


async def stream(backend: GrpcCommBackend, port: int, **metadata: Any) -> list[Any]:
    await backend.register_endpoint("w", f"grpc://127.0.0.1:{port}")
    async with asyncio.timeout(8):
        return [event async for event in backend.stream("c", "w", {"text": "q", "metadata": metadata})]


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


class Relay:
    """Passes bytes on to a host until told to drop the connections, or to keep them and pass nothing more."""

    def __init__(self, port: int) -> None:
        self.upstream_port = port
        self.connections: list[tuple[asyncio.StreamWriter, list[asyncio.Task[None]]]] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self.upstream_port)
        pumps = [asyncio.create_task(pump(reader, upstream)), asyncio.create_task(pump(upstream_reader, writer))]
        self.connections.append((writer, pumps))
        try:
            await asyncio.wait(pumps)
        finally:
            for task in pumps:
                task.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            upstream.transport.abort()

    def reset(self) -> None:
        self.connections[-1][0].transport.abort()

    def swallow(self) -> None:
        for task in self.connections[-1][1]:
            task.cancel()


async def refused(call: Any) -> tuple[StatusCode, Any]:
    """The status of a call that fails, and the error that it tells."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    event = dict(caught.value.trailing_metadata()).get(ERROR_KEY)
    return caught.value.code(), event and json.loads(event)


def raw(channel: grpc.aio.Channel, method: str = "Send") -> Any:
    return channel.unary_unary(f"/{SERVICE}/{method}")
