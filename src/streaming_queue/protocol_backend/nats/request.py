"""The requests in flight, and the processes that work on them.

NATS does not report the end of a process, so we ask the process. Each message of a host of ours has a reply subject of
that process. If we send a message to this subject, a living process does not answer. If the process has ended, the
server answers at once that the subject has no receiver.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from nats.aio.msg import Msg

from streaming_queue.comm.client.replies import Replies
from streaming_queue.errors import CommError, ConnectError, UnavailableError
from streaming_queue.protocol_backend.nats.codec import is_no_responders

SIGN_S = 1.0
"""A process reports its messages within 0.25 s. If no other process has reported a message this long, in seconds, after
a process ended, that process had the message."""
SILENCE_S = 40.0
"""The longest silence about a request, in seconds; a process sends a heartbeat every 15 s."""


class Instance:
    """One process, and the subjects that it `serves`. A message to `control` checks it; answers arrive at `inbox`."""

    def __init__(self, control: str, inbox: str, gone: Callable[[Instance], None]) -> None:
        self.control = control
        self.inbox = inbox
        self.serves: set[str] = set()
        self._gone = gone

    def take(self, message: Msg) -> None:
        """A message came to the inbox."""
        if is_no_responders(message.data, message.headers):
            self._gone(self)


class Request(Replies[bytes]):
    """A message that waits for replies. `inbox` is the subject of the replies, `address` the agent's address.

    `instance` is the process that works on it, when that is known. `lost` is the error if the message or the answer was
    lost: an agent may have the message, so that a second one needs a key. Times are of the event loop: the time of the
    message, of the last reply, and the time by which `instance` must be known.
    """

    __slots__ = ("_find", "asked_at", "doomed_at", "heard_at", "inbox", "instance", "lost", "subject")

    def __init__(self, subject: str, inbox: str, address: str, find: Callable[[str, str], Instance]) -> None:
        super().__init__(address)
        self.subject = subject
        self.inbox = inbox
        self.instance: Instance | None = None
        self.lost: CommError | None = None
        self.asked_at = self.heard_at = asyncio.get_running_loop().time()
        self.doomed_at: float | None = None
        self._find = find

    def take(self, message: Msg) -> None:
        """A message came to the inbox."""
        body = message.data
        if is_no_responders(body, message.headers):
            self.fail(UnavailableError(f"{self.address}: no agent listens there"))
            return
        self.heard_at = asyncio.get_running_loop().time()
        if self.instance is None and message.reply:
            self.instance = self._find(message.reply, self.subject)
        self.put(body, len(body))

    def lose(self, error: CommError) -> None:
        """Fail: the message or the answer was lost."""
        if self.lost is None:
            self.lost = error
            self.fail(error)


def ask_which(requests: Collection[Request], known: Collection[Instance], now: float, age_s: float) -> set[Instance]:
    """The instances to check for requests older than `age_s`; fails the requests that are certainly lost."""
    asked: set[Instance] = set()
    for request in requests:
        if now - request.asked_at < age_s:
            continue
        if request.instance is not None:
            if now - request.heard_at > SILENCE_S:
                reason = f"{request.address}: its host was silent for {SILENCE_S:g} s"
                request.lose(ConnectError(reason))
            asked.add(request.instance)
        elif request.doomed_at is not None and now > request.doomed_at:
            request.lose(_went(request))
        else:
            asked.update(instance for instance in known if request.subject in instance.serves)
    return asked


def mourn(instance: Instance, requests: Collection[Request], now: float) -> None:
    """Fail the requests of the ended `instance`; a request that it may have had gets `SIGN_S` more."""
    for request in requests:
        if request.instance is instance:
            request.lose(_went(request))
        elif request.instance is None and request.doomed_at is None and request.subject in instance.serves:
            request.doomed_at = now + SIGN_S


def _went(request: Request) -> ConnectError:
    return ConnectError(f"{request.address}: the process with the message has ended")
