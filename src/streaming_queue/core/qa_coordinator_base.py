"""The coordinator, over any protocol: it streams questions to its workers and records the answers."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from streaming_queue.comm.context import CallContext, annotate, calling
from streaming_queue.config import Config, Core
from streaming_queue.core.membership import Membership
from streaming_queue.core.network_base import NetworkBase, answer_text
from streaming_queue.core.run import Run, Steering
from streaming_queue.core.run_start import open_directory
from streaming_queue.core.scheduling.scheduler import Ask
from streaming_queue.core.status_text import status_text
from streaming_queue.errors import (
    AgentFailedError,
    ConfigError,
    ConnectError,
    ProtocolError,
    RemoteError,
    StreamingQueueError,
    error_event,
)
from streaming_queue.messages import ReplyMetadata
from streaming_queue.queue.base import Lease
from streaming_queue.telemetry.events import EventListener, fan_out

CLOSE_BOUND_S = 30.0


class QACoordinatorBase:
    """Schedules questions over the network's workers (the guide's `QACoordinatorBase`).

    `config` may be a plain mapping. `listeners` receive every event, and so does a callable `output`, such as
    `telemetry.console.Output`. A subclass may override `send_to_worker`.
    """

    def __init__(self, config: Config | Mapping[str, Any] | None = None, output: Any = None) -> None:
        self.config = Config.of(config)
        self.output = output
        self.coordinator_id = self.config.qa.coordinator.coordinator_id
        self.agent_network: NetworkBase | None = None
        self.worker_ids: list[str] = []
        self.protocol_name: str | None = None
        self.listeners: list[EventListener] = [output] if callable(output) else []
        self.on_row: Callable[[dict[str, Any]], None] | None = None
        """Receives each recorded row of results, in its own thread."""
        self.rows_after: str | None = None
        """The cursor after which `on_row` begins; None: at the rows that results.jsonl lacks."""
        self.steering: Steering | None = None
        """Opens the control of each run (`control.scheduler_control.steer`); None: a run takes no commands."""
        self._run: Run | None = None
        self._running: asyncio.Task[None] | None = None
        self._draining = False

    def set_network(
        self, network: NetworkBase, worker_ids: Sequence[str] | None = None, protocol_name: str | None = None
    ) -> None:
        """Set the network and the workers to use; without `worker_ids` every neighbour is a worker."""
        self.agent_network = network
        self.worker_ids = list(worker_ids or ())
        self.membership = Membership(network, self.coordinator_id, self.worker_ids, protocol_name)
        self.protocol_name = protocol_name
        if self not in network.services:
            network.services.append(self)

    async def send_to_worker(self, worker_id: str, question: str) -> dict[str, Any]:
        """Ask one worker: `{"answer": text, "raw": the network's reply}`. Override it for another message format."""
        reply = await self._network().route_message(self.coordinator_id, worker_id, {"text": question})
        return {"answer": reply["text"], "raw": reply}

    async def join(self, address: str) -> str:
        """Add the worker at `address` to this run and to later runs; returns its id in a sentence.

        Raises:
            ConfigError: the address does not name a socket, or cannot be used.
            ConnectError: no healthy worker answers there.
        """
        self._network()
        return f"as {await self.membership.add(address)}"

    async def leave(self, address: str) -> str:
        """Send the worker at `address` no more questions, and remove it when its questions have ended."""
        self._network()
        return f"{await self.membership.leave(address) or 'no worker'} leaves"

    async def dispatch_round(self) -> str:
        """Ask all questions of the source and report the outcome; a call during a run attaches to that run.

        The run goes on when the caller leaves; `close` ends it.

        Raises:
            ConfigError: no network, no workers, an unreadable source, or a directory in use.
            AuthError, QuotaError: no worker can go on; the run is stopped and can be resumed.
            QueueError: the queue failed.
        """
        self.begin_round()
        return await self.attach_round()

    def begin_round(self) -> None:
        """Begin a run, unless one is running; `figures` report its outcome."""
        if not self.is_running:
            self._run = None
            self._running = asyncio.create_task(self._dispatch(), name="run")
            self._running.add_done_callback(_failure)

    @property
    def is_running(self) -> bool:
        """Whether a run is running."""
        return self._running is not None and not self._running.done()

    async def attach_round(self) -> str:
        """Wait for the end of the current run, or take the last run, and report the outcome; begins no run.

        Raises like `dispatch_round`; ConfigError if no run was begun.
        """
        if self._running is None:
            raise ConfigError(f"{self.coordinator_id} has no round to attach to: dispatch begins one")
        await asyncio.shield(self._running)
        run = self._run
        if run is None:
            raise AgentFailedError("the round ended before it began")
        annotate(**self.figures(), summary=run.summary)
        verb = "completed" if run.state == "done" else "stopped"
        figures = f"{run.done} of {run.total} questions answered, {run.failed} failed"
        return f"Dispatch {verb}: {figures} ({run.directory.path})"

    async def ended(self, timeout_s: float) -> None:
        """Wait for the end of the run, `timeout_s` at most; raises nothing if the run failed."""
        if self._running is not None:
            await asyncio.wait({self._running}, timeout=timeout_s)

    async def get_status(self) -> str:
        """The state of the run as a line (`status_text`); the reply's metadata has the figures."""
        figures = self.figures()
        annotate(**figures)
        paused = self._run is not None and self._run.paused
        return status_text(self.coordinator_id, figures, len(self.worker_ids), paused=paused)

    def drain(self) -> None:
        """Send no more questions, also in later runs; the run ends when the questions in flight have ended."""
        self._draining = True
        if self._run:
            self._run.drain()

    async def close(self) -> None:
        """End the current run, if any: the questions in flight go back to the queue. Idempotent; bounded."""
        running = self._running
        if running and not running.done():
            running.cancel()
            await asyncio.wait({running}, timeout=CLOSE_BOUND_S)

    async def _dispatch(self) -> None:
        network = self._network()
        if not self.worker_ids:
            neighbours = network.get_topology().get(self.coordinator_id) or network.get_agents()
            self.worker_ids.extend(agent_id for agent_id in neighbours if agent_id != self.coordinator_id)
        if not self.worker_ids:
            raise ConfigError(f"{self.coordinator_id} has no workers: register workers, or pass them to set_network()")
        directory = await asyncio.to_thread(open_directory, self.config)
        self._run = run = Run(
            self.config,
            directory,
            membership=self.membership,
            ask=self.asker,
            emit=fan_out(self.listeners),
            on_row=self.on_row,
            rows_after=self.rows_after,
            steering=self.steering,
        )
        if self._draining:
            run.drain()
        await run.run()

    def asker(self, run_id: str) -> Ask:
        """A function that asks a leased question of the run `run_id` in its context and checks the outcome."""
        parameters = {worker_id: _parameters(setup.core) for worker_id, setup in self.config.roster.items()}
        otherwise = _parameters(self.config.core)

        async def ask(worker_id: str, lease: Lease, deadline: float | None) -> tuple[str, ReplyMetadata]:
            asked = f"{parameters.get(worker_id, otherwise)}|{lease.question.text}"
            digest = hashlib.sha256(asked.encode()).hexdigest()[:16]
            context = CallContext(
                run_id=run_id,
                question_id=lease.id,
                attempt=lease.attempt,
                deadline=deadline,
                idempotency_key=f"{run_id}/{lease.id}/{digest}",
                kind="question",
            )
            with calling(context):
                try:
                    outcome = await self.send_to_worker(worker_id, lease.question.text)
                except StreamingQueueError:
                    raise
                except asyncio.CancelledError as error:
                    if (task := asyncio.current_task()) is None or task.cancelling():
                        raise
                    # This task was not cancelled: the error would end the slot and keep its question forever.
                    raise ConnectError(f"worker {worker_id!r}: the backend cancelled the exchange") from error
                except Exception as error:
                    raise AgentFailedError(f"send_to_worker({worker_id!r}): {type(error).__name__}: {error}") from error
            if not isinstance(outcome, Mapping):
                raise ProtocolError(f"send_to_worker({worker_id!r}) returned {type(outcome).__name__}, not a mapping")
            reply = outcome.get("raw")
            reply = reply if isinstance(reply, Mapping) else {}
            if isinstance(failure := reply.get("error"), StreamingQueueError):
                raise failure
            if failure:
                raise RemoteError(f"worker {worker_id!r} reports: {failure}")
            answer = answer_text(outcome.get("answer"), worker_id)
            metadata = reply.get("metadata")
            return answer, cast("ReplyMetadata", metadata) if isinstance(metadata, Mapping) else {}

        return ask

    def _network(self) -> NetworkBase:
        if self.agent_network is None:
            raise ConfigError(f"{self.coordinator_id} has no network: call set_network() first")
        return self.agent_network

    def figures(self) -> ReplyMetadata:
        """The state of the run: `state` (idle, running, done, stopped, failed), done, failed, total, `round_id`.

        With a run also its `directory` and, while it can only wait, `waiting`: for what. After a failure also `error`,
        an `errors.error_event`.
        """
        failure = self._running and self._running.done() and _failure(self._running)
        run = self._run
        if run is None:
            state = "failed" if failure else "running" if self.is_running else "idle"
            figures: ReplyMetadata = {"state": state, "done": 0, "failed": 0, "total": 0, "round_id": None}
        else:
            figures = {
                "state": run.state,
                "done": run.done,
                "failed": run.failed,
                "total": run.total,
                "round_id": run.round_id,
                "directory": str(run.directory.path),
            }
            if run.waiting:
                figures["waiting"] = run.waiting
        if failure:
            figures["error"] = error_event(failure)
        return figures


def _parameters(core: Core) -> str:
    return f"{core.name}|{core.temperature}|{core.max_tokens}"


def _failure(running: asyncio.Task[None]) -> BaseException | None:
    """The error that ended a run. If no caller waits, `figures()` reports the failure."""
    return None if running.cancelled() else running.exception()
