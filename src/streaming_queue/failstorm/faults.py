"""Faults of a worker: they begin, last for a time, and end."""

from __future__ import annotations

import asyncio
import contextlib
import signal

from streaming_queue.errors import ConnectError
from streaming_queue.failstorm.plan import Fault
from streaming_queue.failstorm.workers import StormWorker
from streaming_queue.runner.processes import READY_S

SLOW_S = 0.4
"""Delay of a slow worker's answers, less than the timeout of its health probe."""
FLAP_S = 0.5
"""Time for which a flapping worker is away, and then back."""


async def inflict(fault: Fault, worker: StormWorker, duration_s: float) -> None:
    """Cause `fault` at the worker for `duration_s`. A killed worker is started again at once.

    A cancellation ends the fault too. Raises ConnectError if a killed worker does not come back.
    """
    if fault is Fault.kill:
        worker.signal(signal.SIGKILL)
        try:
            async with asyncio.timeout(READY_S):
                await worker.process.started_again()
        except TimeoutError:
            raise ConnectError(f"{worker.agent_id} was killed and did not come back within {READY_S:g} s") from None
    elif fault is Fault.stop:
        worker.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(duration_s)
        finally:
            worker.signal(signal.SIGCONT)
    else:
        await _inflict_on_network(fault, worker, duration_s)


async def _inflict_on_network(fault: Fault, worker: StormWorker, duration_s: float) -> None:
    relay = worker.relay
    if relay is None:
        raise RuntimeError(f"{worker.agent_id} has no relay, so its network cannot fail")
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(duration_s):
                if fault is Fault.blackhole:
                    relay.black_hole()
                elif fault is Fault.slow:
                    relay.delay(SLOW_S)
                while True:
                    if fault is Fault.flap:
                        await relay.refuse()
                    await asyncio.sleep(FLAP_S)
                    if fault is Fault.flap:
                        await relay.restore()
                        await asyncio.sleep(FLAP_S)
    finally:
        await relay.restore()
