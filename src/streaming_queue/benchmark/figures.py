"""What one round of questions cost, and the middle of several rounds."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from streaming_queue.errors import StreamingQueueError


@dataclass(frozen=True, slots=True)
class Figures:
    """A round: the pace, and the CPU (user and system) in microseconds per question, here and at the workers.

    `workers_us` is None where it cannot be told from the rest.
    """

    questions_per_s: float
    coordinator_us: float
    workers_us: float | None


async def measure(work: Callable[[], Awaitable[object]], count: int, pids: Sequence[int] = ()) -> Figures:
    """The figures of `work`, which has `count` questions answered by the processes `pids` (none: by this one).

    Raises StreamingQueueError when one of the processes has ended.
    """
    here, there, started = time.process_time(), cpu_s(pids), time.perf_counter()
    await work()
    seconds = time.perf_counter() - started
    here, after = time.process_time() - here, cpu_s(pids)
    spent = None if there is None or after is None else (after - there) / count * 1e6
    return Figures(count / seconds, here / count * 1e6, spent)


def median(rounds: Sequence[Figures]) -> Figures:
    """Each figure's median over rounds."""
    workers = [each.workers_us for each in rounds if each.workers_us is not None]
    return Figures(
        statistics.median(each.questions_per_s for each in rounds),
        statistics.median(each.coordinator_us for each in rounds),
        statistics.median(workers) if workers else None,
    )


def cpu_s(pids: Sequence[int]) -> float | None:
    """Seconds of CPU that other processes have used, with all their threads; None for none, and where nobody tells.

    Linux has a clock for each process, exact to the nanosecond, whose number is made of the pid
    (clock_getcpuclockid(3)). Raises StreamingQueueError when a process has ended.
    """
    if not pids or sys.platform != "linux":
        return None
    try:
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)
    except OSError as error:
        raise StreamingQueueError("a worker ended while it was measured, so its figures are lost") from error


def family(pid: int) -> list[int]:
    """A process and all that it has started (a server of its own, say), as far as /proc tells. Blocks."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    members = [pid]
    for member in members:
        members += children.get(member, ())
    return members
