"""Admission of callers by the headers of a request, for every protocol that begins with HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_address

import orjson

from streaming_queue.comm.base import HostOptions
from streaming_queue.errors import AuthError, ConfigError, RateLimitedError, StreamingQueueError, error_event


@dataclass(frozen=True, slots=True)
class Refusal:
    """A status, the error with the reason, and further headers (lower case, latin-1)."""

    status: int
    error: StreamingQueueError
    headers: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def body(self) -> bytes:
        """The answer's JSON, if the protocol has no form of its own."""
        return error_body(self.error)


def error_body(error: StreamingQueueError) -> bytes:
    """`{"error": <agent_error event>}`."""
    return orjson.dumps({"error": error_event(error)})


def too_many_connections() -> Refusal:
    """The refusal of a connection over the limit."""
    return Refusal(
        503, RateLimitedError("the host has too many connections", retry_after_s=1.0), ((b"retry-after", b"1"),)
    )


class Admission:
    """The rules of one host, from its options. `hosts` and `any_address` come from its socket; `*` means any host."""

    def __init__(self, options: HostOptions, *, hosts: Collection[str], any_address: bool = False) -> None:
        self._authenticator = options.authenticator
        self._anonymous = options.anonymous
        self._patience_s = options.limits.body_deadline_s
        self._hosts = frozenset(host.lower() for host in hosts)
        self._foreign_origins = frozenset(host.lower() for host in options.allowed_hosts)
        self._any_address = any_address
        self._hosts_seen: set[bytes] = set()

    @property
    def open(self) -> bool:
        """Whether the host asks for no credential."""
        return self._authenticator is None

    def check(self, host: bytes, origin: bytes | None) -> Refusal | None:
        """The fault of a request's Host and Origin: 421 if the host is not ours, 403 for a page of another origin."""
        if host not in self._hosts_seen and not self._is_ours(host):
            name = host[:200].decode("latin-1")
            return Refusal(421, ConfigError(f"host {name!r} is not served here: add it to the host's allowed_hosts"))
        if origin is not None and not self._is_welcome(origin, host):
            return Refusal(403, AuthError("pages of another origin may not call this host"))
        return None

    def _is_ours(self, host: bytes) -> bool:
        name = host_name(host.decode("latin-1"))
        ours = name in self._hosts or "*" in self._hosts or (self._any_address and _is_address(name))
        if ours and len(self._hosts_seen) < 100:
            self._hosts_seen.add(host)
        return ours

    def _is_welcome(self, origin: bytes, host: bytes) -> bool:
        authority = origin.partition(b"://")[2]
        return authority == host or host_name(authority.decode("latin-1")) in self._foreign_origins

    async def identify(self, authorization: bytes) -> str | Refusal | None:
        """The principal of an Authorization header, None if the host asks for no credential, 401 without a valid one.

        If the options name an `anonymous` principal, a missing header (empty bytes) means that principal.

        Raises TimeoutError when the authenticator takes longer than the limits give a request's body.
        """
        if self._authenticator is None:
            return None
        if not authorization and self._anonymous is not None:
            return self._anonymous
        scheme, _, credential = authorization.decode("latin-1").partition(" ")
        if scheme.lower() == "bearer" and credential:
            async with asyncio.timeout(self._patience_s):
                principal = await self._authenticator(credential.strip())
            if principal is not None:
                return principal
            reason, challenge = "the bearer credential is not valid", b'Bearer error="invalid_token"'
        else:
            reason, challenge = "a bearer credential is needed (Authorization: Bearer ...)", b"Bearer"
        return Refusal(401, AuthError(reason), ((b"www-authenticate", challenge),))


def host_name(authority: str) -> str:
    """The name in a Host header, lower case, without the port; an IPv6 address keeps its brackets."""
    authority = authority.lower()
    if authority.startswith("["):
        return authority[: authority.find("]") + 1]
    return authority.partition(":")[0]


def _is_address(name: str) -> bool:
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
