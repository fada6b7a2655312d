"""A sub-coordinator: a worker to its parent, a scheduler to a pool of its own. It keeps nothing that must survive."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

from streaming_queue.comm.context import EventQueue, RequestContext, annotate, calling
from streaming_queue.core.network_base import NetworkBase
from streaming_queue.core.slots import Slots
from streaming_queue.errors import ProtocolError, StreamingQueueError
from streaming_queue.messages import DELTA, MESSAGE, STATUS, Reply, StreamEvent
from streaming_queue.telemetry.events import Event, Listener, WorkerDown, WorkerUp

logger = logging.getLogger(__name__)

CLOSE_BOUND_S = 10.0


def log_members(event: Event) -> None:
    """Tell in the log which member of a pool comes and goes."""
    if isinstance(event, WorkerDown):
        logger.warning("%s is down: %s", event.worker, event.reason)
    elif isinstance(event, WorkerUp):
        logger.info("%s is up", event.worker)


class SubCoordinatorExecutor:
    """Answers each question by whichever member of its pool is free first; `status` tells the pool's figures.

    A question that finds its member lost goes to another at once. Where no member can be reached the parent is told by
    a ConnectError, and by the host's probe (`ready`), and gives the question to somebody else.
    """

    def __init__(
        self,
        agent_id: str,
        network: NetworkBase,
        slots: Mapping[str, int],
        *,
        emit: Listener = log_members,
        probe_interval_s: float = 1.0,
        gone_after_s: float = 10.0,
        max_losses: int = 5,
    ) -> None:
        """`network` is the pool's, `agent_id` and the members (the keys of `slots`) are registered in it.

        `slots` is how many questions each member takes at a time. A member without a sign of life for `gone_after_s`
        has lost its questions; one that outlived `max_losses` members is failed. The network is this executor's own:
        `close` closes it.
        """
        self.agent_id = agent_id
        self.network = network
        self.description = f"Gives each question to one of {len(slots)} agents: whichever is free first."
        self._slots = Slots(
            slots,
            probe=self._probe,
            emit=emit,
            probe_interval_s=probe_interval_s,
            gone_after_s=gone_after_s,
            max_losses=max_losses,
        )

    @property
    def ready(self) -> bool:
        """Whether a member of the pool can be reached."""
        return self._slots.ready

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Answer by a member: its text, its figures as metadata, its error as the same class.

        Raises TopologyError past the hop limit, and like `Slots.ask`.
        """
        call = context.call_context
        if call.kind == "command" and context.get_user_input().strip().lower() == "status":
            await event_queue.enqueue_event({"type": MESSAGE, "data": self._status()})
            return

        begun = False

        async def pass_on(event: StreamEvent) -> None:
            nonlocal begun
            begun = begun or event["type"] == DELTA
            await event_queue.enqueue_event(event)

        async def ask(member: str) -> StreamEvent:
            if context.streaming:
                return await self._stream(member, context.payload, pass_on)
            return _message(await self.network.route_message(self.agent_id, member, context.payload))

        with calling(call.passed_on()):  # a piece that was passed on cannot be taken back
            answer = await self._slots.ask(ask, call.idempotency_key, may_repeat=lambda: not begun)
        await event_queue.enqueue_event(answer)

    async def _stream(
        self, member: str, payload: Mapping[str, Any], pass_on: Callable[[StreamEvent], Awaitable[None]]
    ) -> StreamEvent:
        events = self.network.stream_message(self.agent_id, member, payload)
        async with aclosing(events):
            async for event in events:
                if isinstance(error := event.get("error"), StreamingQueueError):
                    raise error
                if event["type"] == MESSAGE and event.get("data"):
                    return event
                if event["type"] in (DELTA, STATUS):
                    await pass_on(event)
        raise ProtocolError(f"member {member!r} sent an empty answer")

    def _status(self) -> str:
        figures = self._slots.figures()
        annotate(**figures)
        up = sum(member["state"] == "up" for member in figures["members"].values())
        answered = sum(member["answered"] for member in figures["members"].values())
        return (
            f"{self.agent_id}: {up} of {len(figures['members'])} members up, {figures['busy']} of {figures['slots']} "
            f"slots busy, {figures['waiting']} questions waiting, {answered} answered"
        )

    async def _probe(self, member: str) -> bool:
        return await self.network.health.answers(member)

    async def close(self) -> None:
        """Stop probing and close the pool's network; idempotent, bounded."""
        self._slots.close()
        try:
            async with asyncio.timeout(CLOSE_BOUND_S):
                await self.network.close()
        except TimeoutError:
            logger.warning("%s: its network does not close", self.agent_id)


def _message(reply: Reply) -> StreamEvent:
    if "error" in reply:
        raise reply["error"]
    event: StreamEvent = {"type": MESSAGE, "data": reply["text"]}
    if "metadata" in reply:
        event["metadata"] = reply["metadata"]
    return event
