"""The logins and rights at our own server, and the file of logins for the user's other processes."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from ipaddress import ip_address
from secrets import token_hex
from typing import Any

from streaming_queue.comm import local_logins
from streaming_queue.errors import AuthError, ConfigError
from streaming_queue.protocol_backend.nats.address import Login, Server
from streaming_queue.protocol_backend.nats.codec import QUEUE_GROUP

ASKERS = 8
"""The number of logins for other processes. Processes with the same login can read each other's answers."""
AUTH_TIMEOUT_S = 10
"""The time, in seconds, for a client on a busy machine to log in."""

_HOST = "host"


@dataclass(frozen=True, slots=True)
class Logins:
    """The logins of one server: `host` for hosted agents, `own` for requests of its process, `others` for others."""

    host: Login
    own: Login
    others: tuple[Login, ...]

    @classmethod
    def new(cls) -> Logins:
        """Logins with new passwords."""
        return cls(_new(_HOST), _new("own"), tuple(_new(f"ask-{number}") for number in range(ASKERS)))

    def authorization(self, prefix: str) -> dict[str, Any]:
        """The logins' part of the server's configuration; the agents' subjects begin with `prefix`."""
        entries = [f"{prefix}.*", f"{prefix}.*.health"]
        cancel, controls = f"{prefix}.*.cancel", f"{self.host.inbox}.>"
        answering = _user(
            self.host,
            publish=["_INBOX.*.>"],
            subscribe=[*(f"{entry} {QUEUE_GROUP}" for entry in entries), cancel, controls],
        )
        asking = (
            _user(login, publish=[*entries, cancel, controls], subscribe=[f"{login.inbox}.>"])
            for login in (self.own, *self.others)
        )
        return {"timeout": AUTH_TIMEOUT_S, "users": [answering, *asking]}

    def entry(self, host: str, port: int) -> local_logins.Entry:
        """The entry for the user's other processes."""
        return local_logins.entry(host, port, {str(login.user): str(login.password) for login in self.others})


def _new(user: str) -> Login:
    return Login(user, token_hex(32))


def _user(login: Login, **permissions: list[str]) -> dict[str, Any]:
    allowed = {right: {"allow": subjects} for right, subjects in permissions.items()}
    return {"user": login.user, "password": login.password, "permissions": allowed}


async def find(server: Server) -> tuple[Server, Login]:
    """The address and the login for a caller without a login, from the file of a process of this user.

    Raises AuthError if the file is not valid.
    """
    for host in _addresses(server):
        try:
            kept = await asyncio.to_thread(local_logins.find, host, server.port)
        except ConfigError as error:
            raise AuthError(f"{server}: {error}") from error
        if kept:
            user = random.choice(list(kept))
            return Server(server.scheme, host, server.port), Login(user, kept[user])
    return server, Login()


def may_keep_logins(server: Server) -> bool:
    """Whether the address may be a server of this user: it is on loopback."""
    return any(ip_address(host).is_loopback for host in _addresses(server))


def _addresses(server: Server) -> tuple[str, ...]:
    """The possible addresses of our own server. A name may have several, and another user may listen at one."""
    if server.scheme != "nats":
        return ()
    if server.host == "localhost":
        return ("127.0.0.1", "::1")
    try:
        ip_address(server.host)
    except ValueError:
        return ()
    return (server.host,)
