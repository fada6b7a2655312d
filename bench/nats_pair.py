"""The nats backend against plain nats-py: CPU microseconds a request, each side, short answers over one server.

    python bench/nats_pair.py [requests] [in flight]

Both clients ask both hosts in the same session, client and host in processes of their own, rounds in alternation. The
plain ones do what the contract demands and nothing else (docs/protocols/nats.md).
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import nats
import uvloop
from pairs import raw_nats

from streaming_queue.comm.base import HostOptions
from streaming_queue.comm.context import CallContext
from streaming_queue.protocol_backend.nats.comm import NatsCommBackend
from streaming_queue.protocol_backend.nats.server import start

ROUNDS = 3
QUESTION = "What is the capital of France, and why is it not Lyon?"

Ask = Callable[[int], Awaitable[Any]]


class Echo:
    """Answers with the question."""

    async def execute(self, context: Any, event_queue: Any) -> None:
        """Answer one message."""
        await event_queue.enqueue_event({"type": "agent_text_message", "data": context.get_user_input()})


async def host(kind: str, url: str) -> None:
    """Serve until standard input ends; print the address, then the CPU seconds used at every line read."""
    if kind == "ours":
        address = (await NatsCommBackend(url=url).spawn_local_agent("w", "", 0, Echo())).base_url
    else:
        await raw_nats.respond(url)
        address = f"{url}/{raw_nats.SUBJECT}"
    print(address, flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(time.process_time(), flush=True)


def open_host(kind: str, url: str) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--host", kind, url]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def our_client(address: str) -> tuple[Ask, Callable[[], Awaitable[None]]]:
    backend = NatsCommBackend()
    await backend.register_endpoint("w", address)

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


async def raw_client(address: str) -> tuple[Ask, Callable[[], Awaitable[None]]]:
    url, _, subject = address.rpartition("/")
    connection = await nats.connect(url)

    async def ask(number: int) -> Any:
        del number
        return await raw_nats.ask(connection, QUESTION, subject)

    return ask, connection.close


async def drive(ask: Ask, requests: int, in_flight: int) -> None:
    numbers = iter(range(requests))

    async def slot() -> None:
        for number in numbers:
            await ask(number)

    await asyncio.gather(*(slot() for _ in range(in_flight)))


async def measure(
    kind: str, address: str, process: subprocess.Popen[str], requests: int, in_flight: int
) -> list[float]:
    """Wall, client CPU and host CPU in microseconds a request."""
    ask, close = await (our_client if kind == "ours" else raw_client)(address)

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


async def main() -> None:
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    in_flight = int(sys.argv[2]) if len(sys.argv) > 2 else 8
    pairs = [(client, server) for server in ("ours", "raw") for client in ("ours", "raw")]
    figures: dict[tuple[str, str], list[list[float]]] = {pair: [] for pair in pairs}
    server = await start("127.0.0.1", 0, HostOptions(), "the bench")
    hosts = {kind: open_host(kind, str(server.address)) for kind in ("ours", "raw")}
    try:
        addresses = {kind: process.stdout.readline().strip() for kind, process in hosts.items() if process.stdout}
        for _ in range(ROUNDS):
            for (client, kind), rows in figures.items():
                rows.append(await measure(client, addresses[kind], hosts[kind], requests, in_flight))
    finally:
        for process in hosts.values():
            process.communicate()
        await server.stop()
    print(f"{requests} requests, {in_flight} in flight, median of {ROUNDS} rounds; microseconds a request")
    print(f"{'client':8}{'host':8}{'wall':>10}{'client CPU':>14}{'host CPU':>12}")
    for (client, kind), rows in figures.items():
        wall, own, theirs = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"{client:8}{kind:8}{wall:10.0f}{own:14.0f}{theirs:12.0f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--host"]:
        uvloop.run(host(*sys.argv[2:]))
    else:
        uvloop.run(main())
