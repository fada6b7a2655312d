"""The requests in flight, and the processes that work on them.

NATS does not tell when a process ends, so the process is asked. Each message of a host of ours has a reply subject of
that process. A message to it comes to the process, which says nothing. When no process listens there any more, the
server answers at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from nats.aio.msg import Msg

from streaming_queue.comm.client.replies import Replies
from streaming_queue.errors import CommError, ConnectError
from streaming_queue.protocol_backend.nats.codec import is_nobody

SIGN_S = 1.0
"""A process shows within 0.25 s what it took. So long after a process has gone, a message that no other process showed
was taken by that one."""
SILENCE_S = 40.0
"""How long a process that heartbeats every 15 s may say nothing of a request."""


class Instance:
    """One process, and the subjects that it `serves`. A message to `control` asks it; the server answers to `inbox`."""

    def __init__(self, control: str, inbox: str, gone: Callable[[Instance], None]) -> None:
        self.control = control
        self.inbox = inbox
        self.serves: set[str] = set()
        self._gone = gone

    def take(self, message: Msg) -> None:
        """A message came to the inbox."""
        if is_nobody(message.data, message.headers):
            self._gone(self)


class Request(Replies[bytes]):
    """A message that waits for replies. `inbox` is the subject they come to, `address` the address that was asked.

    `instance` is the process that works on it, once that is known. `lost` is the error by which the message, or the
    answer, was lost on the way: an agent may have the message, so that a second one needs a key. Times are the event
    loop's: when it was asked, when a reply last came, and by when `instance` must be known.
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
        if is_nobody(body, message.headers):
            self.fail(ConnectError(f"{self.address}: nobody listens there"))
            return
        self.heard_at = asyncio.get_running_loop().time()
        if self.instance is None and message.reply:
            self.instance = self._find(message.reply, self.subject)
        self.put(body, len(body))

    def lose(self, error: CommError) -> None:
        """Fail: the message, or the answer, was lost on the way."""
        if self.lost is None:
            self.lost = error
            self.fail(error)


def ask_which(requests: Collection[Request], known: Collection[Instance], now: float, age_s: float) -> set[Instance]:
    """The instances that matter to requests older than `age_s`; fails those that are lost beyond doubt."""
    asked: set[Instance] = set()
    for request in requests:
        if now - request.asked_at < age_s:
            continue
        if request.instance is not None:
            if now - request.heard_at > SILENCE_S:
                told = f"{request.address}: its host has said nothing for {SILENCE_S:g} s"
                request.lose(ConnectError(told))
            asked.add(request.instance)
        elif request.doomed_at is not None and now > request.doomed_at:
            request.lose(_went(request))
        else:
            asked.update(instance for instance in known if request.subject in instance.serves)
    return asked


def mourn(instance: Instance, requests: Collection[Request], now: float) -> None:
    """Fail the requests of `instance`, which ended; a request that it may have taken has until `SIGN_S` from now."""
    for request in requests:
        if request.instance is instance:
            request.lose(_went(request))
        elif request.instance is None and request.doomed_at is None and request.subject in instance.serves:
            request.doomed_at = now + SIGN_S


def _went(request: Request) -> ConnectError:
    return ConnectError(f"{request.address}: the process that took the message has gone")
