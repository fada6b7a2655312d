"""The contract of `BaseCommBackend`, line by line: the one table that the checks, their reports and the page hold to.

`docs/conformance.md` shows it to people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

KIT_VERSION = "2.0"
"""Which contract a backend was held to.

The first number grows when a backend that kept the contract may break it now: a line was added or says more. The second
grows when the same lines are only watched more closely. A line's id is never given to another one.
"""

Need = Literal["host", "echo", "agent", "streaming", "cancel", "metadata", "identity", "e2e_encryption"]
"""What a line needs beside a backend.

`host`: it hosts agents in this process, so that a check says what an agent does. `echo`: one of those, or an endpoint
that answers with the question's text. `agent`: any agent that answers. The others are capabilities
that must be claimed.
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One promise. `of` is the member of `BaseCommBackend` (`handle.x`: of `AgentHandle`) that gives it."""

    id: str
    of: str
    text: str
    needs: tuple[Need, ...] = ()

    @property
    def section(self) -> str:
        """The part of the contract that it belongs to."""
        return self.id.rpartition("-")[0]


SECTIONS: Mapping[str, str] = {
    "send": "What is sent arrives",
    "address": "Who is where",
    "error": "What an agent raises",
    "fault": "What a network does",
    "stream": "Answers in pieces",
    "cancel": "Whoever leaves",
    "metadata": "What rides along",
    "repeat": "The same question again",
    "host": "Agents in this process",
    "credential": "Who is let in",
    "health": "The probe",
    "close": "The end",
    "claim": "What is claimed",
    "leak": "What is left behind",
}
"""Section -> title, in the order in which they are reported."""

LINES: tuple[Line, ...] = (
    Line(
        "send-1",
        "send",
        "A text arrives byte for byte, there and back: the empty one, any script, emoji, quotes, control characters, "
        "500 kB.",
        ("echo",),
    ),
    Line("send-2", "send", "The text parts of a payload arrive as one text, joined by newlines.", ("echo",)),
    Line("send-3", "send", "Of 100 messages under way at once, each gets its own answer.", ("echo",)),
    Line("send-4", "send", 'A reply is a mapping with `"raw"` and a text as `"text"`.', ("agent",)),
    Line(
        "send-5", "send", "An agent that is asked by `send` is told that nobody reads pieces (`streaming`).", ("host",)
    ),
    Line(
        "send-6",
        "send",
        "An answer over 16 MiB raises ProtocolError by `send` and `stream`.",
        ("host",),
    ),
    Line(
        "send-7",
        "send",
        "A message of 20,000 values raises ProtocolError, not retryable, and does not run; the agent is healthy within "
        "1 s.",
        ("host", "metadata"),
    ),
    Line(
        "address-1",
        "send",
        "A message to an id that nobody registered raises UnknownAgentError with the id in its text.",
    ),
    Line("address-2", "register_endpoint", "An address of a scheme that is not the protocol's raises ConfigError."),
    Line(
        "address-3",
        "register_endpoint",
        "Registering an agent twice is the same as once; a new address takes the old one's place.",
        ("host",),
    ),
    Line("address-4", "connect", "`connect` may be awaited any number of times, and sends no question.", ("agent",)),
    Line("error-1", "send", "Each class of error that an agent raises is raised by `send` as that class.", ("host",)),
    Line(
        "error-2", "stream", "Each class of error that an agent raises is raised by `stream` as that class.", ("host",)
    ),
    Line(
        "error-3",
        "send",
        "An error keeps its text, `retryable` and `retry_after_s`, by `send` and `stream`.",
        ("host",),
    ),
    Line(
        "error-4",
        "send",
        "A foreign exception of an agent raises AgentFailedError without its text, which may hold secrets.",
        ("host",),
    ),
    Line("error-5", "send", "An agent that ends without an answer raises AgentFailedError.", ("host",)),
    Line("error-6", "send", "A question that failed runs again when it is asked again under its key.", ("host",)),
    Line(
        "error-7",
        "send",
        "An `agent_error` event that lacks members, or has odd ones, raises RemoteError by `send` and `stream`.",
        ("host",),
    ),
    Line(
        "fault-1",
        "send",
        "An agent that is not there raises ConnectError, retryable, with its host and port in the text, within 2 s.",
        ("agent",),
    ),
    Line("fault-2", "send", "A connection reset before the answer raises ConnectError, retryable.", ("agent",)),
    Line(
        "fault-3",
        "send",
        "An answer cut off in the middle raises ConnectError or ProtocolError, retryable; it is never an answer.",
        ("echo",),
    ),
    Line(
        "fault-4",
        "send",
        "A peer that takes the message and stays silent, or whose answer is late, is given up with "
        "SendTimeoutError when the deadline passes: by the backend, or by the network, which cancels it.",
        ("agent",),
    ),
    Line("fault-5", "send", "A slow answer within the deadline is an answer.", ("echo",)),
    Line("fault-6", "send", "When a fault is over, the same backend reaches the agent again within 10 s.", ("agent",)),
    Line("fault-7", "send", "A peer that speaks something else raises ConnectError or ProtocolError.", ("agent",)),
    Line("stream-1", "stream", "Events arrive in the order in which they were enqueued.", ("host", "streaming")),
    Line("stream-2", "stream", "Pieces arrive before the answer is whole.", ("host", "streaming")),
    Line("stream-3", "stream", "A stream ends once, with one message that has the whole answer.", ("echo",)),
    Line("stream-4", "stream", "A text arrives by `stream` byte for byte.", ("echo",)),
    Line(
        "stream-5",
        "stream",
        "An agent that is asked by `stream` is told that somebody reads pieces (`streaming`).",
        ("host", "streaming"),
    ),
    Line("stream-6", "stream", "Each piece is a sign of life (`comm.context.heard`).", ("host", "streaming")),
    Line(
        "stream-7",
        "stream",
        "After its connection broke, a stream goes on with what is new or raises ConnectError; no piece comes twice.",
        ("host", "streaming", "metadata"),
    ),
    Line("stream-8", "stream", "An answer of 9 MiB in pieces of 1 MiB arrives whole.", ("host", "streaming")),
    Line(
        "cancel-1",
        "send",
        "Cancelling `send` ends it within 1 s and cancels the agent's work, with a key and without.",
        ("host", "cancel"),
    ),
    Line(
        "cancel-2",
        "stream",
        "Closing a stream ends it within 1 s and cancels the agent's work.",
        ("host", "streaming", "cancel"),
    ),
    Line("cancel-3", "send", "A command goes on when its sender leaves.", ("host", "cancel", "metadata")),
    Line("cancel-4", "send", "Cancelling ends within 1 s even if the agent will not be cancelled.", ("host", "cancel")),
    Line("cancel-5", "send", "100 cancelled messages leave no task behind.", ("host", "cancel")),
    Line(
        "cancel-6",
        "stream",
        "A question whose reader vanished is cancelled when that was noticed (within 15 s, by a heartbeat) and the "
        "grace is over (`disconnect_grace_s`; none without a key), unless `tasks` is claimed.",
        ("host", "streaming", "cancel"),
    ),
    Line("metadata-1", "send", "The call's context reaches the agent as it was sent.", ("host", "metadata")),
    Line("metadata-2", "send", "The deadline reaches the agent as the time that is left.", ("host", "metadata")),
    Line(
        "metadata-3",
        "send",
        "What the agent says of its work (`llm_ms`, `usage` ...) comes back with the answer.",
        ("host", "metadata"),
    ),
    Line("metadata-4", "send", "No metadata comes back as none.", ("host", "metadata")),
    Line("metadata-5", "stream", "The metadata of a status comes with it.", ("host", "streaming", "metadata")),
    Line(
        "repeat-1",
        "send",
        "A question asked twice at once under one key runs once; both get the answer.",
        ("host", "metadata"),
    ),
    Line(
        "repeat-2",
        "send",
        "A question asked again under its key gets the answer that was given, without running again.",
        ("host", "metadata"),
    ),
    Line(
        "repeat-3",
        "send",
        "A key under which another text was asked raises ProtocolError, not retryable.",
        ("host", "metadata"),
    ),
    Line(
        "repeat-4",
        "send",
        "A question with a key whose connection broke goes on for the grace; asked again, it does not run again.",
        ("host", "metadata"),
    ),
    Line(
        "host-1",
        "spawn_local_agent",
        "The agent is ready when its handle is returned; port 0 takes a free one. The handle has `agent_id` and "
        "`base_url`, which can be registered.",
        ("host",),
    ),
    Line("host-2", "spawn_local_agent", "A port that is taken raises ConnectError.", ("host",)),
    Line("host-3", "spawn_local_agent", "An agent that was stopped can be hosted again at its address.", ("host",)),
    Line(
        "host-4",
        "handle.stop",
        "Stopping raises ConnectError, retryable, for what is under way, and cancels the work; it is idempotent.",
        ("host",),
    ),
    Line("host-5", "handle.stop", "Stopping ends within the host's `stop_s`, even if the agent hangs.", ("host",)),
    Line(
        "host-6",
        "handle.drain",
        "A draining agent is not healthy, refuses a new question with ConnectError and finishes what is under way.",
        ("host",),
    ),
    Line(
        "credential-1",
        "probe",
        "A wrong credential raises AuthError by `send` and `stream`; the probe tells AuthError, or that the agent is "
        "healthy.",
        ("host",),
    ),
    Line("health-1", "health_check", "An agent that serves is healthy.", ("agent",)),
    Line("health-2", "health_check", "A stopped agent is unhealthy within 1 s.", ("host",)),
    Line("health-3", "health_check", "An id that nobody registered is unhealthy."),
    Line("health-4", "health_check", "The probe of a silent peer is False within 3 s and raises nothing.", ("agent",)),
    Line(
        "health-5",
        "describe",
        "`describe` tells what the agent says of itself, without asking it, or nothing; for an agent that is not there "
        "it raises CommError or tells nothing.",
        ("host",),
    ),
    Line(
        "close-1",
        "close",
        "Closing ends within the host's `stop_s`, even if a handler hangs; it is idempotent.",
        ("host",),
    ),
    Line(
        "close-2",
        "close",
        "What was under way raises ConnectError or BackendClosedError, what is sent later BackendClosedError; no agent "
        "is healthy.",
        ("host",),
    ),
    Line("close-3", "close", "After closing, no task of the backend is left.", ("agent",)),
    Line("claim-1", "capabilities", "Who claims `host` or `streaming` has a method of its own for it."),
    Line("claim-2", "capabilities", "`identity`: the agent is told who asks (`principal`).", ("host", "identity")),
    Line(
        "claim-3",
        "capabilities",
        "`e2e_encryption`: neither question nor answer can be read on the wire.",
        ("echo", "e2e_encryption"),
    ),
    Line("leak-1", "send", "After 1,000 messages there are as many tasks, sockets and threads as before.", ("echo",)),
)

CONTRACT: Mapping[str, Line] = {line.id: line for line in LINES}
"""Every line by its id."""
