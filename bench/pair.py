"""A backend beside its bare library: CPU microseconds a request, each side, short answers.

Client and hosts are processes of their own, in the same session, rounds in alternation. A `bench/*_pair.py` says what a
bare client and a bare host are; all else is here.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import uvloop

from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.context import CallContext

QUESTION = "What is the capital of France, and why is it not Lyon?"
WARM_UP = 200

Ask = Callable[[int], Awaitable[Any]]
Close = Callable[[], Awaitable[Any]]


@dataclass(frozen=True)
class Side:
    """`host(between)` serves and returns its address, `client(address)` its way to ask; each with its way to close.

    `between` is the address of what stands between them, a broker, where something does, else empty.
    """

    host: Callable[[str], Awaitable[tuple[str, Close]]]
    client: Callable[[str], Awaitable[tuple[Ask, Close]]]


class Echo:
    """Answers with the question."""

    async def execute(self, context: Any, event_queue: Any) -> None:
        """Answer one message."""
        await event_queue.enqueue_event({"type": "agent_text_message", "data": context.get_user_input()})


def ours(client: Callable[[], BaseCommBackend], host: Callable[[str], BaseCommBackend] | None = None) -> Side:
    """The side that a backend is; `host` makes it where the one that hosts has to know `between`."""

    async def serve(between: str) -> tuple[str, Close]:
        backend = host(between) if host else client()
        handle = await backend.spawn_local_agent("w", "127.0.0.1", 0, Echo())
        return handle.base_url, backend.close

    async def connect(address: str) -> tuple[Ask, Close]:
        backend = client()
        await backend.register_endpoint("w", address)

        async def ask(number: int) -> Any:
            context = CallContext(
                run_id="run-1",
                question_id=f"q-{number}",
                attempt=1,
                deadline=time.monotonic() + 600,
                idempotency_key=f"run-1/q-{time.monotonic_ns()}/0123456789abcdef",  # never answered from memory
                traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                kind="question",
            )
            return await backend.send("c", "w", {"text": QUESTION, "metadata": context.to_metadata()})

        return ask, backend.close

    return Side(serve, connect)


@asynccontextmanager
async def nothing() -> AsyncIterator[str]:
    """What stands between most clients and hosts."""
    yield ""


def main(
    sides: dict[str, Side],
    *,
    crossed: bool,
    requests: int = 5000,
    in_flight: int = 8,
    rounds: int = 5,
    between: Callable[[], AbstractAsyncContextManager[str]] = nothing,
) -> None:
    """`python bench/X_pair.py [requests] [in flight]`: print what each client at each host costs.

    `crossed`: the clients of one side can ask the hosts of the other, too.
    """
    arguments = sys.argv[1:]
    if arguments[:1] == ["--host"]:
        uvloop.run(_serve(sides[arguments[1]], arguments[2]))
        return
    requests, in_flight = (int(given) for given in (*arguments, *(requests, in_flight)[len(arguments) :]))
    pairs = [(client, host) for host in sides for client in sides if crossed or client == host]
    figures = uvloop.run(
        _measure_all(sides, pairs, requests=requests, in_flight=in_flight, rounds=rounds, between=between)
    )
    print(f"{requests} requests, {in_flight} in flight, median of {rounds} rounds; microseconds a request")
    print(f"{'client':8}{'host':8}{'wall':>10}{'client CPU':>14}{'host CPU':>12}")
    for (client, host), rows in figures.items():
        wall, own, theirs = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"{client:8}{host:8}{wall:10.0f}{own:14.0f}{theirs:12.0f}")


async def _serve(side: Side, between: str) -> None:
    """Serve until standard input ends; print the address, then the CPU seconds used at every line read."""
    address, close = await side.host(between)
    print(address, flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(time.process_time(), flush=True)
    await close()


class _Host:
    """A host in a process of its own."""

    def __init__(self, name: str, between: str) -> None:
        command = [sys.executable, sys.argv[0], "--host", name, between]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address = self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def cpu_s(self) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self._line())


async def _measure_all(
    sides: dict[str, Side],
    pairs: list[tuple[str, str]],
    *,
    requests: int,
    in_flight: int,
    rounds: int,
    between: Callable[[], AbstractAsyncContextManager[str]],
) -> dict[tuple[str, str], list[list[float]]]:
    figures: dict[tuple[str, str], list[list[float]]] = {pair: [] for pair in pairs}
    async with between() as middle:
        hosts = {name: _Host(name, middle) for name in sides}
        try:
            for _ in range(rounds):
                for (client, host), rows in figures.items():
                    rows.append(await _measure(sides[client], hosts[host], requests, in_flight))
        finally:
            for host in hosts.values():
                host.process.communicate()
    return figures


async def _measure(side: Side, host: _Host, requests: int, in_flight: int) -> list[float]:
    """Wall, client CPU and host CPU in microseconds a request."""
    ask, close = await side.client(host.address)
    await _drive(ask, WARM_UP, in_flight)
    before = host.cpu_s(), time.process_time(), time.perf_counter()
    await _drive(ask, requests, in_flight)
    after = time.perf_counter(), time.process_time(), host.cpu_s()
    await close()
    return [1e6 * (end - start) / requests for start, end in zip(reversed(before), after, strict=True)]


async def _drive(ask: Ask, requests: int, in_flight: int) -> None:
    numbers = iter(range(requests))

    async def slot() -> None:
        for number in numbers:
            await ask(number)

    await asyncio.gather(*(slot() for _ in range(in_flight)))
