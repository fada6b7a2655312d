"""The processes that answer: NATS does not tell when one ends, so it is asked.

Each message of a host of ours has a reply subject of that process. A message to it comes to the process, which says
nothing, or is answered by the server at once when nobody listens there any more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from nats.aio.msg import Msg

from streaming_queue.errors import ConnectError
from streaming_queue.protocol_backend.nats.codec import is_nobody
from streaming_queue.protocol_backend.nats.request import LostError, Request

SIGN_S = 1.0
"""A process shows within 0.25 s what it took; so long after another has gone, what nobody showed was taken by that."""
SILENCE_S = 40.0
"""How long a process that heartbeats every 15 s may say nothing of a request."""


class Instance:
    """One process. `control` is where it is asked, `inbox` where the answer would come, `serves` what it answers."""

    def __init__(self, control: str, inbox: str, gone: Callable[[Instance], None]) -> None:
        self.control = control
        self.inbox = inbox
        self.serves: set[str] = set()
        self._gone = gone

    def take(self, message: Msg) -> None:
        """A message came to the inbox."""
        if is_nobody(message.data, message.headers):
            self._gone(self)


def ask_which(requests: Collection[Request], known: Collection[Instance], now: float, age_s: float) -> set[Instance]:
    """The instances that matter to requests older than `age_s`; fails those that are lost beyond doubt."""
    asked: set[Instance] = set()
    for request in requests:
        if now - request.asked_at < age_s:
            continue
        if request.instance is not None:
            if now - request.heard_at > SILENCE_S:
                told = f"{request.where}: its host has said nothing for {SILENCE_S:g} s"
                request.fail(LostError(ConnectError(told)))
            asked.add(request.instance)
        elif request.doomed_at is not None and now > request.doomed_at:
            request.fail(_went(request))
        else:
            asked.update(instance for instance in known if request.subject in instance.serves)
    return asked


def mourn(instance: Instance, requests: Collection[Request], now: float) -> None:
    """Fail what `instance`, which has gone, was at; what it may have been at has until `SIGN_S` from now."""
    for request in requests:
        if request.instance is instance:
            request.fail(_went(request))
        elif request.instance is None and request.doomed_at is None and request.subject in instance.serves:
            request.doomed_at = now + SIGN_S


def _went(request: Request) -> LostError:
    return LostError(ConnectError(f"{request.where}: the process that took the message has gone"))
