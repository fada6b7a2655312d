"""A run in another process, controlled through its endpoint."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import aiohttp
import orjson

from streaming_queue.comm.client import http
from streaming_queue.comm.wire_errors import refusal, reported_error
from streaming_queue.control.base import RunControl
from streaming_queue.errors import ConnectError, ProtocolError, SendTimeoutError

REPLY_S = 30.0
"""Longest time of a command."""
ADD_S = 600.0
"""Longest time of `add_worker`: a worker may be a command that starts slowly (`mcp.start_timeout_s`)."""

T = TypeVar("T")


class ControlClient(RunControl):
    """The run in `directory`, whose process serves its control at `address`; use the client in `async with`.

    Every method raises the run's own error, and CommError if the run does not answer.
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

    async def _command(self, kind: type[T], command: str, **arguments: object) -> T:
        reply_s = ADD_S if command == "add_worker" else REPLY_S
        try:
            async with asyncio.timeout(reply_s):
                status, body = await self._post(command, orjson.dumps(arguments))
        except TimeoutError as error:
            raise SendTimeoutError(f"{self._address}: no answer to {command!r} within {reply_s:g} s") from error
        except ConnectError as error:
            raise ConnectError(
                f"{self._directory}: the run does not answer; perhaps it has just ended: {error}"
            ) from error
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            document = None
        if status != 200:
            refused = reported_error(document, None, str(self._directory))
            raise refused or refusal(status, body, None, self._address)
        result = document.get("result") if isinstance(document, dict) else None
        if not isinstance(result, kind):
            raise ProtocolError(f"{self._address}: the reply to {command!r} is not an answer of a run", retryable=False)
        return result

    async def _post(self, command: str, body: bytes) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        try:
            url = f"{self._address}/{command}"
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                return response.status, await http.read_body(response, self._address)
        except (aiohttp.ClientError, OSError) as error:
            raise http.translate(error, self._address) from error
