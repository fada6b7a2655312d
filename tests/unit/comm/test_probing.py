from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.composite import CompositeBackend
from streaming_queue.comm.probing import ProbingBackend, answers, probed
from streaming_queue.errors import (
    AuthError,
    CommError,
    ConnectError,
    RemoteError,
    SendTimeoutError,
    StreamingQueueError,
)
from streaming_queue.protocol_backend.inproc.comm import InprocCommBackend


class Guides(BaseCommBackend):
    """As the guide has it: the two methods, nothing else."""

    def __init__(self, healthy: bool) -> None:
        self.healthy = healthy

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Any: ...

    async def health_check(self, agent_id: str) -> bool:
        return self.healthy


class Own:
    """No subclass of ours at all."""

    async def health_check(self, agent_id: str) -> bool:
        return False


class Probing(ProbingBackend):
    probe_timeout_s = 0.1

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome

    async def send(self, src_id: str, dst_id: str, payload: dict[str, Any]) -> Any: ...

    async def _check(self, agent_id: str) -> bool:
        if self.outcome is asyncio.Event:
            await asyncio.Event().wait()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class OverridesHealth(InprocCommBackend):
    """Knows better than the backend it extends, and was written before there were reasons."""

    async def health_check(self, agent_id: str) -> bool:
        return True


@pytest.mark.parametrize(
    ("outcome", "cls"),
    [
        (True, type(None)),
        (False, RemoteError),
        (AuthError("401"), AuthError),
        (ConnectionRefusedError(111, "no"), ConnectError),
        (TimeoutError(), SendTimeoutError),
        (asyncio.Event, SendTimeoutError),
        (KeyError("x"), CommError),
    ],
)
async def test_a_reason_is_typed_and_a_refusal_is_an_answer(outcome: Any, cls: type) -> None:
    backend = Probing(outcome)
    assert type(await backend.probe("w")) is cls
    assert await backend.health_check("w") is (cls in (type(None), AuthError))


async def test_a_backend_after_the_guide_tells_what_it_knows() -> None:
    assert await probed(Guides(True), "w") is None
    for backend in (Guides(False), Own()):
        assert type(await probed(backend, "w")) is ConnectError


async def test_a_health_check_that_is_overridden_or_replaced_decides() -> None:
    assert await probed(OverridesHealth(), "w") is None
    backend = Probing(True)

    async def never(agent_id: str) -> bool:
        return False

    backend.health_check = never  # type: ignore[method-assign]
    assert type(await probed(backend, "w")) is ConnectError


async def test_a_composite_tells_what_the_agents_backend_does() -> None:
    composite = CompositeBackend(Guides(True))
    composite.assign("w", Probing(AuthError("401")))
    reasons: list[StreamingQueueError | None] = [await composite.probe("w"), await composite.probe("x")]
    assert [type(reason) for reason in reasons] == [AuthError, type(None)]
    assert [answers(reason) for reason in reasons] == [True, True]
