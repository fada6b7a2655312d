"""How a version is agreed on: a look at what the server discloses, else the handshake of the older revisions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from streaming_queue.errors import ConnectError, ProtocolError, RemoteError
from streaming_queue.protocol_backend.mcp.dialect import HANDSHAKES, MODERN, SERVER_KEY, VERSIONS
from streaming_queue.protocol_backend.mcp.session import CLIENT, Link, Session

DISCOVERY_SHARE = 1 / 3
"""Of the link's patience: a server of an older revision may not answer what it does not know."""


async def negotiate(link: Link, version: str = MODERN) -> Session:
    """A session by `version`, which is the newest that is offered, or by the newest that the server has below it.

    Raises:
        AuthError: it refuses our credential.
        ConnectError: it cannot be reached, is silent, speaks something else, or there is no version in common. Until
            that changes it is out of reach.
    """
    try:
        async with asyncio.timeout(link.patience_s):
            await link.begin()
            if version == MODERN and (session := await _discover(link)) is not None:
                return session
            return await _initialize(link, HANDSHAKES[0] if version == MODERN else version)
    except TimeoutError as error:
        if isinstance(error, ConnectError):
            raise
        raise ConnectError(f"{link.address}: did not agree on a version within {link.patience_s:g} s") from error
    except (ProtocolError, RemoteError) as error:
        raise ConnectError(str(error), retry_after_s=error.retry_after_s) from error


async def _discover(link: Link) -> Session | None:
    """A session without a handshake; None where the server has none, as far as its answer tells.

    Whoever is no server at all will say so again when the handshake is tried.
    """
    session = Session(link, MODERN)
    try:
        async with asyncio.timeout(link.patience_s * DISCOVERY_SHARE):
            about = await session.call("server/discover")
    except (ProtocolError, RemoteError, TimeoutError):
        return None
    supported = about.get("supportedVersions")
    if not isinstance(supported, list) or MODERN not in supported:
        return None
    session.about, session.server = about, _mapping(_mapping(about.get("_meta")).get(SERVER_KEY))
    return session


async def _initialize(link: Link, version: str) -> Session:
    offer = Session(link, version)
    params = {"protocolVersion": version, "capabilities": {}, "clientInfo": CLIENT}
    about = await offer.call("initialize", params)
    agreed = about.get("protocolVersion")
    if agreed not in HANDSHAKES:
        raise ProtocolError(
            f"{link.address}: there is no version in common: it wants {str(agreed)[:40]!a}, "
            f"known are {', '.join(VERSIONS)}"
        )
    session = Session(link, agreed, about, _mapping(about.get("serverInfo")), offer.ids)
    await session.notify("notifications/initialized")
    return session


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
