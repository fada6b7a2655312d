"""One agent elsewhere, asked or commanded from here."""

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
from streaming_queue.messages import DELTA, MESSAGE, STATUS, Reply
from streaming_queue.runner.backends import create_backend
from streaming_queue.runner.following import RemoteCoordinator
from streaming_queue.runner.outcome import conclude
from streaming_queue.runner.signals import stop_signals
from streaming_queue.telemetry.console import Output

AGENT_ID = "Agent"
SLOW_S = 10.0


@asynccontextmanager
async def connect_agent(config: Config, address: str, *, commanded: bool = False) -> AsyncIterator[NetworkBase]:
    """A network of one agent, at `address`; where it is `commanded`, the agent is shown `network.operator_token`.

    Raises ConfigError on an address that the protocol does not speak.
    """
    backend = create_backend(config, coordinator=AGENT_ID if commanded else None)
    network = NetworkBase(backend, message_timeout_s=config.network.message_timeout)
    try:
        await network.register_agent(AGENT_ID, address)
        yield network
    finally:
        await network.close()


def new_key() -> str:
    """An idempotency key that nobody else has."""
    return f"ask/{secrets.token_hex(8)}"


async def ask(
    config: Config,
    address: str,
    question: str,
    *,
    key: str,
    show: Callable[[str, str], None] | None = None,
    slow: Callable[[], None] | None = None,
) -> Reply:
    """Ask one question; the same `key` comes back to an answer that is under way or was given lately.

    With `show` the answer is streamed: it is told each event's type and text as it comes, pieces and words on progress.
    `slow` is called after ten seconds without an answer. Raises the failure.
    """
    waiting = asyncio.get_running_loop().call_later(SLOW_S, slow) if slow else None
    try:
        return await _ask(config, address, question, key, show)
    finally:
        if waiting is not None:
            waiting.cancel()


async def _ask(config: Config, address: str, question: str, key: str, show: Callable[[str, str], None] | None) -> Reply:
    context = CallContext(kind="question", idempotency_key=key)
    payload = {"text": question}
    async with connect_agent(config, address) as network:
        with calling(context):
            if show is None:
                reply = await network.route_message(RUNNER_ID, AGENT_ID, payload)
                if "error" in reply:
                    raise reply["error"]
                return reply
            async with aclosing(network.stream_message(RUNNER_ID, AGENT_ID, payload)) as events:
                async for event in events:
                    if event["type"] in (DELTA, STATUS):
                        show(event["type"], event["data"])
    if event["type"] != MESSAGE:
        raise event["error"]
    reply = Reply(raw=event, text=event["data"])
    if metadata := event.get("metadata"):
        reply["metadata"] = metadata
    return reply


async def status(config: Config, address: str) -> Reply:
    """An agent's status, in words and, where it tells them, in figures (`metadata`). Raises the failure."""
    async with connect_agent(config, address) as network:
        with calling(CallContext(kind="command")):
            reply = await network.route_message(RUNNER_ID, AGENT_ID, {"text": "status"})
    if "error" in reply:
        raise reply["error"]
    return reply


async def dispatch(
    config: Config, address: str, output: Output, *, follow: bool, ended: Callable[[Mapping[str, Any]], None]
) -> int:
    """Have a coordinator begin a round; returns the exit code: of the round's outcome where it is followed.

    `ended` is told the round's summary. A signal ends the following only.
    """
    async with connect_agent(config, address, commanded=True) as network:
        remote = RemoteCoordinator(network, AGENT_ID, output)
        before = await remote.round_id()
        reply = await remote.command("dispatch", detach=True)
        error = reply.get("error")
        if follow:
            return await _follow(remote, address, output, ended=ended, before=before, error=error)
        if error is not None:
            raise error
        figures = await remote.begun()
        if figures["state"] != "running":
            return conclude(figures, output)
        output.success(f"round {figures['round_id']} is under way; `stq attach {address}` follows it")
        return ExitCode.OK


async def attach(config: Config, address: str, output: Output, *, ended: Callable[[Mapping[str, Any]], None]) -> int:
    """Follow a coordinator's round to its end; returns the exit code of its outcome. A signal ends the following only.

    Raises like `RemoteCoordinator.follow`; ConfigError where there was no round yet.
    """
    async with connect_agent(config, address, commanded=True) as network:
        remote = RemoteCoordinator(network, AGENT_ID, output)
        if (await remote.figures())["state"] == "idle":
            raise ConfigError(f"the coordinator at {address} has had no round yet; `stq dispatch {address}` begins one")
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
            output.warning(f"the round goes on at {address}; `stq attach {address}` comes back to it")
            return 128 + received[0]
    if remote.summary is not None:
        ended(remote.summary)
    return conclude(figures, output)
