"""The coordinator, whatever protocol carries it: streams questions to its workers and records the answers."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from streaming_queue.comm.context import CallContext, annotate, calling
from streaming_queue.config import Config, Core
from streaming_queue.core.membership import Membership
from streaming_queue.core.network_base import NetworkBase, answer_text
from streaming_queue.core.run import Run, Steering, open_directory
from streaming_queue.core.scheduling.scheduler import Ask
from streaming_queue.errors import (
    AgentFailedError,
    ConfigError,
    ConnectError,
    ProtocolError,
    RemoteError,
    StreamingQueueError,
    error_event,
)
from streaming_queue.queue.base import Lease
from streaming_queue.telemetry.events import Listener, fan_out

CLOSE_BOUND_S = 30.0
_STATUS = re.compile(
    r"[^\n]*?: (?:(?P<state>idle|running|failed)"
    r"|round (?P<round_id>\S+) (?P<round_state>[a-z]+), "
    r"(?P<done>\d+) answered, (?P<failed>\d+) failed of (?P<total>\d+))"
    r", \d+ workers(?: \((?P<directory>[^\n]+)\))?"
)


class QACoordinatorBase:
    """Schedules questions over the network's workers (the guide's `QACoordinatorBase`).

    `config` may be a plain mapping. `output` is told of every event where it can be called (`telemetry.console.Output`
    can); `listeners` are told too. A subclass may override `send_to_worker`.
    """

    def __init__(self, config: Config | Mapping[str, Any] | None = None, output: Any = None) -> None:
        self.config = Config.of(config)
        self.output = output
        self.coordinator_id = self.config.qa.coordinator.coordinator_id
        self.agent_network: NetworkBase | None = None
        self.worker_ids: list[str] = []
        self.protocol_name: str | None = None
        self.listeners: list[Listener] = [output] if callable(output) else []
        self.on_row: Callable[[dict[str, Any]], None] | None = None
        """Receives each row of results once the row is recorded, in a thread of its own."""
        self.steering: Steering | None = None
        """Opens the control of each run (`control.scheduler_control.steer`); None: a run takes no commands."""
        self._round: Run | None = None
        self._running: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self._draining = False

    def set_network(
        self, network: NetworkBase, worker_ids: Sequence[str] | None = None, protocol_name: str | None = None
    ) -> None:
        """Say which network to use and whom to ask; without `worker_ids` every neighbour is a worker."""
        self.agent_network = network
        self.worker_ids = list(worker_ids or ())
        self._membership = Membership(network, self.coordinator_id, self.worker_ids, protocol_name)
        self.protocol_name = protocol_name
        if self not in network.services:
            network.services.append(self)

    async def send_to_worker(self, worker_id: str, question: str) -> dict[str, Any]:
        """Ask one worker: `{"answer": text, "raw": the network's reply}`. Override to speak in another shape."""
        reply = await self._network().route_message(self.coordinator_id, worker_id, {"text": question})
        return {"answer": reply["text"], "raw": reply}

    async def join(self, address: str) -> str:
        """Have the worker at `address` take part, in the round under way as in later ones; says as whom.

        Raises:
            ConfigError: the address does not name a socket, or cannot be used.
            ConnectError: no healthy worker answers there.
        """
        return f"as {await self._joined_by().add(address)}"

    async def leave(self, address: str) -> str:
        """Ask the worker at `address` nothing more; it takes part no longer once its questions have ended."""
        return f"{await self._joined_by().leave(address) or 'nobody'} leaves"

    def _joined_by(self) -> Membership:
        self._network()
        return self._membership

    async def dispatch_round(self) -> str:
        """Work through the whole source and say how it went; a call during a round attaches to that round.

        The round goes on when the caller leaves; `close` ends it.

        Raises:
            ConfigError: no network, no workers, an unreadable source, or a directory that is taken.
            AuthError, QuotaError: no worker can go on; the round is stopped and can be resumed.
            QueueError: the queue failed.
        """
        self.begin_round()
        return await self.attach_round()

    def begin_round(self) -> None:
        """Begin a round, unless one is under way; how it goes, the figures say."""
        if not self.under_way:
            self._round = self._failure = None
            self._running = asyncio.create_task(self._dispatch(), name="round")
            self._running.add_done_callback(_heed)

    @property
    def under_way(self) -> bool:
        """Whether a round is under way."""
        return self._running is not None and not self._running.done()

    async def attach_round(self) -> str:
        """Wait for the end of the round under way, or take the last one's, and say how it went; begins none.

        Raises like `dispatch_round`; ConfigError where no round was begun.
        """
        if self._running is None:
            raise ConfigError(f"{self.coordinator_id} has no round to attach to: dispatch begins one")
        await asyncio.shield(self._running)
        round_ = self._round
        if round_ is None:
            raise AgentFailedError("the round ended before it began")
        annotate(**self.figures(), summary=round_.summary)
        verb = "completed" if round_.state == "done" else "stopped"
        figures = f"{round_.done} of {round_.total} questions answered, {round_.failed} failed"
        return f"Dispatch {verb}: {figures} ({round_.directory.path})"

    async def ended(self, timeout_s: float) -> None:
        """Wait for the end of the round under way, `timeout_s` at the most, however it ends."""
        if self._running is not None:
            await asyncio.wait({self._running}, timeout=timeout_s)

    async def get_status(self) -> str:
        """Where the round stands: a line (`status_text`) and, as the reply's metadata, figures."""
        figures = self.figures()
        annotate(**figures)
        paused = self._round is not None and self._round.paused
        return status_text(self.coordinator_id, figures, len(self.worker_ids), paused=paused)

    def drain(self) -> None:
        """Hand out no more questions, in later rounds neither; a round ends when what is in flight has ended."""
        self._draining = True
        if self._round:
            self._round.drain()

    async def close(self) -> None:
        """End the round under way, if any: what is in flight goes back to the queue. Idempotent; bounded."""
        running = self._running
        if running and not running.done():
            running.cancel()
            await asyncio.wait({running}, timeout=CLOSE_BOUND_S)

    async def _dispatch(self) -> None:
        try:
            await self._start_round()
        except Exception as error:
            self._failure = error
            raise

    async def _start_round(self) -> None:
        network = self._network()
        if not self.worker_ids:
            neighbours = network.get_topology().get(self.coordinator_id) or network.get_agents()
            self.worker_ids.extend(agent_id for agent_id in neighbours if agent_id != self.coordinator_id)
        if not self.worker_ids:
            raise ConfigError(f"{self.coordinator_id} has no workers: register some, or name them in set_network()")
        directory = await asyncio.to_thread(open_directory, self.config)
        round_ = Run(
            self.config,
            directory,
            membership=self._membership,
            ask=self._asker,
            emit=fan_out(self.listeners),
            on_row=self.on_row,
            steering=self.steering,
        )
        self._round = round_
        if self._draining:
            round_.drain()
        await round_.run()

    def _asker(self, run_id: str) -> Ask:
        """How a leased question is asked: with its context around it, and whatever comes back made plain."""
        parameters = {worker_id: _parameters(setup.core) for worker_id, setup in self.config.roster.items()}
        otherwise = _parameters(self.config.core)

        async def ask(worker_id: str, lease: Lease, deadline: float | None) -> tuple[str, Mapping[str, Any]]:
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
                    # Nobody cancelled us: let through, it would end the slot in silence and hold its question for ever.
                    raise ConnectError(f"worker {worker_id!r}: the exchange was cancelled underneath") from error
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
            return answer, metadata if isinstance(metadata, Mapping) else {}

        return ask

    def _network(self) -> NetworkBase:
        if self.agent_network is None:
            raise ConfigError(f"{self.coordinator_id} is in no network: call set_network() first")
        return self.agent_network

    def figures(self) -> dict[str, Any]:
        """Where the round stands: `state` (idle, running, done, stopped, failed), done, failed, total, `round_id`.

        With a round also its `directory`, after a failure also `error`, as `errors.error_event` draws it.
        """
        round_ = self._round
        if round_ is None:
            state = "failed" if self._failure else "running" if self.under_way else "idle"
            figures: dict[str, Any] = {"state": state, "done": 0, "failed": 0, "total": 0, "round_id": None}
        else:
            figures = {
                "state": round_.state,
                "done": round_.done,
                "failed": round_.failed,
                "total": round_.total,
                "round_id": round_.round_id,
                "directory": str(round_.directory.path),
            }
        if self._failure:
            figures["error"] = error_event(self._failure)
        return figures


def status_text(coordinator_id: str, figures: Mapping[str, Any], workers: int, *, paused: bool = False) -> str:
    """The status as one line; `figures` are those of `QACoordinatorBase.figures`.

    A backend of the guide carries text and nothing else: over such a backend the figures travel in this line.
    """
    if figures["round_id"] is None:
        return f"{coordinator_id}: {figures['state']}, {workers} workers"
    state = "paused" if paused else figures["state"]
    counts = f"{figures['done']} answered, {figures['failed']} failed of {figures['total']}"
    return (
        f"{coordinator_id}: round {figures['round_id']} {state}, {counts}, {workers} workers ({figures['directory']})"
    )


def figures_of(text: str) -> dict[str, Any] | None:
    """The figures in a status line; None for any other text."""
    match = _STATUS.fullmatch(text.strip())
    if match is None:
        return None
    state = match["state"] or match["round_state"]
    figures: dict[str, Any] = {
        "state": "running" if state == "paused" else state,
        "round_id": match["round_id"],
        **{name: int(match[name] or 0) for name in ("done", "failed", "total")},
    }
    if match["directory"]:
        figures["directory"] = match["directory"]
    return figures


def _parameters(core: Core) -> str:
    return f"{core.name}|{core.temperature}|{core.max_tokens}"


def _heed(running: asyncio.Task[None]) -> None:
    """A failure that nobody waits for stands in the figures."""
    if not running.cancelled():
        running.exception()
