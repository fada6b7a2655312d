"""Follow the run of a coordinator in another process, by its stream and its status. The figures decide."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import aclosing, suppress
from typing import Any

from streaming_queue.comm.composite import backend_of
from streaming_queue.comm.context import CallContext, calling
from streaming_queue.core.network_base import RUNNER_ID, NetworkBase
from streaming_queue.core.status_text import figures_of
from streaming_queue.errors import CommError, ProtocolError, SendTimeoutError, StreamingQueueError
from streaming_queue.messages import MESSAGE, STATUS, Reply, ReplyMetadata
from streaming_queue.telemetry.console import Output

POLL_S = 1.0
BEGIN_POLL_S = 0.1
SHOW_S = 2.0
PATIENCE_S = 30.0
"""Longest time without contact to a coordinator."""


class RemoteCoordinator:
    """A coordinator in another process, controlled by commands."""

    def __init__(self, network: NetworkBase, coordinator_id: str, output: Output) -> None:
        self.summary: Mapping[str, Any] | None = None
        """The summary of the run, if the coordinator sent one."""
        self._network = network
        self._id = coordinator_id
        self._where = f"{coordinator_id} at {network.get_agents().get(coordinator_id)}"
        self._output = output
        self._shown = -SHOW_S

    async def command(self, text: str, **metadata: Any) -> Reply:
        """Send a command; a failure comes back as `error`."""
        with calling(CallContext(kind="command")):
            return await self._network.route_message(RUNNER_ID, self._id, {"text": text, "metadata": metadata})

    async def figures(self) -> ReplyMetadata:
        """The figures of its run (`QACoordinatorBase.figures`), from the metadata, else from the status line.

        Raises:
            ProtocolError: the status has no figures, so the end of the run is unknown here.
            StreamingQueueError: the status command failed.
        """
        reply = await self.command("status")
        if "error" in reply:
            raise reply["error"]
        figures = reply.get("metadata") or {}
        if "state" not in figures:
            figures = figures_of(reply["text"]) or {}
        if not figures:
            raise ProtocolError(
                f"{self._where} reported no figures with its status: "
                "the end of the run is unknown here; see the coordinator's own records",
                retryable=False,
            )
        return figures

    async def round_id(self) -> str | None:
        """The id of its last run; None if it has none, or reports none."""
        with suppress(ProtocolError):
            return (await self.figures()).get("round_id")
        return None

    async def begun(self) -> ReplyMetadata:
        """The figures when a dispatched run has its directory, or has failed without one.

        Raises like `figures`, and SendTimeoutError after 30 s.
        """
        until = time.monotonic() + PATIENCE_S
        while True:
            figures = await self.figures()
            if figures["state"] != "running" or figures.get("round_id") is not None:
                return figures
            if time.monotonic() > until:
                raise SendTimeoutError(f"{self._where}: its run did not start within {PATIENCE_S:g} s")
            await asyncio.sleep(BEGIN_POLL_S)

    async def follow(self, *, before: str | None = None, error: StreamingQueueError | None = None) -> ReplyMetadata:
        """The figures at the end of the run. Connections may break meanwhile.

        `error` is the error of the dispatch, `before` the last run before it. If that is still the last run, the
        dispatch started none, and its error is raised.

        Raises:
            ConnectError, SendTimeoutError: there was no contact for 30 s; the run may go on.
            ProtocolError: as `figures`, or the coordinator has no run.
        """
        served_until: float | None = None
        while True:
            figures = await self._figures_patiently()
            if figures["state"] == "idle" and served_until is not None and time.monotonic() < served_until:
                await asyncio.sleep(POLL_S)  # the coordinator was restarted and may go on with the run
                continue
            if figures["state"] == "idle" or (error is not None and figures.get("round_id") == before is not None):
                raise error or ProtocolError(f"{self._where} has no run (any more); `stq dispatch` starts one")
            if figures["state"] != "running":
                if self.summary is None and figures["state"] == "done":
                    self._keep_summary((await self.command("attach")).get("metadata"))
                return figures
            self._show(figures)
            began = time.monotonic()
            await self._listen()
            served_until = time.monotonic() + PATIENCE_S
            await asyncio.sleep(max(0.0, POLL_S - (time.monotonic() - began)))

    async def _listen(self) -> None:
        """Read the coordinator's stream until it ends or breaks. Only the figures decide."""
        if not backend_of(self._network.comm_backend, self._id).capabilities.streaming:
            return
        with calling(CallContext(kind="command")):
            async with aclosing(self._network.stream_message(RUNNER_ID, self._id, {"text": "attach"})) as events:
                async for event in events:
                    if event["type"] == STATUS:
                        self._show(event.get("metadata") or {})
                    elif event["type"] == MESSAGE:
                        self._keep_summary(event.get("metadata"))

    async def _figures_patiently(self) -> ReplyMetadata:
        until: float | None = None
        while True:
            try:
                return await self.figures()
            except CommError as error:
                if not error.retryable or (until is not None and time.monotonic() > until):
                    raise
                if until is None:
                    until = time.monotonic() + PATIENCE_S
                    self._output.warning(f"{error}; asking again for {PATIENCE_S:g} s; the run goes on")
                await asyncio.sleep(POLL_S)

    def _keep_summary(self, metadata: ReplyMetadata | None) -> None:
        summary = (metadata or {}).get("summary")
        if isinstance(summary, Mapping):
            self.summary = summary

    def _show(self, figures: ReplyMetadata) -> None:
        now = time.monotonic()
        if "done" in figures and now - self._shown >= SHOW_S:
            self._shown = now
            self._output.progress(
                f"{figures['done']:,} answered, {figures.get('failed', 0):,} failed of {figures.get('total', 0):,}"
            )
