"""A sub-coordinator: a worker to its parent, a load balancer over its own pool. It has no durable state."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

from streaming_queue.comm.context import EventQueue, RequestContext, annotate, calling
from streaming_queue.core.network_base import NetworkBase
from streaming_queue.core.pool.load_balancer import LoadBalancer
from streaming_queue.messages import DELTA, ERROR, MESSAGE, STATUS, Message, Reply, StreamEvent, answer_event
from streaming_queue.telemetry.events import Event, EventListener, WorkerDown, WorkerUp

logger = logging.getLogger(__name__)

CLOSE_BOUND_S = 10.0


def log_workers(event: Event) -> None:
    """Log the workers of a pool that go down or come up."""
    if isinstance(event, WorkerDown):
        logger.warning("%s is down: %s", event.worker, event.reason)
    elif isinstance(event, WorkerUp):
        logger.info("%s is up", event.worker)


class SubCoordinatorExecutor:
    """Gives each question to the first free worker of its pool; `status` reports the pool's figures.

    If a worker is lost, its question goes to another worker at once. If no worker can be reached, the parent gets a
    ConnectError, and the host's probe (`ready`) fails; the parent then gives the question to another agent.
    """

    def __init__(
        self,
        agent_id: str,
        network: NetworkBase,
        slots: Mapping[str, int],
        *,
        emit: EventListener = log_workers,
        **limits: Any,
    ) -> None:
        """`network` is the pool's network; `agent_id` and the workers (the keys of `slots`) are registered in it.

        `slots` is the number of questions each worker takes at a time; `limits` are those of `LoadBalancer`. The
        executor owns the network: `close` closes it.
        """
        self.agent_id = agent_id
        self.network = network
        self.description = f"Gives each question to the first free one of {len(slots)} agents."
        self.balancer = LoadBalancer(slots, probe=network.health.answers, emit=emit, **limits)

    @property
    def ready(self) -> bool:
        """Whether a worker of the pool can be reached."""
        return self.balancer.ready

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Answer with a worker's text, and its figures as metadata; a worker's error keeps its class.

        Raises TopologyError over the hop limit, and like `LoadBalancer.ask`.
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

        async def ask(worker_id: str) -> StreamEvent:
            if context.streaming:
                return await self._stream(worker_id, context.payload, pass_on)
            return _message(await self.network.route_message(self.agent_id, worker_id, context.payload))

        with calling(call.passed_on()):  # a forwarded delta cannot be taken back
            answer = await self.balancer.ask(ask, call.idempotency_key, may_repeat=lambda: not begun)
        await event_queue.enqueue_event(answer)

    async def _stream(
        self, worker_id: str, payload: Mapping[str, Any], pass_on: Callable[[StreamEvent], Awaitable[None]]
    ) -> StreamEvent:
        async with aclosing(self.network.stream_message(self.agent_id, worker_id, payload)) as events:
            async for event in events:
                if event["type"] in (DELTA, STATUS):
                    await pass_on(event)
        if event["type"] == ERROR:
            raise event["error"]
        return event

    def _status(self) -> str:
        figures = self.balancer.figures()
        annotate(**figures)
        up = sum(worker["state"] == "up" for worker in figures["members"].values())
        answered = sum(worker["answered"] for worker in figures["members"].values())
        return (
            f"{self.agent_id}: {up} of {len(figures['members'])} workers up, {figures['busy']} of {figures['slots']} "
            f"slots busy, {figures['waiting']} questions waiting, {answered} answered"
        )

    async def close(self) -> None:
        """Stop the probes and close the pool's network; idempotent, bounded."""
        self.balancer.close()
        try:
            async with asyncio.timeout(CLOSE_BOUND_S):
                await self.network.close()
        except TimeoutError:
            logger.warning("%s: the pool's network does not close", self.agent_id)


def _message(reply: Reply) -> Message:
    if "error" in reply:
        raise reply["error"]
    return answer_event(reply)
