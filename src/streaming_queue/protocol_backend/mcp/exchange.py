"""One question: a call of the tool, its progress, and its cancel."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from streaming_queue.comm.client.exchange import Cancels, Exchange
from streaming_queue.comm.client.http import is_broken
from streaming_queue.comm.jsonrpc import is_response
from streaming_queue.errors import ConnectError, ProtocolError
from streaming_queue.messages import StreamEvent, answer_event
from streaming_queue.protocol_backend.mcp.codec import (
    question_text,
    read_end,
    read_progress,
    read_result,
    write_context,
)
from streaming_queue.protocol_backend.mcp.dialect import IDEMPOTENCY_KEY
from streaming_queue.protocol_backend.mcp.peer import Agreement, Peer
from streaming_queue.protocol_backend.mcp.session import LostSessionError, Request


class McpExchange(Exchange):
    """A call of the agreed tool. Raises ConfigError on a payload that is not text."""

    def __init__(self, peer: Peer, payload: Mapping[str, Any], cancels: Cancels) -> None:
        super().__init__(peer.link.address, payload, cancels)
        self._peer = peer
        self._question = question_text(payload)
        self._agreement: Agreement | None = None
        self._in_flight: Request | None = None

    async def events(self) -> AsyncGenerator[StreamEvent, None]:
        """The tool's progress, then its answer. Raises like the link, and like `read_end`."""
        agreement = self._agreement = await self._peer.agreement()
        session, tool = agreement.session, agreement.tool
        arguments = {**agreement.arguments, tool.argument: self._question}
        request = self._in_flight = session.request(
            "tools/call",
            {"name": tool.name, "arguments": arguments},
            meta=write_context(self.metadata),
            headers=tool.headers(arguments) if session.modern else None,
            progress=self.streaming or not session.ours,  # from foreign servers, progress is the only sign of life
        )
        async with aclosing(session.link.exchange(request)) as messages:
            async for message in messages:
                if is_response(message):
                    self._in_flight = None
                    self.reply = read_end(read_result(message, request.call_id, self.address), self.address)
                    yield answer_event(self.reply)
                elif message.get("method") == "notifications/progress":
                    event = read_progress(message.get("params"), request.call_id)
                    if event is not None:
                        yield event

    @property
    def _keyed(self) -> bool:
        """Whether the server can find the work again by its key."""
        return self.key is not None and self._agreement is not None and self._agreement.session.ours

    def resumes(self, error: Exception) -> bool:
        """Whether the connection broke and the server can find the call again, or a new session can take the call."""
        if self._keyed and isinstance(error, ConnectError) and is_broken(error.__cause__):
            return True
        if isinstance(error, LostSessionError | ConnectError | ProtocolError) and self._agreement is not None:
            self._peer.forget(self._agreement)
        return isinstance(error, LostSessionError)

    @property
    def cancellable(self) -> bool:
        """Whether the server may have the call and can cancel it; for others, closing the connection is the cancel."""
        return self._in_flight is not None and (self._keyed or self._peer.link.finds_requests)

    async def cancel(self) -> None:
        """Send a cancel with the call's id, and for one of our hosts with its key."""
        if self._agreement is not None and self._in_flight is not None:
            params: dict[str, Any] = {"requestId": self._in_flight.call_id}
            if self._keyed:
                params["_meta"] = {IDEMPOTENCY_KEY: self.key}
            await self._agreement.session.notify("notifications/cancelled", params)
