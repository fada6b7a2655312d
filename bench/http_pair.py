"""The http backend against a bare aiohttp client and starlette endpoint: CPU microseconds a request, each side.

    python bench/http_pair.py [requests] [in flight]

Both pairs run in the same session, client and host in processes of their own, rounds in alternation.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import orjson
import uvicorn
import uvloop
from pairs.raw_http import answer
from starlette.applications import Starlette
from starlette.routing import Route

from streaming_queue.comm.context import CallContext
from streaming_queue.protocol_backend.http.comm import HttpCommBackend

ROUNDS = 5
QUESTION = "What is the capital of France, and why is it not Lyon?"


class Echo:
    """Answers with the question."""

    async def execute(self, context: Any, event_queue: Any) -> None:
        """Answer one message."""
        await event_queue.enqueue_event({"type": "agent_text_message", "data": context.get_user_input()})


async def host(kind: str) -> None:
    """Serve until standard input ends; print the port, then the CPU seconds used at every line read."""
    if kind == "ours":
        backend = HttpCommBackend()
        port = (await backend.spawn_local_agent("w", "127.0.0.1", 0, Echo())).base_url.rpartition(":")[2]
    else:
        app = Starlette(routes=[Route("/message", answer, methods=["POST"])])
        config = uvicorn.Config(
            app, port=0, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False
        )
        server = uvicorn.Server(config)
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup()
        port = str(server.servers[0].sockets[0].getsockname()[1])
    print(port, flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(time.process_time(), flush=True)


async def drive(ask: Callable[[int], Awaitable[Any]], requests: int, in_flight: int) -> None:
    numbers = iter(range(requests))

    async def slot() -> None:
        for number in numbers:
            await ask(number)

    await asyncio.gather(*(slot() for _ in range(in_flight)))


async def client(kind: str, port: str, process: subprocess.Popen[str], requests: int, in_flight: int) -> list[float]:
    """Wall, client CPU and host CPU in microseconds a request."""
    assert process.stdin is not None
    assert process.stdout is not None
    if kind == "ours":
        backend = HttpCommBackend()
        await backend.register_endpoint("w", f"http://127.0.0.1:{port}")

        async def ask(number: int) -> Any:
            context = CallContext(
                run_id="run-1",
                question_id=f"q-{number}",
                attempt=1,
                deadline=time.monotonic() + 600,
                idempotency_key=f"run-1/q-{number}/0123456789abcdef",
                traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                kind="question",
            )
            return await backend.send("c", "w", {"text": QUESTION, "metadata": context.to_metadata()})

        close = backend.close
    else:
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        url = f"http://127.0.0.1:{port}/message"

        async def ask(number: int) -> Any:
            del number
            async with session.post(url, data=orjson.dumps({"text": QUESTION})) as response:
                return orjson.loads(await response.read())

        close = session.close

    def host_cpu() -> float:
        process.stdin.write("\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    await drive(ask, 200, in_flight)
    before = host_cpu(), time.process_time(), time.perf_counter()
    await drive(ask, requests, in_flight)
    after = time.perf_counter(), time.process_time(), host_cpu()
    await close()
    wall, own, theirs = (end - start for start, end in zip(reversed(before), after, strict=True))
    return [1e6 * seconds / requests for seconds in (wall, own, theirs)]


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
        ports = {kind: process.stdout.readline().strip() for kind, process in hosts.items() if process.stdout}
        for _ in range(ROUNDS):
            for kind, rows in figures.items():
                rows.append(uvloop.run(client(kind, ports[kind], hosts[kind], requests, in_flight)))
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
