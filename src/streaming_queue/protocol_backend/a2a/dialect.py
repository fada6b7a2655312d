"""The names in A2A 1.0 and 0.3, as data. No I/O, no SDK."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

CARD_PATH = "/.well-known/agent-card.json"
VERSION_HEADER = "A2A-Version"
EXTENSIONS_HEADER = "A2A-Extensions"
RPC_MEMBERS = frozenset({"jsonrpc", "id", "method", "params"})
"""The members of a request in JSON-RPC (JSON-RPC 2.0, 4)."""
A2A_JSON = "application/a2a+json"
GRPC_SETTINGS = "A2A over gRPC (a2a.grpc, a2a.binding)"

CALL_EXTENSION = "urn:agentnetwork:streaming-queue:call:1"
"""Our extension of the protocol (specification 1.0, section 4.6). A host that declares it reads the call's context from
the message's metadata, describes failures as `agent_error`, and accepts the id of a message in flight in GetTask and
CancelTask. A repeated message with the same idempotency key gets the answer of the same work."""

AGENT_ERROR = "agent_error"
"""The key of the failure (an `errors.error_event`) in the metadata of a failed task's status message."""

ANSWERED = frozenset({"completed"})
RUNNING = frozenset({"submitted", "working"})
"""The states of a running task, as from `state_name`."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One version's method names (JSON-RPC), role, form of a text part, and setting for a task without waiting."""

    version: str
    send: str
    stream: str
    get_task: str
    cancel_task: str
    subscribe: str
    user: str
    part: Mapping[str, str]
    message: Mapping[str, str]
    at_once: Mapping[str, bool]


V1 = Dialect(
    version="1.0",
    send="SendMessage",
    stream="SendStreamingMessage",
    get_task="GetTask",
    cancel_task="CancelTask",
    subscribe="SubscribeToTask",
    user="ROLE_USER",
    part={},
    message={},
    at_once={"returnImmediately": True},
)
V03 = Dialect(
    version="0.3",
    send="message/send",
    stream="message/stream",
    get_task="tasks/get",
    cancel_task="tasks/cancel",
    subscribe="tasks/resubscribe",
    user="user",
    part={"kind": "text"},
    message={"kind": "message"},
    at_once={"blocking": False},
)

KINDS = ("message", "task", "statusUpdate", "artifactUpdate")
"""The kinds of results and streamed events, by their key in 1.0."""

KIND_03: Mapping[str, str] = {
    "message": "message",
    "task": "task",
    "status-update": "statusUpdate",
    "artifact-update": "artifactUpdate",
}
"""The same kinds, by `kind` in 0.3."""


_KNOWN = re.compile(rb"(1\.0|0\.3)(\.\d+)?")


def known_version(named: bytes | None) -> str | None:
    """The version that a request names; None if we do not support it. No name means 0.3."""
    if not named:
        return V03.version
    known = _KNOWN.fullmatch(named)
    return known[1].decode() if known else None


def state_name(state: object) -> str:
    """A task's state in one form: `TASK_STATE_INPUT_REQUIRED` (1.0) becomes `input-required` (0.3)."""
    return str(state).removeprefix("TASK_STATE_").lower().replace("_", "-")
