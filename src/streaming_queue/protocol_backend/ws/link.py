"""One open connection to an agent, and the requests in flight over it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from multidict import CIMultiDict
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from streaming_queue.comm.answer_limit import text_bytes
from streaming_queue.comm.client.http import peer_date
from streaming_queue.comm.client.replies import Replies
from streaming_queue.errors import ConnectError, ProtocolError, StreamingQueueError
from streaming_queue.messages import ERROR, MESSAGE
from streaming_queue.protocol_backend.ws.connection import ClientSide
from streaming_queue.protocol_backend.ws.failures import lost
from streaming_queue.protocol_backend.ws.frames import HEARTBEAT, LIMIT_HEADER, REQUEST_LIMIT, decode_answer

ENDS = frozenset({MESSAGE, ERROR})

Frame = dict[str, Any]


class Link:
    """A connection after its handshake; `lost` is the error that ended it, None while it is open.

    `request_limit` is the largest frame that the host accepts, in bytes. `date` is its clock at the handshake, if
    known.
    """

    def __init__(self, connection: ClientSide, address: str) -> None:
        self.lost: StreamingQueueError | None = None
        headers = CIMultiDict(connection.response.headers.raw_items() if connection.response else ())
        self.request_limit = _request_limit(headers)
        self.date = peer_date(headers)
        self._connection = connection
        self._address = address
        self._last = 0
        self._inboxes: dict[int, Replies[Frame]] = {}
        self._reader = asyncio.create_task(self._read(), name=f"read:{address}")
        self._watcher = asyncio.create_task(self._watch(), name=f"watch:{address}")

    @property
    def open(self) -> bool:
        """Whether a frame can be sent."""
        return self.lost is None and self._connection.state is State.OPEN

    def expect(self, number: int) -> Replies[Frame]:
        """The replies to a request that the caller sends next; the caller must call `forget` at the end."""
        inbox = self._inboxes[number] = Replies(self._address)
        self._last = max(self._last, number)
        return inbox

    def forget(self, number: int) -> None:
        """Accept no more frames for this request."""
        self._inboxes.pop(number, None)

    async def write(self, data: bytes) -> None:
        """Send a frame. Raises `lost`."""
        try:
            await self._connection.write(data)
        except ConnectionClosed:
            await asyncio.wait({self._reader})
            if self.lost is not None:
                raise self.lost from None
            raise

    async def _read(self) -> None:
        try:
            while True:
                self._take(await self._connection.recv())
        except ConnectionClosed as error:
            self._end(lost(error, self._connection.given_up, self._address))
        except ProtocolError as error:
            reason = ProtocolError(f"{self._address}: {error}")
            self._end(reason if error.retryable else self._blamed(reason))
            await self._connection.hang_up(1002, str(error))
        finally:
            self._end(ConnectError(f"{self._address}: the connection is no longer read"))
            self._watcher.cancel()

    def _blamed(self, reason: StreamingQueueError) -> StreamingQueueError:
        """The error for a frame with too many values; not retryable if only one request is in flight."""
        return ProtocolError(str(reason), retryable=len(self._inboxes) != 1)

    def _take(self, data: str | bytes) -> None:
        frame, text = decode_answer(data)
        number = frame.get("id")
        inbox = self._inboxes.get(number) if type(number) is int else None
        if inbox is not None:
            inbox.put(frame, text_bytes(text))
        elif frame.get("type") == HEARTBEAT:
            self._hear(frame.get("ids"))
        elif type(number) is not int or not 0 < number <= self._last:
            raise ProtocolError("a frame belongs to no request")

    def _hear(self, numbers: object) -> None:
        for number in numbers if isinstance(numbers, list) else ():
            if type(number) is int and (inbox := self._inboxes.get(number)) is not None:
                inbox.heard()

    def _end(self, reason: StreamingQueueError) -> None:
        if self.lost is None:
            self.lost = reason
        for inbox in self._inboxes.values():
            inbox.fail(self.lost)

    async def _watch(self) -> None:
        with suppress(ConnectionClosed):
            await self._connection.watch()

    async def ended(self) -> None:
        """Wait for the end of the connection: within a second after its loss."""
        await asyncio.wait({self._reader, self._watcher})

    async def close(self, reason: StreamingQueueError) -> None:
        """Close the connection, within a second; the requests in flight fail for `reason`."""
        self._end(reason)
        await self._connection.hang_up()
        await self.ended()


def _request_limit(headers: Mapping[str, str]) -> int:
    """The largest request that the host accepts, from its handshake, in bytes."""
    value = headers.get(LIMIT_HEADER, "")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 16 else REQUEST_LIMIT
