"""One remote server: the agreement on a version and a tool, and its probe."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streaming_queue.comm.client.once import Once
from streaming_queue.comm.probing import StartingError
from streaming_queue.errors import BackendClosedError, CommError, ConnectError, ProtocolError, UnavailableError
from streaming_queue.protocol_backend.mcp.dialect import READY_KEY
from streaming_queue.protocol_backend.mcp.negotiation import negotiate
from streaming_queue.protocol_backend.mcp.session import Link, LostSessionError, Session
from streaming_queue.protocol_backend.mcp.tools import Choice, Tool, choose

START_LOOK_S = 0.5
"""The time, in seconds, that a probe waits for a starting command: shorter than the timeout of every probe."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """A session, the chosen tool, its further arguments, and all tools. It is valid until a failure."""

    session: Session
    tool: Tool
    arguments: Mapping[str, Any]
    listed: list[Any]


class Peer:
    """A server and the agreement with it. They agree once, and again after a failure that a new agreement may solve."""

    def __init__(self, link: Link, choice: Choice, version: str) -> None:
        self.link = link
        self.agreed = Once(self._agree, f"agree:{link.address}", lambda _: link.alive)
        self._choice = choice
        self._version = version
        self._unreported: Exception | None = None
        """The failure of a command that is not yet reported to a caller."""

    async def agreement(self) -> Agreement:
        """The agreement; concurrent callers agree once. A command's failure is reported before its next run.

        Raises:
            AuthError: the server refuses our credential.
            ConfigError: the server has no usable tool, or several and none is configured.
            ConnectError: the server cannot be reached, or has no version in common with us.
        """
        unreported, self._unreported = self._unreported, None
        if unreported is not None:
            raise unreported
        try:
            return await self.agreed.get()
        except Exception:
            self._unreported = None
            raise

    async def _agree(self) -> Agreement:
        try:
            return await self._agree_anew()
        except Exception as error:
            self._unreported = error if self.link.lasting else None
            raise

    async def _agree_anew(self) -> Agreement:
        address, patience_s = self.link.address, self.link.patience_s
        until = asyncio.get_running_loop().time() + patience_s
        session = await negotiate(self.link, self._version)
        try:
            async with asyncio.timeout_at(until):
                listed = await session.tools()
        except TimeoutError as error:
            if isinstance(error, CommError):
                raise
            said = f"{address}: does not list its tools within {patience_s:g} s{self.link.remarks}"
            raise UnavailableError(said) from error
        return Agreement(session, choose(listed, self._choice, address), self._choice.arguments, listed)

    def forget(self, agreement: Agreement) -> None:
        """Agree again before the next call, unless another call did so or the link is `lasting`."""
        if self.agreed.value is agreement and not self.link.lasting:
            self.agreed.value = None

    async def probe(self) -> bool:
        """Whether the server answers in time and takes questions.

        Raises like `agreement` and the link, and StartingError while a command has not answered yet.
        """
        async with asyncio.timeout(self.link.probe_s):
            answer = await self._look(await self._agreement_soon())
        meta = answer.get("_meta")
        return not isinstance(meta, dict) or meta.get(READY_KEY) is not False

    async def _agreement_soon(self) -> Agreement:
        """The agreement. Wait for a starting command only `START_LOOK_S`, then raise StartingError."""
        try:
            async with asyncio.timeout(None if self.link.starting is None else START_LOOK_S) as moment:
                return await self.agreement()
        except TimeoutError as error:
            if not moment.expired():
                raise
            raise StartingError(self.link.starting or "") from error

    async def _look(self, agreement: Agreement) -> Mapping[str, Any]:
        """The server's answer to its cheapest request."""
        try:
            return await agreement.session.call("server/discover" if agreement.session.modern else "ping")
        except (LostSessionError, ConnectError, ProtocolError):
            self.forget(agreement)
            raise

    async def describe(self) -> dict[str, Any]:
        """The server's facts for people, if it answers now. Raises like `probe`."""
        agreement = await self.agreement()
        await self._look(agreement)
        session, tool = agreement.session, agreement.tool
        name, version = session.server.get("name"), session.server.get("version")
        names = [str(listed.get("name")) for listed in agreement.listed if isinstance(listed, dict)]
        facts = {
            "name": name if isinstance(name, str) else None,
            "version": version if isinstance(version, str) else None,
            "protocol": f"MCP {session.version}",
            "tool": f"{tool.name}({tool.argument})",
            "tools": ", ".join(names[:20]),
            "date": getattr(self.link, "date", None),
        }
        return {key: value for key, value in facts.items() if value is not None}

    async def close(self) -> None:
        """Close the link; calls in flight fail."""
        await self.agreed.aclose(BackendClosedError(f"{self.link.address}: the mcp backend was closed"))
        await self.link.close()
