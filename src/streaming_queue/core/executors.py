"""The executors of hosted agents: they answer messages over any protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from streaming_queue.comm.context import EventQueue, RequestContext
from streaming_queue.comm.skills import Skill
from streaming_queue.core.qa_coordinator_base import QACoordinatorBase
from streaming_queue.core.qa_worker_base import QAWorkerBase
from streaming_queue.errors import AuthError, BadResponseError, ConfigError
from streaming_queue.messages import DELTA, MESSAGE, STATUS

if TYPE_CHECKING:
    from streaming_queue.config import Config


PROGRESS_S = 1.0


class WorkerExecutor:
    """A worker behind a protocol: every text is a question, except the command `status`."""

    description = "Answers questions with a language model, in plain text."
    skills = (
        Skill(
            id="answer",
            name="Answer a question",
            description="Takes a question as text and answers it; messages are independent of each other.",
            tags=("question-answering", "llm"),
            examples=("What is the capital of France?",),
        ),
    )

    def __init__(
        self,
        config: Config | Mapping[str, Any] | None = None,
        output: Any = None,
        *,
        worker: QAWorkerBase | None = None,
    ) -> None:
        """`worker` answers; default: a `QAWorkerBase(config, output)`."""
        self.worker = QAWorkerBase(config, output) if worker is None else worker

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Answer: deltas if the caller reads a stream, then the whole text. Raises like the worker.

        If the worker's class overrides `answer` after `stream_answer`, call `answer`.
        """
        text = context.get_user_input()
        if context.call_context.kind == "command" and text.strip().lower() == "status":
            await event_queue.enqueue_event({"type": MESSAGE, "data": self.worker.status()})
            return
        if context.streaming and _streams(type(self.worker)):
            answer = await self._stream(self.worker.stream_answer(text), event_queue)
        else:
            answer = await self.worker.answer(text)
        if not (answer and answer.strip()):
            raise BadResponseError("the worker's answer is empty")
        await event_queue.enqueue_event({"type": MESSAGE, "data": answer})

    async def _stream(self, deltas: AsyncGenerator[str, None], event_queue: EventQueue) -> str:
        pieces = []
        async with aclosing(deltas):
            async for delta in deltas:
                pieces.append(delta)
                await event_queue.enqueue_event({"type": DELTA, "data": delta})
        return "".join(pieces)

    async def close(self) -> None:
        """Close the worker."""
        await self.worker.close()


def _streams(worker: type[QAWorkerBase]) -> bool:
    """Whether `stream_answer` gives the same text as `answer`: no class overrides `answer` after it."""
    for cls in worker.__mro__:
        if "stream_answer" in cls.__dict__:
            return True
        if "answer" in cls.__dict__:
            return False
    return False


class CoordinatorExecutor:
    """A coordinator behind a protocol: `dispatch` begins a run, `status` or no text asks for the status (guide 3.2).

    Tagged as a command, a message may do more. `attach` waits for the end of the run and begins none. With
    `"detach": true` in its metadata, `dispatch` answers as soon as the run has begun. `join` adds and `leave` removes
    the worker at the metadata's `worker_address`. A caller that reads a stream gets the progress every second, as text
    and figures. The coordinator refuses any other text: it answers no questions.

    Each caller may ask for the status. An operator (`RequestContext.operator`) may send all commands; a caller that may
    only ask may send none. If no right is configured, each caller may `dispatch` and `attach`; `join` and `leave` are
    refused.
    """

    description = "Streams a set of questions through a pool of workers and records each answer once."
    skills = (
        Skill(
            id="dispatch",
            name="Dispatch a round",
            description=(
                "Asks the workers all open questions. The reply arrives when the round has ended and has the outcome. "
                "If the coordinator has credentials, the command needs the operator's."
            ),
            tags=("command", "queue"),
            examples=("dispatch",),
        ),
        Skill(
            id="status",
            name="Report the status",
            description=(
                "Reports the number of answered, failed and open questions. The coordinator refuses other texts: send "
                "questions to a worker."
            ),
            tags=("command", "monitoring"),
            examples=("status",),
        ),
        Skill(
            id="attach",
            name="Attach to a round",
            description=(
                "Waits for the running round, as dispatch does, and begins none. The message must be tagged as a "
                "command (`kind`), and needs the same credential as dispatch."
            ),
            tags=("command", "monitoring"),
            examples=("attach",),
        ),
    )

    def __init__(
        self,
        config: Config | Mapping[str, Any] | None = None,
        output: Any = None,
        *,
        coordinator: QACoordinatorBase | None = None,
    ) -> None:
        """`coordinator` works; default: a `QACoordinatorBase(config, output)`."""
        self.coordinator = QACoordinatorBase(config, output) if coordinator is None else coordinator

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Carry out the command.

        Raises:
            AuthError: the caller may not send this command.
            ConfigError: the text is not a command.
            StreamingQueueError: the coordinator's own error.
        """
        command = (context.get_user_input() or "").strip().lower() or "status"
        tagged = context.call_context.kind == "command"
        if command == "dispatch" or (tagged and command in ("attach", "join", "leave")):
            self._check_right(command, context)
        if command == "dispatch" and tagged and context.metadata.get("detach") is True:
            self.coordinator.begin_round()
            result = await self.coordinator.get_status()
        elif command == "dispatch":
            result = await self._watched(self.coordinator.dispatch_round(), context, event_queue)
        elif command == "attach" and tagged:
            result = await self._watched(self.coordinator.attach_round(), context, event_queue)
        elif command in ("join", "leave") and tagged:
            address = str(context.metadata.get("worker_address") or "")
            result = await (self.coordinator.join if command == "join" else self.coordinator.leave)(address)
        elif command == "status":
            result = await self.coordinator.get_status()
        else:
            raise ConfigError(
                f"{self.coordinator.coordinator_id} is a coordinator and answers no questions, only dispatch and "
                "status: ask a worker (stq ask WORKER QUESTION), or run a set of questions (stq run -q FILE)"
            )
        await event_queue.enqueue_event({"type": MESSAGE, "data": result})

    def _check_right(self, command: str, context: RequestContext) -> None:
        """Raise AuthError if the caller may not send this command.

        An agent that forwards a message has no right of its own: another agent wrote the message.
        """
        passed_on = context.call_context.hops > 0
        if context.operator and not passed_on:
            return
        if context.operator is None and command in ("dispatch", "attach"):
            return
        config, who = self.coordinator.config, self.coordinator.coordinator_id
        if context.operator:
            remedy = f"an agent forwarded the command; send it to {who} directly"
        elif config.control_protocol == "anp":
            remedy = f"list the caller's DID in anp.operators of {who}"
        elif config.network.operator_token is not None:
            remedy = f"give the caller the network.operator_token of {who} (STQ_NETWORK__OPERATOR_TOKEN)"
        else:
            remedy = "set network.operator_token (STQ_NETWORK__OPERATOR_TOKEN) on both sides"
        steered = {"join": "add RUN ADDRESS", "leave": "drain RUN ID"}.get(command)
        raise AuthError(
            f"{who}: this caller may not {command}: {remedy}"
            + (f", or use `stq workers {steered}` on the machine of {who}" if steered else "")
        )

    async def _watched(self, work: Coroutine[Any, Any, str], context: RequestContext, event_queue: EventQueue) -> str:
        """The outcome of `work`; meanwhile, a caller that reads a stream gets the progress."""
        if not context.streaming:
            return await work
        working = asyncio.create_task(work, name=f"watched:{context.agent_id}")
        try:
            while not (await asyncio.wait({working}, timeout=PROGRESS_S))[0]:
                figures = self.coordinator.figures()
                progress = f"{figures['done']} answered, {figures['failed']} failed of {figures['total']}"
                await event_queue.enqueue_event({"type": STATUS, "data": progress, "metadata": figures})
        finally:
            working.cancel()
            await asyncio.wait({working})
        return working.result()
