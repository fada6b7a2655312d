"""A run in another process, steered through its endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

from streaming_queue.comm.client import http
from streaming_queue.comm.wire_errors import refusal, told_error
from streaming_queue.control.base import PAGE, RunControl
from streaming_queue.errors import ConnectError, ProtocolError, SendTimeoutError

REPLY_S = 30.0
ADD_S = 600.0
"""The same for `add_worker`: a worker may be a command, which takes its time to start (`mcp.start_timeout_s`)."""
"""How long a command may take."""


class ControlClient(RunControl):
    """The run in `directory`, whose process serves its control at `address`; use it in `async with`.

    Every method raises what the run raised, and CommError where it cannot be spoken to.
    """

    live = True

    def __init__(self, directory: Path, address: str, token: str) -> None:
        self._directory = directory
        self._address = address
        self._token = token
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._session = http.open_session()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def stats(self) -> dict[str, Any]:
        """See RunControl."""
        return await self._object("stats")

    async def pause(self) -> dict[str, Any]:
        """See RunControl."""
        return await self._object("pause")

    async def resume(self) -> dict[str, Any]:
        """See RunControl."""
        return await self._object("resume")

    async def drain(self) -> dict[str, Any]:
        """See RunControl."""
        return await self._object("drain")

    async def workers(self) -> list[dict[str, Any]]:
        """See RunControl."""
        return await self._list("workers")

    async def add_worker(
        self, address: str, *, protocol: str | None = None, worker_id: str | None = None
    ) -> list[dict[str, Any]]:
        """See RunControl."""
        return await self._list("add_worker", address=address, protocol=protocol, worker_id=worker_id)

    async def remove_worker(self, worker_id: str, *, at_once: bool = False) -> list[dict[str, Any]]:
        """See RunControl."""
        return await self._list("remove_worker", worker_id=worker_id, at_once=at_once)

    async def dead_letters(self, *, reason: str | None = None, after: int = 0, limit: int = PAGE) -> dict[str, Any]:
        """See RunControl."""
        return await self._object("dead_letters", reason=reason, after=after, limit=limit)

    async def dead_letter(self, question_id: str) -> dict[str, Any]:
        """See RunControl."""
        return await self._object("dead_letter", question_id=question_id)

    async def replay(self, *, ids: Sequence[str] | None = None, reason: str | None = None) -> int:
        """See RunControl."""
        return await self._number("replay", ids=ids, reason=reason)

    async def purge(self, *, ids: Sequence[str] | None = None, reason: str | None = None) -> int:
        """See RunControl."""
        return await self._number("purge", ids=ids, reason=reason)

    async def _object(self, command: str, **arguments: Any) -> dict[str, Any]:
        result = await self._command(command, arguments)
        if not isinstance(result, dict):
            raise self._foreign(command)
        return result

    async def _list(self, command: str, **arguments: Any) -> list[dict[str, Any]]:
        result = await self._command(command, arguments)
        if not isinstance(result, list):
            raise self._foreign(command)
        return result

    async def _number(self, command: str, **arguments: Any) -> int:
        result = await self._command(command, arguments)
        if not isinstance(result, int):
            raise self._foreign(command)
        return result

    async def _command(self, command: str, arguments: dict[str, Any]) -> Any:
        reply_s = ADD_S if command == "add_worker" else REPLY_S
        try:
            async with asyncio.timeout(reply_s):
                status, body = await self._post(command, orjson.dumps(arguments))
        except TimeoutError as error:
            raise SendTimeoutError(f"{self._address}: no answer to {command!r} within {reply_s:g} s") from error
        except ConnectError as error:
            raise ConnectError(
                f"{self._directory}: the run does not answer; it may just have ended: {error}"
            ) from error
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            document = None
        if status == 200 and isinstance(document, dict) and "result" in document:
            return document["result"]
        if status == 200:
            raise self._foreign(command)
        where = str(self._directory)
        raise told_error(document, None, where) or refusal(status, body, None, self._address)

    async def _post(self, command: str, body: bytes) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        try:
            url = f"{self._address}/{command}"
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                return response.status, await http.read_body(response, self._address)
        except (aiohttp.ClientError, OSError) as error:
            raise http.translate(error, self._address) from error

    def _foreign(self, command: str) -> ProtocolError:
        return ProtocolError(f"{self._address}: what came back for {command!r} is no answer of a run", retryable=False)
