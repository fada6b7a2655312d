"""Ask or command one agent at an address."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

from streaming_queue.comm.context import CallContext, calling
from streaming_queue.config import Config
from streaming_queue.core.network_base import RUNNER_ID, NetworkBase
from streaming_queue.errors import ConfigError, StreamingQueueError
from streaming_queue.exit_codes import ExitCode
from streaming_queue.messages import DELTA, ERROR, STATUS, Reply, reply_of
from streaming_queue.runner.backends import create_backend
from streaming_queue.runner.following import RemoteCoordinator
from streaming_queue.runner.outcome import conclude
from streaming_queue.runner.signals import stop_signals
from streaming_queue.telemetry.console import Output

AGENT_ID = "Agent"
SLOW_S = 10.0


@asynccontextmanager
async def connect_agent(config: Config, address: str, *, commanded: bool = False) -> AsyncIterator[NetworkBase]:
    """A network with one agent, at `address`. With `commanded` the agent gets `network.operator_token`.

    Raises ConfigError if the address does not fit the protocol.
    """
    backend = create_backend(config, coordinator=AGENT_ID if commanded else None)
    network = NetworkBase(backend, message_timeout_s=config.network.message_timeout)
    try:
        await network.register_agent(AGENT_ID, address)
        yield network
    finally:
        await network.close()


def new_key() -> str:
    """A random idempotency key."""
    return f"ask/{secrets.token_hex(8)}"


async def ask(
    config: Config,
    address: str,
    question: str,
    *,
    key: str,
    show: Callable[[str, str], None] | None,
    slow: Callable[[], None],
) -> Reply:
    """Ask one question. The same `key` gets the same answer, also while the question is in flight. Raises the failure.

    With `show` the answer is streamed: `show` gets type and text of each event (pieces and progress).
    `slow` is called after ten seconds without an answer.
    """
    waiting = asyncio.get_running_loop().call_later(SLOW_S, slow)
    try:
        async with connect_agent(config, address) as network:
            with calling(CallContext(kind="question", idempotency_key=key)):
                return await (_send(network, question) if show is None else _stream(network, question, show))
    finally:
        waiting.cancel()


async def status(config: Config, address: str) -> Reply:
    """The status of an agent, as text and, from some agents, as figures (`metadata`). Raises the failure."""
    async with connect_agent(config, address) as network:
        with calling(CallContext(kind="command")):
            return await _send(network, "status")


async def _send(network: NetworkBase, text: str) -> Reply:
    reply = await network.route_message(RUNNER_ID, AGENT_ID, {"text": text})
    if "error" in reply:
        raise reply["error"]
    return reply


async def _stream(network: NetworkBase, text: str, show: Callable[[str, str], None]) -> Reply:
    async with aclosing(network.stream_message(RUNNER_ID, AGENT_ID, {"text": text})) as events:
        async for event in events:
            if event["type"] in (DELTA, STATUS):
                show(event["type"], event["data"])
    if event["type"] == ERROR:
        raise event["error"]
    return reply_of(event)


async def dispatch(
    config: Config, address: str, output: Output, *, follow: bool, ended: Callable[[Mapping[str, Any]], None]
) -> int:
    """Dispatch a coordinator's run. Return the exit code; with `follow` it is that of the run.

    `ended` gets the summary of the run. A signal ends this command, not the run.
    """
    async with connect_agent(config, address, commanded=True) as network:
        remote = RemoteCoordinator(network, AGENT_ID, output)
        before = await remote.round_id()
        error = (await remote.command("dispatch", detach=True)).get("error")
        if follow:
            return await _follow(remote, address, output, ended=ended, before=before, error=error)
        if error is not None:
            raise error
        figures = await remote.begun()
        if figures["state"] != "running":
            return conclude(figures, output)
        output.success(f"run {figures['round_id']} goes on; `stq attach {address}` follows it")
        return ExitCode.OK


async def attach(config: Config, address: str, output: Output, *, ended: Callable[[Mapping[str, Any]], None]) -> int:
    """Follow a coordinator's run to its end. Return its exit code. A signal ends this command, not the run.

    Raises like `RemoteCoordinator.follow`; ConfigError if there was no run yet.
    """
    async with connect_agent(config, address, commanded=True) as network:
        remote = RemoteCoordinator(network, AGENT_ID, output)
        if (await remote.figures())["state"] == "idle":
            raise ConfigError(f"the coordinator at {address} has had no run yet; `stq dispatch {address}` starts one")
        return await _follow(remote, address, output, ended=ended)


async def _follow(
    remote: RemoteCoordinator,
    address: str,
    output: Output,
    *,
    ended: Callable[[Mapping[str, Any]], None],
    before: str | None = None,
    error: StreamingQueueError | None = None,
) -> int:
    following = asyncio.create_task(remote.follow(before=before, error=error), name="follow")
    received: list[int] = []

    def leave(number: int) -> None:
        received.append(number)
        following.cancel()

    with stop_signals(leave):
        try:
            figures = await following
        except asyncio.CancelledError:
            if not received:
                raise
            output.warning(f"the run goes on at {address}; `stq attach {address}` follows it again")
            return 128 + received[0]
    if remote.summary is not None:
        ended(remote.summary)
    return conclude(figures, output)
