"""One message as an ACP run.

A known run is found again by its id. A message is sent twice only with an idempotency key, to a host of ours that does
not have the run: either the first message did not arrive, or the second one leads to the same work.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any

import aiohttp

from streaming_queue.comm.client.http import HttpExchange, is_broken
from streaming_queue.comm.client.lines import read_events
from streaming_queue.comm.client.liveness import LostReplyError, Watch
from streaming_queue.comm.context import heard
from streaming_queue.comm.context_headers import write_context, write_trace
from streaming_queue.comm.strict_json import read_answer
from streaming_queue.errors import ConnectError, ProtocolError
from streaming_queue.messages import Reply, StreamEvent
from streaming_queue.protocol_backend.acp.codec import (
    EVENT_STREAM,
    JSON,
    RUN_ID,
    STREAM,
    SYNC,
    UNDER_WAY,
    UnreadableError,
    encode_run_request,
    new_id,
    read_id,
)
from streaming_queue.protocol_backend.acp.failures import AwaitingError, NotFoundError, decode_run
from streaming_queue.protocol_backend.acp.peer import Peer
from streaming_queue.protocol_backend.acp.reading import LAST, Reading

SILENT_S = 20.0
"""After this silence, in seconds, in a foreign agent's stream we get its run: it need not send signs of life."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
READ_OUT_S = 0.1


class AcpExchange(HttpExchange[Peer]):
    """A message as a run; `run_id` is the run's id once it is known."""

    leaves = (AwaitingError,)
    run_id: str | None = None
    _name: str | None = None
    _is_ours = False

    async def _choose(self) -> None:
        """Read the manifest of the agent, once."""
        if self._name is None:
            manifest = await self.peer.manifest.get()
            self._name, self._is_ours = manifest.name, manifest.is_ours

    def resumes(self, error: Exception) -> bool:
        """Whether the connection broke and the work can be found: by the key at our hosts, by the run at others."""
        lost = is_broken(error) or isinstance(error, LostReplyError)
        return lost and (self.key if self._is_ours else self.run_id) is not None

    async def ask(self) -> Reply:
        """The whole answer; `raw` is the run as it completed.

        We ask a host of ours in mode sync, which costs least: it accepts our id for the run and sends signs of life.
        We ask a foreign agent in mode stream: only a stream sends the run's id at its beginning.
        """
        await self._choose()
        if not self._is_ours:
            return await super().ask()
        run = await self._come_back()
        if run is None:
            async with self._post(SYNC) as response:
                run = await self._begun(response)
        return decode_run(run, self.address) or await self._awaited()

    async def events(self) -> AsyncGenerator[StreamEvent, None]:
        """The events of the run, from the first."""
        await self._choose()
        reading = Reading(self.address)
        known = await self._come_back() is not None
        async with aclosing(self._later() if known else self._stream()) as events:
            async for event in events:
                try:
                    translated = reading.take(event)
                except UnreadableError as error:
                    raise ProtocolError(f"{self.address}: {error}") from error
                self.reply = reading.reply
                if translated is not None:
                    yield translated

    def _post(self, mode: str) -> Any:
        headers, rest = (write_trace if self._is_ours else write_context)(self.metadata)
        body = encode_run_request(str(self._name), self.payload, rest, mode)
        headers["Accept"] = JSON if mode == SYNC else f"{EVENT_STREAM}, {JSON}"
        if self._is_ours:
            headers[RUN_ID] = self.run_id = new_id()
        return self.peer.request("POST", self.peer.runs, body, headers)

    async def _begun(self, response: aiohttp.ClientResponse) -> dict[str, Any]:
        """The run in the response to the request that begins it."""
        self.run_id = read_id(response.headers.get(RUN_ID)) or self.run_id
        try:
            return await self.peer.read(response)
        except NotFoundError as error:
            raise self.peer.gone(error) from error

    async def _come_back(self) -> dict[str, Any] | None:
        """The current run; None if there is no run yet, or if the message may be sent again."""
        try:
            return None if self.run_id is None else await self.peer.ask("GET", self.peer.runs / self.run_id)
        except NotFoundError as error:
            if not (self._is_ours and self.key):
                raise ConnectError(
                    f"{self.address}: the connection broke, and the agent does not know its run"
                ) from error
            self.run_id = None
            return None

    async def _known(self, *path: str) -> dict[str, Any]:
        """The known run, or its events. Raises ConnectError if the agent has forgotten the run."""
        self.accepted = True
        try:
            return await self.peer.ask("GET", self.peer.runs.joinpath(str(self.run_id), *path))
        except NotFoundError as error:
            raise ConnectError(f"{self.address}: the agent has forgotten the run in flight") from error

    async def _awaited(self) -> Reply:
        """The reply of the known run, by polling."""
        pause_s = FIRST_PAUSE_S
        while (reply := decode_run(await self._known(), self.address)) is None:
            pause_s = await _pause(pause_s)
        return reply

    async def _stream(self) -> AsyncGenerator[Any, None]:
        """The events of a new run."""
        watching = None if self._is_ours else Watch(self._is_at_work, SILENT_S, self.address)
        try:
            opening = self._post(STREAM)
            async with await (opening if watching is None else watching.response(opening)) as response:
                self.run_id = read_id(response.headers.get(RUN_ID)) or self.run_id
                if response.status != 200 or response.content_type != EVENT_STREAM:
                    yield await self._ended(await self._begun(response))
                    return
                report_life = heard if watching is None else watching.heard
                async with aclosing(read_events(response, self.address, report_life)) as events:
                    async for data in events:
                        event = read_answer(data, self.address)
                        if isinstance(event, dict) and event.get("type") in LAST:
                            await _read_out(events)
                        yield event
        finally:
            if watching is not None:
                await watching.aclose()

    async def _ended(self, run: dict[str, Any]) -> dict[str, Any]:
        """The last event of a run that a host without streams sends as JSON."""
        self.run_id = read_id(run.get("run_id")) or self.run_id
        return _end_of(dict((await self._awaited())["raw"]) if run.get("status") in UNDER_WAY else run)

    async def _later(self) -> AsyncGenerator[Any, None]:
        """The events of the known run, by polling until they end."""
        pause_s, taken = FIRST_PAUSE_S, 0
        ended: dict[str, Any] | None = None
        while True:
            events = (await self._known("events")).get("events")
            if not isinstance(events, list):
                raise ProtocolError(f"{self.address}: the answer is not a list of events")
            fresh, taken = events[taken:], max(taken, len(events))
            for event in fresh:
                yield event
            if not fresh and ended is not None:
                yield _end_of(ended)
                return
            if not fresh and (run := await self._known()).get("status") not in UNDER_WAY:
                ended = run  # the last events may be newer than the list
                continue
            pause_s = await _pause(pause_s)

    async def _is_at_work(self) -> bool | None:
        """Whether the run is in flight; None if its id is not known."""
        if self.run_id is None:
            return None
        with self.peer.translated:
            run = await self.peer.ask("GET", self.peer.runs / self.run_id)
        return run.get("status") in UNDER_WAY

    @property
    def cancellable(self) -> bool:
        """Whether the run is known."""
        return self.run_id is not None

    async def cancel(self) -> None:
        """POST to the run's `/cancel`."""
        await self.peer.ask("POST", self.peer.runs / str(self.run_id) / "cancel")


def _end_of(run: dict[str, Any]) -> dict[str, Any]:
    """The event for the state of a run."""
    return {"type": f"run.{run.get('status')}", "run": run}


async def _pause(seconds: float) -> float:
    """Wait while a run is in flight; returns the next pause."""
    heard()
    await asyncio.sleep(seconds)
    return min(2 * seconds, LONGEST_PAUSE_S)


async def _read_out(events: AsyncGenerator[bytes, None]) -> None:
    """Read a stream to its end after its last event, so that its connection can be used again."""
    with suppress(TimeoutError, aiohttp.ClientError, OSError):
        async with asyncio.timeout(READ_OUT_S):
            async for _ in events:
                pass
