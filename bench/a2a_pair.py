"""The a2a backend against the official SDK: CPU microseconds a request, each side, short answers over JSON-RPC.

    python bench/a2a_pair.py [requests] [in flight]

Both clients ask both hosts in the same session, client and host in processes of their own, rounds in alternation.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

os.environ.setdefault("OTEL_INSTRUMENTATION_A2A_SDK_ENABLED", "false")

from streaming_queue.comm.asgi import serve
from streaming_queue.comm.base import HostOptions
from streaming_queue.comm.context import CallContext
from streaming_queue.protocol_backend.a2a.comm import A2ACommBackend

ROUNDS = 3
QUESTION = "What is the capital of France, and why is it not Lyon?"

Ask = Callable[[int], Awaitable[Any]]


class Echo:
    """Answers with the question."""

    async def execute(self, context: Any, event_queue: Any) -> None:
        """Answer one message."""
        await event_queue.enqueue_event({"type": "agent_text_message", "data": context.get_user_input()})


async def sdk_host() -> str:
    """The SDK's default handler behind its own JSON-RPC route."""
    from a2a.helpers.proto_helpers import new_text_message
    from a2a.server.agent_execution import AgentExecutor
    from a2a.server.request_handlers import DefaultRequestHandler
    from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
    from a2a.server.tasks import InMemoryTaskStore
    from a2a.types.a2a_pb2 import Role
    from starlette.applications import Starlette

    from streaming_queue.protocol_backend.a2a.own_card import Face

    class SdkEcho(AgentExecutor):
        async def execute(self, context: Any, event_queue: Any) -> None:
            await event_queue.enqueue_event(new_text_message(context.get_user_input(), role=Role.ROLE_AGENT))

        async def cancel(self, context: Any, event_queue: Any) -> None:
            raise NotImplementedError

    app = Starlette()
    server = await serve(app, host="127.0.0.1", port=0, options=HostOptions(), name="the SDK's host")
    card = Face("w").card(server.base_url)
    handler = DefaultRequestHandler(agent_executor=SdkEcho(), task_store=InMemoryTaskStore(), agent_card=card)
    app.router.routes += [*create_agent_card_routes(card), *create_jsonrpc_routes(handler, "/")]
    return server.base_url


async def host(kind: str) -> None:
    """Serve until standard input ends; print the address, then the CPU seconds used at every line read."""
    if kind == "ours":
        backend = A2ACommBackend()
        url = (await backend.spawn_local_agent("w", "127.0.0.1", 0, Echo())).base_url
    else:
        url = await sdk_host()
    print(url, flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(time.process_time(), flush=True)


async def our_client(url: str) -> tuple[Ask, Callable[[], Awaitable[None]]]:
    backend = A2ACommBackend()
    await backend.register_endpoint("w", url)

    async def ask(number: int) -> Any:
        context = CallContext(
            run_id="run-1",
            question_id=f"q-{number}",
            attempt=1,
            deadline=time.monotonic() + 600,
            idempotency_key=f"run-1/q-{number}/0123456789abcdef",
            kind="question",
        )
        return await backend.send("c", "w", {"text": QUESTION, "metadata": context.to_metadata()})

    return ask, backend.close


async def sdk_client(url: str) -> tuple[Ask, Callable[[], Awaitable[None]]]:
    import httpx
    from a2a.client.client import ClientConfig
    from a2a.client.client_factory import ClientFactory
    from a2a.helpers.proto_helpers import new_text_message
    from a2a.types.a2a_pb2 import Role, SendMessageRequest

    session = httpx.AsyncClient(headers={"A2A-Version": "1.0"}, timeout=60)
    client = await ClientFactory(ClientConfig(streaming=False, httpx_client=session)).create_from_url(url)

    async def ask(number: int) -> Any:
        del number
        request = SendMessageRequest(message=new_text_message(QUESTION, role=Role.ROLE_USER))
        return [event async for event in client.send_message(request)]

    return ask, session.aclose


async def drive(ask: Ask, requests: int, in_flight: int) -> None:
    numbers = iter(range(requests))

    async def slot() -> None:
        for number in numbers:
            await ask(number)

    await asyncio.gather(*(slot() for _ in range(in_flight)))


async def measure(kind: str, url: str, process: subprocess.Popen[str], requests: int, in_flight: int) -> list[float]:
    """Wall, client CPU and host CPU in microseconds a request."""
    ask, close = await (our_client if kind == "ours" else sdk_client)(url)

    def host_cpu() -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    await drive(ask, 100, in_flight)
    before = host_cpu(), time.process_time(), time.perf_counter()
    await drive(ask, requests, in_flight)
    after = time.perf_counter(), time.process_time(), host_cpu()
    await close()
    return [1e6 * (end - start) / requests for start, end in zip(reversed(before), after, strict=True)]


def main() -> None:
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    in_flight = int(sys.argv[2]) if len(sys.argv) > 2 else 8
    pairs = [(client, server) for server in ("ours", "sdk") for client in ("ours", "sdk")]
    figures: dict[tuple[str, str], list[list[float]]] = {pair: [] for pair in pairs}
    hosts = {
        kind: subprocess.Popen(
            [sys.executable, __file__, "--host", kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for kind in ("ours", "sdk")
    }
    try:
        urls = {kind: process.stdout.readline().strip() for kind, process in hosts.items() if process.stdout}
        for _ in range(ROUNDS):
            for (client, server), rows in figures.items():
                rows.append(uvloop.run(measure(client, urls[server], hosts[server], requests, in_flight)))
    finally:
        for process in hosts.values():
            process.communicate()
    print(f"{requests} requests, {in_flight} in flight, median of {ROUNDS} rounds; microseconds a request")
    print(f"{'client':8}{'host':8}{'wall':>10}{'client CPU':>14}{'host CPU':>12}")
    for (client, server), rows in figures.items():
        wall, own, theirs = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"{client:8}{server:8}{wall:10.0f}{own:14.0f}{theirs:12.0f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--host"]:
        uvloop.run(host(sys.argv[2]))
    else:
        main()
