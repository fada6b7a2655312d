"""The grpc backend against its library alone: CPU microseconds a request, each side, short answers, unary calls.

    python bench/grpc_pair.py [requests] [in flight]

The raw pair is the generated stub and servicer on `grpc.aio`, as its documentation writes them. Both clients ask both
hosts in the same session, client and host in processes of their own, rounds in alternation.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from streaming_queue.comm.context import CallContext
from streaming_queue.protocol_backend.grpc.comm import GrpcCommBackend

ROUNDS = 5
QUESTION = "What is the capital of France, and why is it not Lyon?"

Ask = Callable[[int], Awaitable[Any]]


class Echo:
    """Answers with the question."""

    async def execute(self, context: Any, event_queue: Any) -> None:
        """Answer one message."""
        await event_queue.enqueue_event({"type": "agent_text_message", "data": context.get_user_input()})


async def raw_host() -> tuple[str, Any]:
    import grpc.aio

    from streaming_queue.protocol_backend.grpc import agent_pb2, agent_pb2_grpc

    class RawEcho(agent_pb2_grpc.AgentServicer):
        async def Send(self, request: Any, context: Any) -> Any:  # noqa: N802
            del context
            return agent_pb2.Answer(text=request.text)

    server = grpc.aio.server()
    agent_pb2_grpc.add_AgentServicer_to_server(RawEcho(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return f"grpc://127.0.0.1:{port}", server


async def host(kind: str) -> None:
    """Serve until standard input ends; print the address, then the CPU seconds used at every line read."""
    backend, server = GrpcCommBackend(), None
    if kind == "ours":
        url = (await backend.spawn_local_agent("w", "127.0.0.1", 0, Echo())).base_url
    else:
        url, server = await raw_host()
    print(url, flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(time.process_time(), flush=True)
    await backend.close()
    if server is not None:
        await server.stop(None)


async def our_client(url: str) -> tuple[Ask, Callable[[], Awaitable[None]]]:
    backend = GrpcCommBackend()
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


async def raw_client(url: str) -> tuple[Ask, Callable[[], Awaitable[None]]]:
    import grpc.aio

    from streaming_queue.protocol_backend.grpc import agent_pb2, agent_pb2_grpc

    channel = grpc.aio.insecure_channel(url.removeprefix("grpc://"))
    stub = agent_pb2_grpc.AgentStub(channel)

    async def ask(number: int) -> Any:
        del number
        return await stub.Send(agent_pb2.Message(text=QUESTION), timeout=600)

    return ask, channel.close


async def drive(ask: Ask, requests: int, in_flight: int) -> None:
    numbers = iter(range(requests))

    async def slot() -> None:
        for number in numbers:
            await ask(number)

    await asyncio.gather(*(slot() for _ in range(in_flight)))


async def measure(kind: str, url: str, process: subprocess.Popen[str], requests: int, in_flight: int) -> list[float]:
    """Wall, client CPU and host CPU in microseconds a request."""
    ask, close = await (our_client if kind == "ours" else raw_client)(url)

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
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    in_flight = int(sys.argv[2]) if len(sys.argv) > 2 else 8
    pairs = [(client, server) for server in ("ours", "raw") for client in ("ours", "raw")]
    figures: dict[tuple[str, str], list[list[float]]] = {pair: [] for pair in pairs}
    hosts = {
        kind: subprocess.Popen(
            [sys.executable, __file__, "--host", kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for kind in ("ours", "raw")
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
