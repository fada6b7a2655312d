"""A listener must not block the event loop."""

from __future__ import annotations

import asyncio
import io

import pytest
from blockbuster import blockbuster_ctx
from unit.telemetry.runs import Terminal, answered, started

from streaming_queue.messages import Counts
from streaming_queue.telemetry import console
from streaming_queue.telemetry.console import Output
from streaming_queue.telemetry.events import IntakeFinished, Queued, RunFinished, Sent, WorkerDown


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
async def test_no_event_blocks(monkeypatch, stream):
    monkeypatch.setattr(console, "FRAME_S", 0.005)
    monkeypatch.setattr(console, "PLAIN_S", 0.005)
    output = Output(stdout=stream(), stderr=stream())
    await asyncio.to_thread(output.prepare)  # as a runner does
    with blockbuster_ctx():
        output(started())
        output(Queued(200, 0, 200))
        output(IntakeFinished(200, 0, 0))
        for number in range(200):
            output(Sent(f"q-{number}", "Worker-1", 1))
            output(answered(f"q-{number}"))
            if number % 10 == 0:
                output(WorkerDown("Worker-2", "reset"))
            await asyncio.sleep(0.0005)
        output(RunFinished("done", Counts(done=200), {"timings": {}}))
        output.close()
    assert output.progress_state.answered == 200
