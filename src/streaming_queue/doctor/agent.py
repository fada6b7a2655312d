"""Check an agent at an address: connection, health, credential, clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from functools import partial
from typing import Any

from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.commands import is_command
from streaming_queue.comm.probing import START_POLL_S, StartingError, probed
from streaming_queue.config import Config
from streaming_queue.doctor.connecting import connect
from streaming_queue.doctor.examination import STEP_S, in_thread
from streaming_queue.doctor.finding import Finding, Level, failure, ok, problem, warning
from streaming_queue.errors import (
    AuthError,
    BackendNotInstalledError,
    ConfigError,
    ConnectError,
    StreamingQueueError,
    UnknownProtocolError,
)
from streaming_queue.exit_codes import ExitCode
from streaming_queue.masking import masked
from streaming_queue.runner.backends import create_backend
from streaming_queue.telemetry.text import one_line

SKEW_S = 5.0
"""Allowed difference between a peer's clock and ours."""
CLOSE_S = 4.0
"""Time for a command to end before it is killed."""
MOST_FACTS = 12
LONGEST_FACT = 200


async def endpoint(agent_id: str, address: str, config: Config) -> list[Finding]:
    """Check one of several agents: a line if it is healthy, and a line for each other finding."""
    found = await agent(agent_id, address, config)
    return [finding for finding in found if finding.check == "agent" or finding.level is not Level.OK]


async def agent(agent_id: str, address: str, config: Config) -> list[Finding]:
    """Check the agent at `address` without a question."""
    place = f"{agent_id} at {masked(address)}"
    try:
        async with _backend(agent_id, address, config) as backend:
            made = await connect(address)
            way = f"{place}: {made[0]}, connected in {made[1]:.1f} ms" if made else place
            if is_command(address) and (failed := await _started(backend, agent_id)):
                return [ok("address", way), failed]
            return [ok("address", way), *await _asked(backend, agent_id, place)]
    except ConnectError as error:
        seen, remedy = f"{place}: {error}", "start the agent there, or correct the address"
        return [problem("address", seen, remedy, ExitCode.UNAVAILABLE)]
    except (UnknownProtocolError, BackendNotInstalledError) as error:
        return [failure("protocol", error)]
    except ConfigError as error:
        return [failure("address", error)]


@asynccontextmanager
async def _backend(agent_id: str, address: str, config: Config) -> AsyncIterator[BaseCommBackend]:
    """A backend of the configured protocol, with the agent registered. Raises ConfigError."""
    backend = await in_thread(partial(create_backend, config))  # its imports block
    try:
        await backend.register_endpoint(agent_id, address)
        yield backend
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await backend.close()


async def _started(backend: BaseCommBackend, agent_id: str) -> Finding | None:
    """Wait until the command at an address answers; the finding if it does not."""
    while isinstance(reason := await probed(backend, agent_id), StartingError):  # noqa: ASYNC110 (a process of another program)
        await asyncio.sleep(START_POLL_S)
    if reason is None or isinstance(reason, AuthError):
        return None
    remedy = "correct the command, or give it more time (mcp.start_timeout_s)"
    return failure("agent", reason, None if isinstance(reason, ConfigError) else remedy)


async def _asked(backend: BaseCommBackend, agent_id: str, place: str) -> list[Finding]:
    describe = getattr(backend, "describe", None)  # a backend need not derive from ours
    began = time.time()
    try:
        async with asyncio.timeout(STEP_S):
            facts: Mapping[str, Any] = await describe(agent_id) if describe else {}
            ended = time.time()
            healthy = await backend.health_check(agent_id)
    except AuthError as error:
        remedy = "set network.token (STQ_NETWORK__TOKEN) to a credential that the agent accepts"
        return [failure("agent", error, remedy)]
    except StreamingQueueError as error:
        name = getattr(backend, "name", "") or type(backend).__name__
        return [failure("agent", error, f"check that the server there speaks {name} (-p)")]
    except TimeoutError:
        seen = f"{place}: it accepts the connection and sends nothing for {STEP_S:g} s"
        remedy = "see the agent's log; it may hang, or speak another protocol (-p)"
        return [problem("agent", seen, remedy, ExitCode.UNAVAILABLE)]
    date = facts.get("date")
    described = describe_facts({key: value for key, value in facts.items() if key != "date"})
    if not healthy:
        seen = f"{place}: it answers, but it is not healthy" + (f"; {described}" if described else "")
        return [problem("agent", seen, "see the agent's log; it may be draining", ExitCode.UNAVAILABLE)]
    found = [ok("agent", f"{place}: healthy" + (f"; {described}" if described else ""))]
    return [*found, _clock(place, date, began, ended)] if isinstance(date, datetime) else found


def describe_facts(facts: Mapping[str, Any]) -> str:
    """Facts of an agent as `name Worker-1; streaming yes; ...`, shortened and escaped."""
    shown = []
    for key, value in list(facts.items())[:MOST_FACTS]:
        if isinstance(value, bool):
            text = "yes" if value else "no"
        else:
            text = " / ".join(map(str, value)) if isinstance(value, list) else str(value)
        shown.append(f"{one_line(key, 40)} {one_line(text, LONGEST_FACT)}")
    return "; ".join(shown)


def _clock(place: str, date: datetime, began: float, ended: float) -> Finding:
    """Compare the peer's clock, to the second, with our time before and after the request."""
    moment = date.timestamp()
    ahead_s = max(0.0, moment - ended) or min(0.0, moment + 1 - began)
    if abs(ahead_s) <= SKEW_S:
        return ok("agent clock", f"{place}: equal to ours, to the second")
    side = "ahead of" if ahead_s > 0 else "behind"
    seen = f"{place}: {abs(ahead_s):,.0f} s {side} ours"
    return warning("agent clock", seen, "set both clocks, best by NTP: times in both logs differ")
