"""One connection to a server for all its agents, remote and hosted; a new connection after it broke."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

from nats import errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from streaming_queue.comm.client.once import Once
from streaming_queue.errors import (
    AuthError,
    BackendClosedError,
    CommError,
    ConnectError,
    ProtocolError,
    UnavailableError,
)
from streaming_queue.protocol_backend.nats.address import Login, Server
from streaming_queue.protocol_backend.nats.connecting import connect, dispose
from streaming_queue.protocol_backend.nats.logins import find, may_keep_logins

logger = logging.getLogger(__name__)

FLUSH_TIMEOUT_S = 5
KEPT_WITHIN_S = 0.5
LOOK_AGAIN_S = 0.05
"""The longest wait for a server's new logins (a probe has one second), and the pause between two checks."""
SHORTEST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0

Receive = Callable[[Msg], Awaitable[None]]


class Guest(Protocol):
    """A user of a link."""

    @property
    def lasting(self) -> bool:
        """Whether the link reconnects at once after a broken connection, without a message to send."""

    async def join(self, link: Link) -> None:
        """Subscribe; called on each new connection."""

    def broken(self, error: CommError) -> None:
        """Note that the connection broke and unanswered messages are lost."""

    def denied(self, reason: str) -> None:
        """Note that the server denied a right; `reason` contains the subject, in lower case."""


class Link:
    """The connection to `server`; the first call that needs it opens it.

    `inbox` is the prefix of the subjects where this connection receives. It may change with each connection.
    """

    def __init__(self, server: Server, login: Login, tls: ssl.SSLContext | None) -> None:
        self.server = server
        self.inbox = login.inbox
        self.guests: list[Guest] = []
        self._login = login
        self._tls = tls
        self._client: Client | None = None
        self._ready = False
        self._subscriptions: list[Subscription] = []
        self._denials: list[str] = []
        self._opened = Once(self._open, f"nats:open:{server}", lambda _: self._ready)
        self._joining = asyncio.Lock()
        self._returning: asyncio.Task[None] | None = None
        self._disposals: set[asyncio.Task[None]] = set()
        self._flushes: dict[asyncio.Task[None], CommError | None] = {}

    # --- opening ---

    async def open(self) -> None:
        """Connect and let every guest join, unless the link is connected; concurrent callers connect once.

        Raises:
            BackendClosedError: the link was closed.
            CommError: like `connecting.connect`.
            AuthError: the server denies a subscription.
        """
        await self._opened.get()

    async def _open(self) -> Client:
        async with self._joining:
            client, login = await self._connect()
            self._client, self.inbox = client, login.inbox
            try:
                await self._join(self.guests)
                self._ready = self._live() is client
            except BaseException:
                if self._client is client:
                    await dispose(*self._detach())
                raise
            return client

    async def _connect(self) -> tuple[Client, Login]:
        """A client and its login: ours, else the login that a process of this user has stored for the server.

        A restarted server of ours listens shortly before it stores its new logins. It refuses the old ones; then we
        read them again.
        """
        until = asyncio.get_running_loop().time() + KEPT_WITHIN_S
        while True:
            at, login = (self.server, self._login) if self._login != Login() else await find(self.server)
            try:
                client = await connect(
                    at, login, self._tls, complained=self._complained, disconnected=self._disconnected
                )
                return client, login
            except AuthError:
                changing = self._login == Login() and may_keep_logins(self.server)
                if not changing or asyncio.get_running_loop().time() > until:
                    raise
            await asyncio.sleep(LOOK_AGAIN_S)

    async def add(self, guest: Guest) -> None:
        """Let `guest` join now, and on every later connection. Raises like `open`."""
        await self.open()
        async with self._joining:
            self.guests.append(guest)
            try:
                await self._join([guest])
            except BaseException:
                self.remove(guest)
                raise

    def remove(self, guest: Guest) -> None:
        """Remove `guest`, which has left its subscriptions."""
        if guest in self.guests:
            self.guests.remove(guest)

    async def _join(self, guests: list[Guest]) -> None:
        self._denials.clear()
        for guest in guests:
            await guest.join(self)
        await self.flush(FLUSH_TIMEOUT_S)
        if self._denials:
            raise AuthError(f"{self.server}: the server says: {self._denials[0]}")

    # --- using ---

    @property
    def connected(self) -> bool:
        """Whether there is a connection that every guest has joined."""
        return self._ready

    async def publish(
        self, subject: str, body: bytes = b"", *, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Send a message; wait only for the connection.

        Raises:
            ProtocolError: it is over the server's limit; not retryable.
            CommError: like `open`.
        """
        if not self._ready:
            await self.open()
        client = self._live()
        size = len(body) + sum(len(name) + len(value) + 4 for name, value in headers.items()) if headers else len(body)
        if size + 12 > client.max_payload:  # the first and the last line of headers
            limit = f"the server's limit of {client.max_payload} bytes (max_payload)"
            raise ProtocolError(f"{self.server}: a message of {size} bytes is over {limit}", retryable=False)
        try:
            await client.publish(subject, body, reply, headers or None)
        except errors.Error as error:
            raise self._lost(client, error) from error

    async def subscribe(self, subject: str, receive: Receive, queue: str = "") -> Subscription:
        """Call `receive`, which must not wait, with each message to `subject`. Raises ConnectError."""
        client = self._live()
        try:
            subscription = await client.subscribe(subject, queue=queue, cb=receive)
        except errors.Error as error:
            raise self._lost(client, error) from error
        self._subscriptions.append(subscription)
        return subscription

    async def leave(self, subscriptions: Collection[Subscription], timeout_s: float) -> None:
        """End these subscriptions; messages that the server has sent before still arrive. Bounded."""
        leaving = {asyncio.create_task(self._drain(subscription)) for subscription in subscriptions}
        if leaving:
            _, late = await asyncio.wait(leaving, timeout=timeout_s)
            for task in late:
                task.cancel()  # `dispose` ends the rest

    async def _drain(self, subscription: Subscription) -> None:
        try:
            await subscription.drain()  # type: ignore[no-untyped-call]
            self._subscriptions.remove(subscription)
        except errors.Error as error:
            logger.debug("%s: leaving %s: %s", self.server, subscription.subject, error)

    async def flush(self, timeout_s: int) -> None:
        """Return when the server has received all earlier messages.

        Raises ConnectError, or the error that ended the connection meanwhile.
        """
        flushing = asyncio.create_task(self._live().flush(timeout_s), name=f"nats:flush:{self.server}")
        self._flushes[flushing] = None
        try:
            await asyncio.wait({flushing})
            if (given_up := self._flushes[flushing]) is not None:
                raise given_up
            flushing.result()
        except errors.Error as error:
            raise ConnectError(f"{self.server}: {error}") from error
        finally:
            flushing.cancel()
            del self._flushes[flushing]

    def _live(self) -> Client:
        if self._client is None:
            raise UnavailableError(f"{self.server}: no connection")
        return self._client

    # --- breaking ---

    async def _complained(self, client: Client, error: Exception) -> None:
        """Handle an error that the library reports on an open connection."""
        if client is not self._client:
            return
        if isinstance(error, errors.SlowConsumerError):  # the library does not say which messages it dropped
            self._lost(client, error)
        elif "permissions violation" in (reason := str(error)):
            if "for subscription" in reason:
                self._denials.append(reason)
            for guest in self.guests:
                guest.denied(reason)

    async def _disconnected(self, client: Client) -> None:
        self._lost(client, client.last_error)

    def _lost(self, client: Client, reason: Exception | None) -> ConnectError:
        """Drop the connection and notify the guests; reconnect at once if a guest needs it."""
        error = ConnectError(f"{self.server}: the connection broke{f': {reason}' if reason else ''}")
        if client is self._client:
            self._give_up(error)
            if any(guest.lasting for guest in self.guests):
                self._returning = asyncio.create_task(self._come_back(), name=f"nats:return:{self.server}")
        return error

    def _give_up(self, error: CommError) -> None:
        for guest in self.guests:
            guest.broken(error)
        for flushing in self._flushes:
            self._flushes[flushing] = error
            flushing.cancel()
        task = asyncio.create_task(dispose(*self._detach()), name=f"nats:dispose:{self.server}")
        self._disposals.add(task)
        task.add_done_callback(self._disposals.discard)

    def _detach(self) -> tuple[Client, list[Subscription]]:
        client, subscriptions = self._live(), self._subscriptions
        self._client, self._subscriptions, self._ready = None, [], False
        return client, subscriptions

    async def _come_back(self) -> None:
        pause_s = SHORTEST_PAUSE_S
        while True:
            try:
                await self.open()
                return
            except CommError as error:
                logger.warning("%s; trying again", error)
            await asyncio.sleep(random.uniform(pause_s / 2, pause_s))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def close(self) -> None:
        """Close the connection and open no new one; idempotent, bounded."""
        await self._opened.aclose(BackendClosedError(f"{self.server}: the nats backend is closed"))
        if self._returning is not None:
            self._returning.cancel()
            await asyncio.wait({self._returning})
        if self._client is not None:
            self._give_up(BackendClosedError(f"{self.server}: the nats backend was closed before the answer"))
        if self._disposals:
            await asyncio.wait(self._disposals)
