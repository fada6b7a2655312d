"""The metadata of a message: the call's context (sent), the request (in a host), the annotations (returned)."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import replace
from types import TracebackType
from typing import Any, Generic, Literal, Protocol, TypeVar

from streaming_queue.errors import AgentFailedError, ConfigError, ConnectError
from streaming_queue.messages import Reply, payload_text
from streaming_queue.record import record

NETWORK_PRINCIPAL = "network"
"""The principal of a caller with `network.token`: it may ask."""
OPERATOR_PRINCIPAL = "network.operator"
"""The principal of a caller with `network.operator_token`: it may command, too."""

T = TypeVar("T")
Kind = Literal["question", "command"]


@record
class CallContext:
    """The coordinator's metadata for a call. Each backend carries it in its protocol's own fields.

    `deadline` is a time of this process's monotonic clock (seconds); a wire carries the remaining milliseconds.
    `idempotency_key` is the same for every attempt of a question. `traceparent` is W3C Trace Context's header.
    """

    run_id: str | None = None
    question_id: str | None = None
    attempt: int | None = None
    deadline: float | None = None
    idempotency_key: str | None = None
    traceparent: str | None = None
    hops: int = 0
    kind: Kind | None = None

    def passed_on(self, mark: str = "") -> CallContext:
        """The context for a message that the agent sends while it serves this one: one more hop, and its own key.

        With the same key, an agent that is asked in a circle would wait for its own answer. Each attempt of the
        question gives the same new key, so that the neighbour finds work that is done or in flight. `mark`
        distinguishes the messages that one agent sends for one question.
        """
        hops = self.hops + 1
        key = None if self.idempotency_key is None else f"{self.idempotency_key}/{hops}{mark}"
        return replace(self, hops=hops, idempotency_key=key)

    def to_metadata(self) -> dict[str, Any]:
        """The fields that are set, as metadata for JSON; `deadline_ms` replaces `deadline`."""
        metadata: dict[str, Any] = {}
        if self.run_id is not None:
            metadata["run_id"] = self.run_id
        if self.question_id is not None:
            metadata["question_id"] = self.question_id
        if self.attempt is not None:
            metadata["attempt"] = self.attempt
        if self.deadline is not None:
            metadata["deadline_ms"] = max(0, int((self.deadline - time.monotonic()) * 1000))
        if self.idempotency_key is not None:
            metadata["idempotency_key"] = self.idempotency_key
        if self.traceparent is not None:
            metadata["traceparent"] = self.traceparent
        if self.hops:
            metadata["hops"] = self.hops
        if self.kind is not None:
            metadata["kind"] = self.kind
        return metadata

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> CallContext:
        """The context from metadata of `to_metadata`. It ignores fields of a wrong type: a peer may send anything."""
        kind = metadata.get("kind")
        deadline_ms = _integer(metadata.get("deadline_ms"))
        return cls(
            run_id=_text(metadata.get("run_id")),
            question_id=_text(metadata.get("question_id")),
            attempt=_integer(metadata.get("attempt")),
            deadline=None if deadline_ms is None else time.monotonic() + deadline_ms / 1000,
            idempotency_key=_text(metadata.get("idempotency_key")),
            traceparent=_text(metadata.get("traceparent")),
            hops=_integer(metadata.get("hops")) or 0,
            kind=kind if kind in ("question", "command") else None,
        )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _integer(value: object) -> int | None:
    if isinstance(value, str) and len(value) < 20 and value.isascii() and value.isdigit():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


HEADER_BY_KEY: Mapping[str, str] = {
    "run_id": "stq-run-id",
    "question_id": "stq-question-id",
    "attempt": "stq-attempt",
    "deadline_ms": "stq-deadline-ms",
    "idempotency_key": "idempotency-key",
    "traceparent": "traceparent",
    "hops": "stq-hops",
    "kind": "stq-kind",
}
"""Metadata key -> header name (lower case), for every protocol that has headers. Values are percent-encoded."""


_call: ContextVar[CallContext | None] = ContextVar("streaming_queue_call", default=None)
_annotations: ContextVar[dict[str, Any] | None] = ContextVar("streaming_queue_annotations", default=None)
_listener: ContextVar[Callable[[], None] | None] = ContextVar("streaming_queue_listener", default=None)


def current_call() -> CallContext | None:
    """The context of the current call, on both sides; None outside of a call."""
    return _call.get()


class _Within(Generic[T]):
    """Sets a variable within the block. It is a class, since a generator costs three times as much CPU per question."""

    __slots__ = ("_token", "_value", "_variable")

    def __init__(self, variable: ContextVar[T], value: T) -> None:
        self._variable = variable
        self._value = value

    def __enter__(self) -> None:
        self._token = self._variable.set(self._value)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._variable.reset(self._token)


def calling(context: CallContext) -> AbstractContextManager[None]:
    """Make `context` the context of the current call within the block."""
    return _Within(_call, context)


def annotate(**metadata: Any) -> None:
    """Add metadata to the agent's reply (`llm_ms`, `usage`, `model`, `mock` ...); outside of a host, do nothing.

    So `answer(question) -> str` keeps the guide's signature and can still report its cost.
    """
    target = _annotations.get()
    if target is not None:
        target.update(metadata)


def annotating(target: dict[str, Any]) -> AbstractContextManager[None]:
    """Collect annotations in `target` within the block."""
    return _Within(_annotations, target)


def listening(listener: Callable[[], None]) -> AbstractContextManager[None]:
    """Call `listener` at each sign of life of the peer within the block."""
    return _Within(_listener, listener)


def heard() -> None:
    """Report a sign of life: the peer works on the message in flight (a heartbeat, a delta, a running task).

    Backends call this function, and the caller's idle timeout starts again. A task that reads for several messages
    keeps the `listener()` of each message from its begin.
    """
    if (listener := _listener.get()) is not None:
        listener()


def progressed() -> None:
    """Report content: the next piece of the answer, to a listener with a method `progressed`. A heartbeat is none."""
    if (report := getattr(_listener.get(), "progressed", None)) is not None:
        report()


def listener() -> Callable[[], None]:
    """The listener for signs of life of the message in flight, for a task other than the caller's."""
    return _listener.get() or _ignore


def _ignore() -> None:
    """The listener of a message without an idle timeout."""


class EventQueue(Protocol):
    """An executor puts its events here."""

    async def enqueue_event(self, event: Any) -> None:
        """Take one `StreamEvent`."""


class Executor(Protocol):
    """The code of an agent that answers a message (the guide's 2.2).

    It may have a `ready`; while `ready` is False, its host reports the agent as unhealthy.
    """

    async def execute(self, context: Any, event_queue: Any) -> None:
        """Answer the request in `context` by events; an exception fails the request."""


_OPERATORS: Mapping[str | None, bool] = {NETWORK_PRINCIPAL: False, OPERATOR_PRINCIPAL: True}

CallAgent = Callable[[str, Mapping[str, Any]], Awaitable[Reply]]


class RequestContext:
    """One request to an executor.

    `metadata` is the message's metadata, `call_context` its known fields. `deadline` is a time of the monotonic clock
    or None. `principal` is the caller, if the host knows it. `streaming` says whether the caller reads the deltas.
    `context_id` is the conversation of the message, if the protocol has conversations. `operator` says whether the
    caller may command: True, False (it may ask only), or None where no right is configured.
    """

    __slots__ = (
        "_call_agent",
        "_calls",
        "agent_id",
        "call_context",
        "context_id",
        "operator",
        "payload",
        "principal",
        "streaming",
    )

    def __init__(
        self,
        payload: Mapping[str, Any],
        *,
        agent_id: str = "",
        principal: str | None = None,
        streaming: bool = False,
        context_id: str | None = None,
        call: CallAgent | None = None,
    ) -> None:
        self.payload = payload
        self.context_id = context_id
        self.agent_id = agent_id
        self.principal = principal
        self.operator: bool | None = _OPERATORS.get(principal)
        self.streaming = streaming
        self.call_context = CallContext.from_metadata(self.metadata)
        self._call_agent = call
        self._calls = 0

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The message's metadata."""
        return self.payload.get("metadata") or {}

    @property
    def deadline(self) -> float | None:
        """The end of the caller's wait: a time of the monotonic clock, or None."""
        return self.call_context.deadline

    def get_user_input(self) -> str:
        """The text of the message."""
        return payload_text(self.payload)

    async def call(self, agent_id: str, payload: Mapping[str, Any]) -> Reply:
        """Ask a neighbour; returns its answer.

        Raises:
            UnreachableError, UnknownAgentError: no edge leads there, or there is no such agent.
            TopologyError: the message has too many hops; the wire carries the hops, agents do not set them.
            AgentFailedError: the neighbour cannot be reached; a ConnectError would mean that this agent cannot.
            StreamingQueueError: the neighbour failed; the class is the one that the neighbour raised.
            ConfigError: this host is not part of a network.
        """
        if self._call_agent is None:
            raise ConfigError(f"agent {self.agent_id!r} is hosted outside of a network and has no neighbours to call")
        call = self.call_context
        self._calls += 1
        digest = hashlib.sha256(payload_text(payload).encode("utf-8", "replace")).hexdigest()[:16]
        with calling(call.passed_on(f".{call.attempt or 1}.{self._calls}-{digest}")):
            reply = await self._call_agent(agent_id, payload)
        error = reply.get("error")
        if isinstance(error, ConnectError):
            raise AgentFailedError(f"neighbour {agent_id!r} cannot be reached: {error}") from error
        if error is not None:
            raise error
        return reply
