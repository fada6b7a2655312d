"""Checks of capabilities and of leaks."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

from streaming_queue.comm.base import BaseCommBackend, Capabilities
from streaming_queue.testing import resource_count
from streaming_queue.testing.executors import Recorder
from streaming_queue.testing.expect import expect, expect_equal, shown, unmet
from streaming_queue.testing.lab import Lab
from streaming_queue.testing.verdict import holds

MESSAGES = 1000
AT_ONCE = 20
GROWTH = 4
"""The allowed number of new sockets or threads: a pool may grow, a library may start a thread late."""
SETTLE_S = 3.0


class Claiming:
    """Checks of capabilities."""

    @holds("claim-1")
    async def test_claims_have_methods_behind_them(self, lab: Lab) -> None:
        claims = lab.claims
        expect(isinstance(claims, Capabilities), "a Capabilities as `capabilities`", claims)
        expect(not claims.host or lab.can_host, "its own `spawn_local_agent`, since `host` is claimed", "the base's")
        own = getattr(type(lab.backend), "stream", BaseCommBackend.stream)
        streams = own is not BaseCommBackend.stream
        expect(not claims.streaming or streams, "its own `stream`, since `streaming` is claimed", "the base's")

    @holds("claim-2")
    async def test_the_agent_knows_the_asker(self, lab: Lab) -> None:
        recorder = Recorder(lambda context: context.principal)
        await lab.host(recorder)
        await lab.send()
        (principal,) = recorder.seen
        expect(isinstance(principal, str) and principal, "the caller, as `context.principal`", principal)

    @holds("claim-3")
    async def test_the_wire_shows_no_text(self, lab: Lab) -> None:
        wire = (await lab.agent()).wire
        secret = "a-secret-text"  # noqa: S105 (a text for this check, no secret)
        expect_equal((await lab.send(secret))["text"], secret, "the answer")
        expect(secret.encode() not in wire.sent, "a question that cannot be read on the wire", "it can be read")
        expect(secret.encode() not in wire.received, "an answer that cannot be read on the wire", "it can be read")


class Leaking:
    """Checks of leaks."""

    @holds("leak-1")
    async def test_a_thousand_messages_leave_nothing_behind(self, lab: Lab) -> None:
        await lab.agent()
        await _ask(lab, 3 * AT_ONCE, "warm")
        before = await _alive()
        await _ask(lab, MESSAGES, "counted")
        until = asyncio.get_running_loop().time() + SETTLE_S
        while grown := _grown(before, after := await _alive()):
            if asyncio.get_running_loop().time() > until:
                unmet(
                    f"as many as before: {shown(_counts(before))}", f"{shown(_counts(after))}; more {', '.join(grown)}"
                )
            await asyncio.sleep(0.05)


async def _ask(lab: Lab, count: int, series: str) -> None:
    for first in range(0, count, AT_ONCE):
        asked = (lab.send("x", idempotency_key=f"{series}/{first + number}") for number in range(AT_ONCE))
        await asyncio.gather(*asked)


async def _alive() -> dict[str, list[str] | int | None]:
    gc.collect()
    return {
        "tasks": resource_count.tasks(),
        "sockets": await resource_count.sockets(),
        "threads": resource_count.threads(),
    }


def _counts(alive: dict[str, Any]) -> dict[str, Any]:
    return {kind: len(what) if isinstance(what, list) else what for kind, what in alive.items()}


def _grown(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The kinds that grew, with some names."""
    counts_before, counts_after = _counts(before), _counts(after)
    grown = []
    for kind, count in counts_after.items():
        slack = 0 if kind == "tasks" else GROWTH
        if count is None or counts_before[kind] is None or count <= counts_before[kind] + slack:
            continue
        names = sorted(set(after[kind]) - set(before[kind]))[:5] if isinstance(after[kind], list) else []
        grown.append(f"{kind} ({', '.join(names)})" if names else kind)
    return grown
