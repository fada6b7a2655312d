"""Bringing faults about, and taking them away again."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from streaming_queue.errors import ConnectError
from streaming_queue.failstorm.plan import Fault
from streaming_queue.failstorm.workers import StormWorker
from streaming_queue.runner.processes import READY_S

if TYPE_CHECKING:
    from streaming_queue.testing.relay import Relay

SLOW_S = 0.4
"""How long a slow worker's answers are held back; less than its health probe has."""
FLAP_S = 0.5
"""How long a flapping worker is gone, and there again, each time."""


async def inflict(fault: Fault, worker: StormWorker, duration_s: float) -> float:
    """Have `fault` at the worker for `duration_s` (killed: until it is started again); the moment when it is over.

    It is taken away, too, when this is cancelled. Raises ConnectError where a killed worker does not come back.
    """
    await _FAULTS[fault](worker, duration_s)
    return time.monotonic()


async def _kill(worker: StormWorker, duration_s: float) -> None:
    del duration_s
    worker.signal(signal.SIGKILL)
    try:
        async with asyncio.timeout(READY_S):
            await worker.process.started_again()
    except TimeoutError:
        raise ConnectError(f"{worker.agent_id} was killed and did not come back within {READY_S:g} s") from None


async def _stop(worker: StormWorker, duration_s: float) -> None:
    worker.signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(duration_s)
    finally:
        worker.signal(signal.SIGCONT)


async def _black_hole(worker: StormWorker, duration_s: float) -> None:
    relay = _relay(worker)
    relay.black_hole()
    try:
        await asyncio.sleep(duration_s)
    finally:
        await relay.restore()


async def _slow(worker: StormWorker, duration_s: float) -> None:
    relay = _relay(worker)
    relay.delay(SLOW_S)
    try:
        await asyncio.sleep(duration_s)
    finally:
        await relay.restore()


async def _flap(worker: StormWorker, duration_s: float) -> None:
    relay = _relay(worker)
    try:
        async with asyncio.timeout(duration_s):
            while True:
                await relay.refuse()
                await asyncio.sleep(FLAP_S)
                await relay.restore()
                await asyncio.sleep(FLAP_S)
    except TimeoutError:
        pass
    finally:
        await relay.restore()


def _relay(worker: StormWorker) -> Relay:
    if worker.relay is None:
        raise RuntimeError(f"{worker.agent_id} has no relay before it, so its network cannot fail")
    return worker.relay


_FAULTS: Mapping[Fault, Callable[[StormWorker, float], Awaitable[None]]] = {
    Fault.kill: _kill,
    Fault.stop: _stop,
    Fault.blackhole: _black_hole,
    Fault.slow: _slow,
    Fault.flap: _flap,
}
