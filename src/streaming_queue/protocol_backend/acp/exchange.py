"""One message, from its first request to its end, whatever becomes of the wire meanwhile.

A run that is known is come back to by its id; no message is sent twice, but one with an idempotency key to a host of
ours that has no such run: it never came there, or comes back to the same work.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import Any

import aiohttp

from streaming_queue.comm.client.http import is_broken
from streaming_queue.comm.client.lines import read_events
from streaming_queue.comm.client.liveness import LostReplyError, Watch
from streaming_queue.comm.client.reconnect import Reconnect
from streaming_queue.comm.context import heard
from streaming_queue.comm.context_headers import write_context, write_trace
from streaming_queue.comm.strict_json import read_answer
from streaming_queue.errors import ConnectError, ProtocolError
from streaming_queue.messages import MESSAGE, Reply, StreamEvent
from streaming_queue.protocol_backend.acp.codec import (
    EVENT_STREAM,
    JSON,
    RUN_ID,
    STREAM,
    SYNC,
    UNDER_WAY,
    encode_run_request,
    new_id,
    read_id,
)
from streaming_queue.protocol_backend.acp.failures import NotFoundError, decode_run
from streaming_queue.protocol_backend.acp.manifest import Manifest
from streaming_queue.protocol_backend.acp.peer import Peer
from streaming_queue.protocol_backend.acp.reading import LAST, Reading

SILENT_S = 20.0
"""How long a stranger's stream may be silent before its run is asked for; it need not send signs of life."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
READ_OUT_S = 0.1


class Exchange:
    """A message (`payload`) to `peer`, and what becomes of it. `run_id` is its run, where that is known."""

    def __init__(self, peer: Peer, manifest: Manifest, payload: Mapping[str, Any]) -> None:
        self.run_id: str | None = None
        self._peer = peer
        self._manifest = manifest
        self._payload = payload
        metadata = payload.get("metadata") or {}
        self._headers, self._rest = write_trace(metadata) if manifest.is_ours else write_context(metadata)
        self._may_return = manifest.is_ours and isinstance(metadata.get("idempotency_key"), str)
        self._reading = Reading(peer.address)

    async def answer(self) -> Reply:
        """The whole answer.

        A host of ours is asked in mode sync, which costs least: it names the run as we wish and shows signs of life.
        Of a stranger's the run is known from the beginning by a stream only. Raises like `decode_run` and `Peer.ask`.
        """
        if not self._manifest.is_ours:
            async with aclosing(self.events()) as events:
                async for _ in events:
                    pass
            return self._reading.answer()
        recovery = Reconnect(keyed=self._may_return, broken=is_broken)
        while True:
            with recovery:
                run = await self._come_back() or await self._begin()
                return decode_run(run, self._peer.address) or await self._awaited()

    async def events(self) -> AsyncGenerator[StreamEvent, None]:
        """What comes, as it comes, in mode stream; after a broken connection what is new. Raises like `answer`."""
        recovery = Reconnect(keyed=True, broken=self._may_go_on)
        while True:
            with recovery:
                known = await self._come_back() is not None
                async with aclosing(self._later() if known else self._stream()) as events:
                    async for event in events:
                        told = self._reading.take(event)
                        if told is not None:
                            yield told
                            if told["type"] == MESSAGE:
                                return
                raise ProtocolError(f"{self._peer.address}: the stream ended without an answer")

    def _may_go_on(self, error: BaseException) -> bool:
        """Whether a stream that broke is no loss: its run is known and goes on, or the message may come back."""
        lost = is_broken(error) or isinstance(error, LostReplyError)
        return lost and (self._may_return or (self.run_id is not None and not self._manifest.is_ours))

    def _request(self, mode: str) -> tuple[bytes, dict[str, str]]:
        body = encode_run_request(self._manifest.name, self._payload, self._rest, mode)
        accept = JSON if mode == SYNC else f"{EVENT_STREAM}, {JSON}"
        headers = {**self._headers, "Accept": accept}
        if self._manifest.is_ours:
            headers[RUN_ID] = self.run_id = new_id()
        return body, headers

    async def _begin(self) -> dict[str, Any]:
        body, headers = self._request(SYNC)
        async with await self._peer.request("POST", self._peer.runs, body, headers) as response:
            self._note(response.headers.get(RUN_ID))
            return await self._peer.read(response)

    def _note(self, run_id: str | None) -> None:
        self.run_id = read_id(run_id) or self.run_id

    async def _come_back(self) -> dict[str, Any] | None:
        """The run as it stands, None where there is none yet. Raises ConnectError where it is gone for good."""
        if self.run_id is None:
            return None
        try:
            return await self._peer.ask("GET", self._peer.runs / self.run_id)
        except NotFoundError as error:
            if self._may_return:
                self.run_id = None
                return None
            raise ConnectError(f"{self._peer.address}: the connection broke, and its run is not known there") from error

    async def _known(self) -> dict[str, Any]:
        """The run that was known a moment ago. Raises ConnectError where it is no more."""
        run = await self._come_back()
        if run is None:
            raise ConnectError(f"{self._peer.address}: it has forgotten the run that was under way")
        return run

    async def _awaited(self) -> Reply:
        """The reply of the run that is known, asked for until it is there."""
        pause_s = FIRST_PAUSE_S
        while True:
            if (reply := decode_run(await self._known(), self._peer.address)) is not None:
                return reply
            heard()
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _stream(self) -> AsyncGenerator[Any, None]:
        """The events of a run that is begun, but for those that were taken already."""
        body, headers = self._request(STREAM)
        skip = self._reading.seen
        watching = None if self._manifest.is_ours else Watch(self._is_at_work, SILENT_S, self._peer.address)
        try:
            async with await self._peer.request("POST", self._peer.runs, body, headers, watching) as response:
                self._note(response.headers.get(RUN_ID))
                if response.status != 200 or response.content_type != EVENT_STREAM:
                    yield await self._ended(await self._peer.read(response))
                    return
                tell = heard if watching is None else watching.heard
                async with aclosing(read_events(response, self._peer.address, tell)) as events:
                    async for data in events:
                        event = read_answer(data, self._peer.address)
                        if isinstance(event, dict) and event.get("type") in LAST:
                            await _read_out(events)
                        if skip == 0:
                            yield event
                        else:
                            skip -= 1
        finally:
            if watching is not None:
                await watching.aclose()

    async def _ended(self, run: dict[str, Any]) -> dict[str, Any]:
        """The end of a run that came as JSON from a host that does not stream."""
        self._note(run.get("run_id"))
        return _end_of(dict((await self._awaited())["raw"]) if run.get("status") in UNDER_WAY else run)

    async def _later(self) -> AsyncGenerator[Any, None]:
        """The events of the run that is known, asked for until they end, but for those that were taken already."""
        pause_s = FIRST_PAUSE_S
        ended: dict[str, Any] | None = None
        while True:
            document = await self._peer.ask("GET", self._peer.runs / str(self.run_id) / "events")
            events = document.get("events")
            if not isinstance(events, list):
                raise ProtocolError(f"{self._peer.address}: what it answers is no list of events")
            fresh = events[self._reading.seen :]
            for event in fresh:
                yield event
            if not fresh and ended is not None:
                yield _end_of(ended)
                return
            if not fresh and (run := await self._known()).get("status") not in UNDER_WAY:
                ended = run  # its last events may have come since the list was read
                continue
            heard()
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _is_at_work(self) -> bool | None:
        """Whether the run is under way; None where its id is not known."""
        if self.run_id is None:
            return None
        with self._peer.translated:
            run = await self._peer.ask("GET", self._peer.runs / self.run_id)
        return run.get("status") in UNDER_WAY


def _end_of(run: dict[str, Any]) -> dict[str, Any]:
    """The event that tells of a run as it stands."""
    return {"type": f"run.{run.get('status')}", "run": run}


async def _read_out(events: AsyncGenerator[bytes, None]) -> None:
    """Let a stream whose last event is there end by itself, so that its connection can be used again."""
    with suppress(TimeoutError, aiohttp.ClientError, OSError):
        async with asyncio.timeout(READ_OUT_S):
            async for _ in events:
                pass
