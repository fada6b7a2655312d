"""Negotiates a version: by `server/discover`, else by the handshake of the older revisions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import count
from typing import Any

from streaming_queue.errors import ConnectError, ProtocolError, RemoteError, UnavailableError
from streaming_queue.protocol_backend.mcp.dialect import HANDSHAKES, MODERN, SERVER_KEY, VERSIONS
from streaming_queue.protocol_backend.mcp.session import CLIENT, Link, Session

DISCOVERY_SHARE = 1 / 3
"""The share of the link's patience for `server/discover`: a server of an older revision may not answer it."""
DISCOVERY_S = 10.0
"""The longest time for `server/discover`, in seconds."""


async def negotiate(link: Link, version: str = MODERN) -> Session:
    """A session by the newest revision of the server up to `version`.

    Raises:
        AuthError: the server refuses our credential.
        ConnectError: the server cannot be reached, is silent, speaks another protocol, or has no version in common.
    """
    try:
        async with asyncio.timeout(link.patience_s):
            await link.begin()
            if version == MODERN:
                return await _newest(link)
            return await _initialize(link, version, count(1))
    except TimeoutError as error:
        if isinstance(error, ConnectError):
            raise
        said = f"{link.address}: did not agree on a version within {link.patience_s:g} s{link.remarks}"
        raise UnavailableError(said) from error
    except (ProtocolError, RemoteError) as error:
        raise UnavailableError(f"{error}{link.remarks}", retry_after_s=error.retry_after_s) from error


async def _newest(link: Link) -> Session:
    """A session without a handshake, else one with a handshake.

    A server that starts slowly answers `server/discover` late: that request goes on beside the handshake, and its
    answer wins.
    """
    ids = count(1)
    looking = asyncio.create_task(_discover(link, ids), name=f"discover:{link.address}")
    tasks: set[asyncio.Task[Any]] = {looking}
    try:
        await asyncio.wait(tasks, timeout=min(link.patience_s * DISCOVERY_SHARE, DISCOVERY_S))
        if looking.done() and (session := looking.result()) is not None:
            return session
        greeting = asyncio.create_task(_initialize(link, HANDSHAKES[0], ids), name=f"initialize:{link.address}")
        tasks.add(greeting)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if looking.done() and (session := looking.result()) is not None:
            return session
        return await greeting
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _discover(link: Link, ids: count[int]) -> Session | None:
    """A session without a handshake; None if, by its answer, the server does not support that.

    A peer that is not an MCP server also fails the handshake.
    """
    session = Session(link, MODERN, ids=ids)
    try:
        about = await session.call("server/discover")
    except (ProtocolError, RemoteError, TimeoutError):
        return None
    supported = about.get("supportedVersions")
    if not isinstance(supported, list) or MODERN not in supported:
        return None
    session.about, session.server = about, _mapping(_mapping(about.get("_meta")).get(SERVER_KEY))
    return session


async def _initialize(link: Link, version: str, ids: count[int]) -> Session:
    offer = Session(link, version, ids=ids)
    params = {"protocolVersion": version, "capabilities": {}, "clientInfo": CLIENT}
    about = await offer.call("initialize", params)
    agreed = about.get("protocolVersion")
    if not isinstance(agreed, str):
        raise ProtocolError(
            f"{link.address}: it answers `initialize` without a `protocolVersion`: it is not an MCP server, or broken"
        )
    if agreed not in HANDSHAKES:
        raise ProtocolError(
            f"{link.address}: no version in common: it wants {agreed[:40]!a}, we support {', '.join(VERSIONS)}"
        )
    session = Session(link, agreed, about, _mapping(about.get("serverInfo")), ids)
    await session.notify("notifications/initialized")
    return session


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
