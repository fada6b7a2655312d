"""The ws backend against the bare library: CPU microseconds a request, each side, short answers.

    python bench/ws_pair.py [requests] [in flight]

The bare pair multiplexes too: one connection, ids, a future for each request, the library's own `send` and `recv`.
Both run in the same session, client and host in processes of their own, rounds in alternation.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import uvloop
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from streaming_queue.comm.context import CallContext
from streaming_queue.protocol_backend.ws.comm import WsCommBackend

ROUNDS = 5
QUESTION = "What is the capital of France, and why is it not Lyon?"

Ask = Callable[[int], Awaitable[Any]]
Close = Callable[[], Awaitable[None]]


class Echo:
    """Answers with the question."""

    async def execute(self, context: Any, event_queue: Any) -> None:
        """Answer one message."""
        await event_queue.enqueue_event({"type": "agent_text_message", "data": context.get_user_input()})


async def bare_echo(connection: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        while True:
            request = orjson.loads(await connection.recv())
            await connection.send(orjson.dumps({"id": request["id"], "text": request["text"]}), text=True)


async def host(kind: str) -> None:
    """Serve until standard input ends; print the address, then the CPU seconds used at every line read."""
    if kind == "ours":
        url = (await WsCommBackend().spawn_local_agent("w", "127.0.0.1", 0, Echo())).base_url
    else:
        server = await serve(bare_echo, "127.0.0.1", 0, compression=None)
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    print(url, flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(time.process_time(), flush=True)


async def our_client(url: str) -> tuple[Ask, Close]:
    backend = WsCommBackend()
    await backend.register_endpoint("w", url)

    async def ask(number: int) -> Any:
        context = CallContext(
            run_id="run-1",
            question_id=f"q-{number}",
            attempt=1,
            deadline=time.monotonic() + 600,
            idempotency_key=f"run-1/q-{time.monotonic_ns()}/0123456789abcdef",
            traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            kind="question",
        )
        return await backend.send("c", "w", {"text": QUESTION, "metadata": context.to_metadata()})

    return ask, backend.close


async def bare_client(url: str) -> tuple[Ask, Close]:
    connection = await connect(url, compression=None, proxy=None)
    waiting: dict[int, asyncio.Future[Any]] = {}

    async def read() -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                answer = orjson.loads(await connection.recv())
                waiting.pop(answer["id"]).set_result(answer)

    reader = asyncio.create_task(read())

    async def ask(number: int) -> Any:
        answer = waiting[number] = asyncio.get_running_loop().create_future()
        await connection.send(orjson.dumps({"id": number, "text": QUESTION}), text=True)
        return await answer

    async def close() -> None:
        await connection.close()
        await reader

    return ask, close


async def drive(ask: Ask, requests: int, in_flight: int) -> None:
    numbers = iter(range(requests))

    async def slot() -> None:
        for number in numbers:
            await ask(number)

    await asyncio.gather(*(slot() for _ in range(in_flight)))


async def measure(kind: str, url: str, process: subprocess.Popen[str], requests: int, in_flight: int) -> list[float]:
    """Wall, client CPU and host CPU in microseconds a request."""
    ask, close = await (our_client if kind == "ours" else bare_client)(url)

    def host_cpu() -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    await drive(ask, 200, in_flight)
    before = host_cpu(), time.process_time(), time.perf_counter()
    await drive(ask, requests, in_flight)
    after = time.perf_counter(), time.process_time(), host_cpu()
    await close()
    return [1e6 * (end - start) / requests for start, end in zip(reversed(before), after, strict=True)]


def main() -> None:
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    in_flight = int(sys.argv[2]) if len(sys.argv) > 2 else 32
    figures: dict[str, list[list[float]]] = {"bare": [], "ours": []}
    hosts = {
        kind: subprocess.Popen(
            [sys.executable, __file__, "--host", kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for kind in figures
    }
    try:
        urls = {kind: process.stdout.readline().strip() for kind, process in hosts.items() if process.stdout}
        for _ in range(ROUNDS):
            for kind, rows in figures.items():
                rows.append(uvloop.run(measure(kind, urls[kind], hosts[kind], requests, in_flight)))
    finally:
        for process in hosts.values():
            process.communicate()
    print(f"{requests} requests, {in_flight} in flight, median of {ROUNDS} rounds; microseconds a request")
    print(f"{'pair':8}{'wall':>10}{'client CPU':>14}{'host CPU':>12}")
    for kind, rows in figures.items():
        wall, own, theirs = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"{kind:8}{wall:10.0f}{own:14.0f}{theirs:12.0f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--host"]:
        uvloop.run(host(sys.argv[2]))
    else:
        main()
