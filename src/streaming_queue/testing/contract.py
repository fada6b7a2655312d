"""The contract of `BaseCommBackend`, line by line. Checks, reports and `docs/conformance.md` follow this table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, cast

KIT_VERSION = "2.1"
"""Version of the contract.

The first number grows when a line is added or promises more, so that a backend may fail now. The second number grows
when checks of the same lines become stricter. No id is used twice.
"""

Need = Literal["host", "echo", "agent", "streaming", "cancel", "metadata", "identity", "e2e_encryption"]
"""Needs of a line.

`host`: the backend hosts agents in this process, so that a check decides what an agent does. `echo`: such an agent, or
an endpoint that answers with the question's text. `agent`: any agent that answers. The others are claimed capabilities.
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One promise. `of` is a method or attribute of `BaseCommBackend` (`handle.x`: of `AgentHandle`)."""

    id: str
    of: str
    text: str
    needs: tuple[Need, ...] = ()

    @property
    def section(self) -> str:
        """The section of the line, a key of `SECTIONS`."""
        return self.id.rpartition("-")[0]


SECTIONS: Mapping[str, str] = {
    "send": "Messages",
    "address": "Addresses",
    "error": "Errors of an agent",
    "fault": "Faults of a network",
    "stream": "Streams",
    "cancel": "Cancellation",
    "metadata": "Metadata",
    "repeat": "Repeated questions",
    "host": "Hosted agents",
    "credential": "Credentials",
    "health": "Probes",
    "close": "Closing",
    "claim": "Capabilities",
    "leak": "Leaks",
}
"""Section -> title, in the order of a report."""

_TABLE = """
send-1 send echo: A text arrives byte for byte, there and back: the empty one, any script, emoji, quotes, control
    characters, 500 kB.
send-2 send echo: The text parts of a payload arrive as one text, joined by newlines.
send-3 send echo: Of 100 messages in flight at once, each gets its own answer.
send-4 send agent: A reply is a mapping with `"raw"` and a text as `"text"`.
send-5 send host: `send` gives the agent a context whose `streaming` is False.
send-6 send host: An answer over 16 MiB raises ProtocolError by `send` and `stream`.
send-7 send host metadata: A message of 20,000 values raises ProtocolError, not retryable, and does not run; the agent
    is healthy within 1 s.
send-8 send host: The longest question, 1,000,000 bytes as JSON, arrives whole: plain, and of characters that JSON
    escapes.
address-1 send: A message to an unregistered id raises UnknownAgentError with the id in its text.
address-2 register_endpoint: An address whose scheme the protocol does not have raises ConfigError.
address-3 register_endpoint host: Registering an agent twice is the same as once; a new address replaces the old one.
address-4 connect agent: `connect` may be awaited any number of times, and sends no question.
error-1 send host: `send` raises an agent's error as the class that the agent raised, for each class.
error-2 stream host: `stream` raises an agent's error as the class that the agent raised, for each class.
error-3 send host: An error keeps its text, `retryable` and `retry_after_s`, by `send` and `stream`.
error-4 send host: A foreign exception of an agent raises AgentFailedError without its text, which may hold secrets.
error-5 send host: An agent that ends without an answer raises AgentFailedError.
error-6 send host: A failed question runs again when it is asked again under its key.
error-7 send host: An `agent_error` event that lacks fields, or has wrong ones, raises RemoteError by `send` and
    `stream`.
fault-1 send agent: A missing agent raises ConnectError, retryable, with its host and port in the text, within 2 s.
fault-2 send agent: A connection reset before the answer raises ConnectError, retryable.
fault-3 send echo: An answer cut off in the middle raises ConnectError or ProtocolError, retryable; it is never an
    answer.
fault-4 send agent: A silent peer or a late answer raises SendTimeoutError at the deadline: from the backend, or from
    the network, which cancels the backend's call.
fault-5 send echo: A slow answer within the deadline is an answer.
fault-6 send agent: After a fault, the same backend reaches the agent again within 10 s.
fault-7 send agent: A peer that speaks another protocol raises ConnectError or ProtocolError.
stream-1 stream host streaming: Events arrive in the order in which they were enqueued.
stream-2 stream host streaming: Pieces arrive before the answer is whole.
stream-3 stream echo: A stream ends once, with one message that has the whole answer.
stream-4 stream echo: A text arrives by `stream` byte for byte.
stream-5 stream host streaming: `stream` gives the agent a context whose `streaming` is True.
stream-6 stream host streaming: Each piece is a sign of life (`comm.context.heard`).
stream-7 stream host streaming metadata: After its connection broke, a stream goes on with new pieces or raises
    ConnectError; no piece comes twice.
stream-8 stream host streaming: An answer of 9 MiB in pieces of 1 MiB arrives whole.
cancel-1 send host cancel: Cancelling `send` ends it within 1 s and cancels the agent's work, with a key and without.
cancel-2 stream host streaming cancel: Closing a stream ends it within 1 s and cancels the agent's work.
cancel-3 send host cancel metadata: A command goes on when its sender leaves.
cancel-4 send host cancel: Cancelling ends within 1 s even if the agent ignores the cancellation.
cancel-5 send host cancel: 100 cancelled messages leave no task behind.
cancel-6 stream host streaming cancel: A question whose reader vanished is cancelled when a heartbeat has noticed that
    (within 15 s) and the grace is over (`disconnect_grace_s`; none without a key), unless `tasks` is claimed.
metadata-1 send host metadata: The call's context reaches the agent as it was sent.
metadata-2 send host metadata: The deadline reaches the agent as the time that is left.
metadata-3 send host metadata: The agent's annotations (`llm_ms`, `usage` ...) come back with the answer.
metadata-4 send host metadata: An answer without metadata has no `metadata`.
metadata-5 stream host streaming metadata: A status arrives with its metadata.
repeat-1 send host metadata: A question asked twice at once under one key runs once; both get the answer.
repeat-2 send host metadata: A question asked again under its key gets the same answer without running again.
repeat-3 send host metadata: Another text under the same key raises ProtocolError, not retryable.
repeat-4 send host metadata: A question with a key goes on for the grace after its connection broke; asked again, it
    does not run again.
host-1 spawn_local_agent host: The agent is ready when its handle is returned; port 0 takes a free one. The handle has
    `agent_id` and `base_url`, which can be registered.
host-2 spawn_local_agent host: A port in use raises ConnectError.
host-3 spawn_local_agent host: A stopped agent can be hosted again at its address.
host-4 handle.stop host: Stopping cancels the work; messages in flight raise ConnectError, retryable. It is idempotent.
host-5 handle.stop host: Stopping ends within the host's `stop_s`, even if the agent hangs.
host-6 handle.drain host: A draining agent is unhealthy, refuses a new question with ConnectError and finishes the
    questions in flight.
credential-1 probe host: A wrong credential raises AuthError by `send` and `stream`; the probe reports AuthError, or
    that the agent is healthy.
health-1 health_check agent: A serving agent is healthy.
health-2 health_check host: A stopped agent is unhealthy within 1 s.
health-3 health_check: An unregistered id is unhealthy.
health-4 health_check agent: The probe of a silent peer is False within 3 s and raises nothing.
health-5 describe host: `describe` returns the agent's facts without asking it, or nothing; for a missing agent it
    raises CommError or returns nothing.
close-1 close host: Closing ends within the host's `stop_s`, even if a handler hangs; it is idempotent.
close-2 close host: Messages in flight raise ConnectError or BackendClosedError, later messages BackendClosedError; no
    agent is healthy.
close-3 close agent: After closing, no task of the backend is left.
claim-1 capabilities: A backend that claims `host` or `streaming` has its own method for it.
claim-2 capabilities host identity: `identity`: the agent gets the name of the caller (`principal`).
claim-3 capabilities echo e2e_encryption: `e2e_encryption`: neither question nor answer can be read on the wire.
leak-1 send echo: After 1,000 messages there are as many tasks, sockets and threads as before.
"""
"""Each line as `id method need ...: promise`; further rows of a promise are indented."""


def _lines(table: str) -> Iterator[Line]:
    for entry in re.split(r"\n(?=\S)", table.strip()):
        head, text = entry.split(": ", 1)
        line_id, method, *needs = head.split()
        yield Line(line_id, method, " ".join(text.split()), tuple(cast("list[Need]", needs)))


LINES: tuple[Line, ...] = tuple(_lines(_TABLE))

CONTRACT: Mapping[str, Line] = {line.id: line for line in LINES}
"""Every line by its id."""
